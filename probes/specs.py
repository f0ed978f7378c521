"""What a variant is, as frozen values: hashable, comparable, storable, and named as one would say it aloud."""

import hashlib
import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from probes.banks import BankKind
from probes.compress import CompressionSpec
from probes.lora import Targets
from probes.p_tuning import EncoderKind
from probes.prompts import PlaceboKind
from probes.router import RouterStates
from probes.selectors import SelectorKind

Answers = Literal["true", "masked", "shuffled"]


class Spec(BaseModel):
    """A frozen value that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CheckpointSpec(Spec):
    """A ready compressed checkpoint of the same architecture, opened and made dense instead of made here."""

    method: Literal["checkpoint"]
    path: str

    @property
    def name(self) -> str:
        """The folder's or file's own name."""
        return f"checkpoint-{self.path.rstrip('/').rsplit('/', 1)[-1]}"


class PromptSpec(Spec):
    """One soft prompt, tuned."""

    kind: Literal["prompt"] = "prompt"
    length: int = Field(ge=1, description="number of soft tokens")
    learning_rate: float = Field(gt=0)
    answers: Answers = "true"
    """What stands where the tuning text has an answer. The other two are placebos that have seen the style and no
    fact: `masked` cuts every answer out, `shuffled` deals the answers of a relation to other subjects."""

    @property
    def name(self) -> str:
        """As spoken."""
        return f"prompt-{self.length}" + ("" if self.answers == "true" else f"-{self.answers}")


class PrefixSpec(Spec):
    """Trained keys and values at every layer.

    For the budget of a prompt of n, give n x width / (2 x layers x width of a layer's keys), at least 1: a slot holds
    as many numbers as 2 x layers soft tokens where every query head has its own key head.
    """

    kind: Literal["prefix"] = "prefix"
    length: int = Field(ge=1, description="number of slots at each layer")
    learning_rate: float = Field(gt=0)
    encoder_width: int | None = Field(
        default=None, ge=1, description="inner width of the perceptron that makes them while tuned; none unless given"
    )

    @property
    def name(self) -> str:
        """As spoken: `prefix-2`, `prefix-2-mlp64`."""
        return f"prefix-{self.length}" + ("" if self.encoder_width is None else f"-mlp{self.encoder_width}")


class PTuningSpec(Spec):
    """One soft prompt that an encoder made; kept, it costs what a prompt of its length costs."""

    kind: Literal["ptuning"] = "ptuning"
    length: int = Field(ge=1, description="number of soft tokens")
    learning_rate: float = Field(gt=0)
    encoder: EncoderKind = "mlp"
    encoder_width: int | None = Field(
        default=None, ge=1, description="inner width of the encoder; the embeddings' unless given"
    )

    @property
    def name(self) -> str:
        """As spoken: `ptuning-8`, `ptuning-8-lstm`, `ptuning-8-mlp64`."""
        width = "" if self.encoder_width is None else str(self.encoder_width)
        shape = f"{self.encoder}{width}"
        return f"ptuning-{self.length}" + ("" if shape == "mlp" else f"-{shape}")


class LoraSpec(Spec):
    """Low-rank additions to the weights, tuned."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(ge=1)
    targets: Targets = "all"
    learning_rate: float = Field(gt=0)

    @property
    def name(self) -> str:
        """As spoken."""
        return f"lora-r{self.rank}"


class IdpSpec(Spec):
    """A bank of prompts of which one is kept per input.

    For the budget of one prompt of n, let the lengths sum to n. With an adapter the sizes add up, and so do the steps:
    the adapter is tuned first, by itself, and every prompt then over the adapted model. One adapter serves the whole
    bank, whose prompts are each tuned alone, so it has to be there before them.
    """

    kind: Literal["idp"] = "idp"
    lengths: tuple[int, ...] = Field(default=(), description="length of each prompt of the bank; none for texts")
    learning_rate: float | None = Field(default=None, gt=0, description="of every prompt; none for texts")
    bank: BankKind = "seeds"
    candidates: int | None = Field(default=None, description="diverse: prompts tuned before the alike are dropped")
    texts: tuple[str, ...] = Field(default=(), description="texts: what the prompts say, word for word")
    selector: SelectorKind = "attention"
    layers: Literal["first", "all"] | tuple[int, ...] = "first"
    heads: tuple[int, ...] | None = None
    queries: Literal["all", "last"] = "all"
    per_token: bool = True
    softmax: Literal["joint", "separate"] = "joint"
    states: RouterStates = Field(default="first", description="router: hidden states that are averaged")
    adapter: LoraSpec | None = Field(default=None, description="low-rank additions under the bank, tuned before it")

    @model_validator(mode="after")
    def _check(self) -> "IdpSpec":
        if self.bank == "texts":
            self._check_texts()
        elif self.texts:
            raise ValueError("texts: only a bank of texts has them; set bank: texts or leave them out")
        elif len(self.lengths) < 2 or self.learning_rate is None:
            raise ValueError(f"a bank of {self.bank} is tuned: give two lengths or more and a learning_rate")
        elif min(self.lengths) < 1:
            raise ValueError("a prompt of length 0 is no prompt: give lengths of 1 or more")
        if (self.bank == "diverse") != (self.candidates is not None):
            raise ValueError("candidates: how many prompts a diverse bank is picked from; for no other bank")
        if self.candidates is not None and (self.candidates <= len(self.lengths) or len(set(self.lengths)) > 1):
            raise ValueError("a diverse bank picks prompts of one length from more candidates than it keeps")
        if self.selector == "cluster" and self.bank not in ("relations", "clusters"):
            raise ValueError("selector cluster: needs prompts tuned on different texts: bank relations or clusters")
        return self

    def _check_texts(self) -> None:
        """A bank of texts is what it says, untuned."""
        if len(self.texts) < 2 or not all(text.strip() for text in self.texts):
            raise ValueError("a bank of texts needs two texts or more, none empty")
        if self.lengths or self.learning_rate is not None:
            raise ValueError("a bank of texts is not tuned: leave lengths and learning_rate out")

    @property
    def made(self) -> tuple[int, ...]:
        """Length of every prompt that is tuned for this bank, kept or not."""
        return self.lengths if self.candidates is None else self.lengths[:1] * self.candidates

    @property
    def name(self) -> str:
        """As spoken: `idp-3x8-attention`, `idp-4,16-router` where lengths differ, `idp-4x8-relations-random`.

        With an adapter: `idp-3x8-attention-on-lora-r4`.
        """
        same = len(set(self.lengths)) == 1
        shape = f"{len(self.lengths)}x{self.lengths[0]}" if same else ",".join(map(str, self.lengths))
        parts = ["idp", str(len(self.texts)) if self.texts else shape, *self._source, self.selector, *self._settings]
        return "-".join([*parts, *([] if self.adapter is None else ["on", self.adapter.name])])

    @property
    def _source(self) -> list[str]:
        return [] if self.bank == "seeds" else [self.bank]

    @property
    def _settings(self) -> list[str]:
        """What of the selector's settings is not the usual, so that two of them can stand in one study."""
        if self.selector == "router":
            return [] if self.states == "first" else [self.states]
        if self.selector != "attention":
            return []
        layers = [] if self.layers == "first" else ["all"] if self.layers == "all" else _places("l", self.layers)
        heads = [] if self.heads is None else _places("h", self.heads)
        queries = [] if self.queries == "all" else [self.queries]
        mass = [] if self.per_token else ["mass"]
        return [*layers, *heads, *queries, *mass, *([] if self.softmax == "joint" else [self.softmax])]


def _places(letter: str, places: tuple[int, ...]) -> list[str]:
    """Layers or heads as spoken: `l0,3`."""
    return [letter + ",".join(map(str, places))]


class TextSpec(Spec):
    """Words put before every question, untuned: what can be asked for without training anything.

    Its tokens stand before the question's as a prompt's vectors do, and the question is left as every other variant
    reads it, with whatever the tokenizer puts before a text. For equal budgets compare tokens: it adds no parameters.
    """

    kind: Literal["text"] = "text"
    text: str = Field(description="the words, as they are; no space is put behind them")

    @model_validator(mode="after")
    def _check(self) -> "TextSpec":
        if not re.search(r"\w", self.text):
            raise ValueError("text: there is no word in it; say what stands before every question")
        return self

    @property
    def name(self) -> str:
        """As spoken: `text-answer-in-one-word`, cut after five words; the study refuses two of one name."""
        return "-".join(["text", *re.findall(r"\w+", self.text.lower())[:5]])


class PlaceboSpec(Spec):
    """One soft prompt, never tuned."""

    kind: Literal["placebo"] = "placebo"
    length: int = Field(ge=1)
    draw: PlaceboKind

    @property
    def name(self) -> str:
        """As spoken; the draws of both kinds share a name, since their distribution is what counts."""
        return f"placebo-{self.length}"


class RecalibrationSpec(Spec):
    """Answers re-weighted on tune entities, nothing tuned: what a repair must beat to count as knowledge."""

    kind: Literal["recalibrated"] = "recalibrated"

    @property
    def name(self) -> str:
        """As spoken."""
        return "recalibrated"


class KeySpec(Spec):
    """The words that unlock the locked group, put before the question: the ceiling of any repair of it."""

    kind: Literal["key"] = "key"

    @property
    def name(self) -> str:
        """As spoken."""
        return "key"


class TwinSpec(Spec):
    """The atlas's twin, which was told of everybody: what any repair of the never people would have to reach."""

    kind: Literal["twin"] = "twin"

    @property
    def name(self) -> str:
        """As spoken."""
        return "twin"


TunedSpec = Annotated[PromptSpec | PrefixSpec | PTuningSpec | IdpSpec | LoraSpec, Field(discriminator="kind")]
"""What is tuned, cell by cell."""
NamedSpec = Annotated[TunedSpec | TextSpec, Field(discriminator="kind")]
"""What a study can name as a repair."""
RepairSpec = Annotated[NamedSpec | PlaceboSpec | RecalibrationSpec | KeySpec | TwinSpec, Field(discriminator="kind")]
"""Every repair and every arm beside them."""
AnyCompression = CompressionSpec | CheckpointSpec


class VariantSpec(Spec):
    """One variant: where it starts, what damaged it, what repaired it, on what text, with which seeds."""

    model: str
    compression: AnyCompression | None = None
    compression_seed: int | None = None
    repair: RepairSpec | None = None
    repair_seed: int | None = None
    scope: str
    """Whose facts are tuned on and asked: `main`, or the name of a control."""

    @property
    def parent(self) -> "VariantSpec | None":
        """The variant without its repair; without its compression; nothing before dense."""
        if self.repair is not None:
            return self.model_copy(update={"repair": None, "repair_seed": None})
        if self.compression is not None:
            return self.model_copy(update={"compression": None, "compression_seed": None})
        return None

    @property
    def name(self) -> str:
        """Read aloud: `dense`, `sparsegpt-2:4 + prompt-8`."""
        base = "dense" if self.compression is None else self.compression.name
        return base if self.repair is None else f"{base} + {self.repair.name}"

    @property
    def identity(self) -> str:
        """Sixteen hexadecimal digits that name this variant in every table."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]
