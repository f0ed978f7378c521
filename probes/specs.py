"""What a variant is, as frozen values: hashable, comparable, storable, and named as one would say it aloud."""

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from probes.compress import CompressionSpec
from probes.lora import Targets
from probes.prompts import PlaceboKind

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


class IdpSpec(Spec):
    """A bank of tuned prompts of which one is kept per input."""

    kind: Literal["idp"] = "idp"
    lengths: tuple[int, ...] = Field(min_length=2, description="length of each prompt of the bank")
    learning_rate: float = Field(gt=0)
    layers: Literal["first", "all"] = "first"
    queries: Literal["all", "last"] = "all"
    per_token: bool = True

    @model_validator(mode="after")
    def _check(self) -> "IdpSpec":
        if min(self.lengths) < 1:
            raise ValueError("a prompt of length 0 is no prompt: give lengths of 1 or more")
        return self

    @property
    def name(self) -> str:
        """As spoken: `idp-3x8-attention`, or `idp-4,16-attention` where lengths differ."""
        same = len(set(self.lengths)) == 1
        shape = f"{len(self.lengths)}x{self.lengths[0]}" if same else ",".join(map(str, self.lengths))
        return f"idp-{shape}-attention"


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


TunedSpec = Annotated[PromptSpec | IdpSpec | LoraSpec, Field(discriminator="kind")]
RepairSpec = Annotated[
    PromptSpec | IdpSpec | LoraSpec | PlaceboSpec | RecalibrationSpec | KeySpec | TwinSpec, Field(discriminator="kind")
]
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
