"""What a variant is, as frozen values: hashable, comparable, storable, and named as one would say it aloud."""

import hashlib
from typing import Annotated, Literal

from pydantic import Field

from probes.bank_specs import BankSpec, EnsembleSpec, IdpSpec
from probes.compress import CompressionSpec
from probes.repair_specs import (
    Answers,
    FolderSpec,
    KeySpec,
    LoraSpec,
    PlaceboSpec,
    PrefixSpec,
    PromptSpec,
    PTuningSpec,
    RecalibrationSpec,
    ReinjectionSpec,
    Spec,
    TextSpec,
    TwinSpec,
)

__all__ = [
    "Answers",
    "BankSpec",
    "CheckpointSpec",
    "EnsembleSpec",
    "FolderSpec",
    "IdpSpec",
    "KeySpec",
    "LoraSpec",
    "PTuningSpec",
    "PlaceboSpec",
    "PrefixSpec",
    "PromptSpec",
    "RecalibrationSpec",
    "ReinjectionSpec",
    "Spec",
    "TextSpec",
    "TwinSpec",
    "VariantSpec",
]


class CheckpointSpec(Spec):
    """A ready compressed checkpoint of the same architecture, opened and made dense instead of made here."""

    method: Literal["checkpoint"]
    path: str

    @property
    def name(self) -> str:
        """The folder's or file's own name."""
        return f"checkpoint-{self.path.rstrip('/').rsplit('/', 1)[-1]}"


TunedSpec = Annotated[PromptSpec | PrefixSpec | PTuningSpec | IdpSpec | LoraSpec, Field(discriminator="kind")]
"""What is tuned, cell by cell."""
NamedSpec = Annotated[TunedSpec | EnsembleSpec | TextSpec | ReinjectionSpec | FolderSpec, Field(discriminator="kind")]
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
