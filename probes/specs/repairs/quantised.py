"""A tuned prompt or prefix kept in few bits."""

from typing import Literal

from pydantic import Field

from probes.specs.repairs.small import SmallRepair


class QuantisedSpec(SmallRepair):
    """A tuned prompt or prefix kept in few bits: one scale and one minimum a vector."""

    kind: Literal["quantised"] = "quantised"
    bits: Literal[2, 4, 8] = Field(examples=[4], description="bits of each number")

    @property
    def name(self) -> str:
        """As spoken: `prompt-8-4bit`."""
        return f"{self.of.name}-{self.bits}bit"
