"""What a variant is: where it starts, what damaged it and what repaired it, named as one would say it aloud."""

import hashlib
from typing import Annotated, Literal

from pydantic import Field

from probes.specs.banks import EnsembleSpec, IdpSpec
from probes.specs.compression import AnyCompression
from probes.specs.controls import KeySpec, PlaceboSpec, RecalibrationSpec, TwinSpec
from probes.specs.repairs import (
    FolderSpec,
    LoraSpec,
    PrefixSpec,
    PromptSpec,
    PTuningSpec,
    ReinjectionSpec,
    SmallSpec,
    TextSpec,
)
from probes.specs.spec import Spec

TunedSpec = Annotated[PromptSpec | PrefixSpec | PTuningSpec | IdpSpec | LoraSpec, Field(discriminator="kind")]
"""What is tuned, cell by cell."""
NamedSpec = Annotated[
    TunedSpec | EnsembleSpec | TextSpec | ReinjectionSpec | FolderSpec | SmallSpec, Field(discriminator="kind")
]
"""What a study can name as a repair."""
MovableSpec = Annotated[PromptSpec | PrefixSpec | PTuningSpec | LoraSpec, Field(discriminator="kind")]
"""What is one tuned thing, so that it can be put on another copy than the one it was tuned on."""


class TransferredSpec(Spec):
    """A repair that was tuned elsewhere: on another compression, or on other things than the study's repairs read.

    Xu et al. (arXiv 2305.11186) claim that prompts carry over between compressions, data and tasks.
    """

    kind: Literal["transferred"] = "transferred"
    of: MovableSpec
    source: AnyCompression | None
    """The compression it was tuned on; None for the dense model."""
    read: Literal["all", "text"] | tuple[str, ...] = "all"
    """What it was tuned on: what the study's repairs read, running text alone, or facts of these relations alone."""

    @property
    def readable(self) -> bool:
        """No: of what is moved answers alone are asked."""
        return False

    @property
    def name(self) -> str:
        """As spoken: `prompt-8-from-gptq-3bit`, `prompt-8-from-dense-read-text`."""
        source = "dense" if self.source is None else self.source.name
        read = self.read if isinstance(self.read, str) else ",".join(self.read)
        return f"{self.of.name}-from-{source}" + ("" if read == "all" else f"-read-{read}")

    @property
    def drawn_as(self) -> str:
        """What was tuned elsewhere."""
        return self.of.drawn_as


RepairSpec = Annotated[
    NamedSpec | PlaceboSpec | RecalibrationSpec | KeySpec | TwinSpec | TransferredSpec, Field(discriminator="kind")
]
"""Every repair and every arm beside them."""


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
