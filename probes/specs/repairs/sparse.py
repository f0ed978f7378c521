"""A tuned prompt or prefix of which the largest numbers are kept."""

from typing import Literal

from pydantic import Field

from probes.specs.repairs.small import SmallRepair


class SparseSpec(SmallRepair):
    """A tuned prompt or prefix of which the largest numbers are kept and the others are zero."""

    kind: Literal["sparse"] = "sparse"
    sparsity: float = Field(gt=0, lt=1, examples=[0.5], description="share of its numbers that are zero")

    @property
    def name(self) -> str:
        """As spoken: `prompt-8-sparse-50%`."""
        return f"{self.of.name}-sparse-{self.sparsity * 100:g}%"
