"""Low-rank additions to the weights, tuned."""

from typing import Literal

from pydantic import Field

from probes.specs.repairs.base import SteppedRepair

Targets = Literal["attention", "all"]


class LoraSpec(SteppedRepair):
    """Low-rank additions to the weights, tuned."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(ge=1, examples=[4])
    targets: Targets = Field(default="all", title="Targets", description="layers it is added to")
    learning_rate: float = Field(gt=0, examples=[0.01])

    mergeable = True
    sized_by = "rank"

    @property
    def name(self) -> str:
        """As spoken: `lora-r8`, `lora-r8-120steps`."""
        return f"lora-r{self.rank}{self._ending}"

    @property
    def before_content(self) -> bool:
        """No: it stands in the weights."""
        return False
