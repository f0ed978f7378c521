"""Banks of prompts as frozen values: how a bank is made, and what is made of it."""

from typing import Literal, Self

from pydantic import Field, model_validator

from probes.specs.repairs import LoraSpec
from probes.specs.spec import Spec

BankKind = Literal["seeds", "relations", "clusters", "diverse", "texts", "files", "planted"]
DIVIDING: tuple[BankKind, ...] = ("relations", "clusters", "planted")
"""Banks whose prompts are each tuned on other things, so that a question can be near to one of them."""
SelectorKind = Literal[
    "attention",
    "random",
    "fixed",
    "likelihood",
    "entropy",
    "margin",
    "key",
    "cluster",
    "router",
    "oracle",
    "mixture",
]
UNREPORTED: tuple[SelectorKind, ...] = ("oracle",)
"""Selectors that look at an answer: a bound on what a choice could give, and no repair."""
ROWLESS: tuple[SelectorKind, ...] = ("oracle", "mixture")
"""Selectors that keep no prompt for an arbitrary text: one knows questions alone, the other keeps all."""
RouterStates = Literal["first", "last"]


class BankSpec(Spec):
    """A bank of prompts, however they are used.

    For the budget of one prompt of n, let the lengths sum to n. With an adapter the sizes add up, and so do the steps:
    the adapter is tuned first, by itself, and every prompt then over the adapted model. One adapter serves the whole
    bank, whose prompts are each tuned alone, so it has to be there before them.
    """

    lengths: tuple[int, ...] = Field(default=(), description="length of each prompt of the bank; none for texts")
    learning_rate: float | None = Field(default=None, gt=0, description="of every prompt; none for texts")
    bank: BankKind = "seeds"
    candidates: int | None = Field(default=None, description="diverse: prompts tuned before the alike are dropped")
    texts: tuple[str, ...] = Field(default=(), description="texts: what the prompts say, word for word")
    files: tuple[str, ...] = Field(default=(), description="files: safetensors with one prompt or several, in order")
    adapter: LoraSpec | None = Field(default=None, description="low-rank additions under the bank, tuned before it")

    @model_validator(mode="after")
    def _check_bank(self) -> Self:
        for kind, held in (("texts", self.texts), ("files", self.files)):
            if held and self.bank != kind:
                raise ValueError(f"{kind}: only a bank of {kind} has them; set bank: {kind} or leave them out")
        if self.bank == "texts":
            self._check_texts()
        elif self.bank == "files":
            self._check_files()
        elif len(self.lengths) < 2 or self.learning_rate is None:
            raise ValueError(f"a bank of {self.bank} is tuned: give two lengths or more and a learning_rate")
        elif min(self.lengths) < 1:
            raise ValueError("a prompt of length 0 is no prompt: give lengths of 1 or more")
        if (self.bank == "diverse") != (self.candidates is not None):
            raise ValueError("candidates: how many prompts a diverse bank is picked from; for no other bank")
        if self.candidates is not None and (self.candidates <= len(self.lengths) or len(set(self.lengths)) > 1):
            raise ValueError("a diverse bank picks prompts of one length from more candidates than it keeps")
        return self

    def _check_texts(self) -> None:
        """A bank of texts is what it says, untuned."""
        if len(self.texts) < 2 or not all(text.strip() for text in self.texts):
            raise ValueError("a bank of texts needs two texts or more, none empty")
        if self.lengths or self.learning_rate is not None:
            raise ValueError("a bank of texts is not tuned: leave lengths and learning_rate out")

    def _check_files(self) -> None:
        """A bank of files was made elsewhere."""
        if not self.files:
            raise ValueError("a bank of files needs files: paths of safetensors with prompts")
        if self.lengths or self.learning_rate is not None:
            raise ValueError("a bank of files is not tuned here: leave lengths and learning_rate out")

    @property
    def tuned(self) -> bool:
        """Whether its prompts are tuned here."""
        return self.bank not in ("texts", "files")

    @property
    def parts(self) -> int:
        """How many things are tuned for it, its adapter among them."""
        return len(self.made) + (self.adapter is not None)

    @property
    def made(self) -> tuple[int, ...]:
        """Length of every prompt that is tuned for this bank, kept or not."""
        return self.lengths if self.candidates is None else self.lengths[:1] * self.candidates

    def spoken(self, first: str, *last: str) -> str:
        """The bank with words before and behind it: `FIRST-3x8-relations-LAST`, and the adapter it stands on."""
        same = len(set(self.lengths)) == 1
        shape = f"{len(self.lengths)}x{self.lengths[0]}" if same else ",".join(map(str, self.lengths))
        source = [] if self.bank == "seeds" else [self.bank]
        under = [] if self.adapter is None else ["on", self.adapter.name]
        if not self.tuned:
            shape = str(len(self.texts) or len(self.files))
        return "-".join([first, shape, *source, *last, *under])


class IdpSpec(BankSpec):
    """A bank of prompts of which one is kept per input."""

    kind: Literal["idp"] = "idp"
    selector: SelectorKind = "attention"
    layers: Literal["first", "all"] | tuple[int, ...] = "first"
    heads: tuple[int, ...] | None = None
    queries: Literal["all", "last"] = "all"
    per_token: bool = True
    softmax: Literal["joint", "separate"] = "joint"
    states: RouterStates = Field(default="first", description="router: hidden states that are averaged")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.selector == "cluster" and self.bank not in DIVIDING:
            raise ValueError("selector cluster: needs prompts tuned on different texts: bank relations or clusters")
        return self

    @property
    def name(self) -> str:
        """As spoken: `idp-3x8-attention`, `idp-4,16-router` where lengths differ, `idp-4x8-relations-random`.

        With an adapter: `idp-3x8-attention-on-lora-r4`.
        """
        return self.spoken("idp", self.selector, *self._settings)

    @property
    def drawn_as(self) -> str:
        """A bank alone, or one over an adapter."""
        return self.kind if self.adapter is None else "idp+lora"

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


class EnsembleSpec(BankSpec):
    """A bank of prompts that are all asked, and the mean of their log-probabilities taken: no prompt is chosen.

    It carries what its bank carries, and every answer costs one pass per prompt.
    """

    kind: Literal["ensemble"] = "ensemble"

    @property
    def name(self) -> str:
        """As spoken: `ensemble-3x8`, `ensemble-2-texts`."""
        return self.spoken("ensemble")

    @property
    def drawn_as(self) -> str:
        """A bank alone, or one over an adapter."""
        return self.kind if self.adapter is None else "idp+lora"

    @property
    def idp(self) -> IdpSpec:
        """The same bank as an IDP that keeps every prompt: its prompts are the same cells."""
        return IdpSpec(**{name: getattr(self, name) for name in BankSpec.model_fields}, selector="mixture")
