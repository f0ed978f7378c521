"""What a variant is: where it starts, what damaged it and what repaired it, named as one would say it aloud."""

import hashlib
import json
from typing import Any

from probes.specs.compression import AnyCompression
from probes.specs.repairs.base import AnyRepair
from probes.specs.spec import Spec


class VariantSpec(Spec):
    """One variant: where it starts, what damaged it, what repaired it, on what text, with which seeds."""

    model: str
    compression: AnyCompression | None = None
    compression_seed: int | None = None
    repair: AnyRepair | None = None
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


def spec_of(stored: dict[str, Any]) -> VariantSpec:
    """A variant's spec from its JSON form."""
    return VariantSpec.model_validate_json(json.dumps(stored))
