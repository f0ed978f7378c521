"""What is made smaller from a tuned prompt or prefix (`probes/small_prompts.py`)."""

from typing import Any

from pydantic import Field

from probes.specs.repairs.base import Builder, Repair, VectorRepair


class SmallRepair(Repair):
    """Made from the repair it names, which is tuned once, whether that stands in the study or not."""

    of: VectorRepair = Field(
        examples=[{"kind": "prompt", "length": 8, "learning_rate": 0.03}], description="what it is made from"
    )

    @property
    def drawn_as(self) -> str:
        """What it is made from."""
        return self.of.drawn_as

    @property
    def prompt_lengths(self) -> tuple[int, ...]:
        """Of what it is made from."""
        return self.of.prompt_lengths

    def cells(self, build: Builder) -> dict[str, Any]:
        """Made from a tuned prompt or prefix, which is the same cell as where it stands by itself."""
        return {"tuned0": build.from_tuned(self, build.tuned(self.of))}
