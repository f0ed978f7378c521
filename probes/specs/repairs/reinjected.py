"""What compression took from the weights, put back from the dense ones."""

from typing import Any, Literal

from pydantic import Field

from probes.specs.repairs.base import Builder, Repair


class ReinjectionSpec(Repair):
    """What compression took from the weights, put back from the dense ones as far as a rank goes: a control.

    It adds what a LoRA of this rank over all layers adds, hence is to be compared with that one.
    """

    kind: Literal["reinjected"] = "reinjected"
    rank: int = Field(ge=1, examples=[4])

    from_dense = True
    mergeable = True

    @property
    def name(self) -> str:
        """As spoken."""
        return f"reinjected-r{self.rank}"

    @property
    def unreported(self) -> str:
        """What it gives back was never in the copy."""
        return "is computed from the dense weights: a control, no evidence"

    @property
    def before_content(self) -> bool:
        """No: it stands in the weights."""
        return False

    def cells(self, build: Builder) -> dict[str, Any]:
        """Computed from two sets of weights: no text, no facts and no seed shape it."""
        return {"tuned0": build.from_weights(self)}
