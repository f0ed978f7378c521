"""Trained keys and values at every layer."""

from typing import Any, Literal

from pydantic import Field

from probes.specs.repairs.base import Builder, Repair


class PrefixSpec(Repair):
    """Trained keys and values at every layer.

    For the budget of a prompt of n, give n x width / (2 x layers x width of a layer's keys), at least 1: a slot holds
    as many numbers as 2 x layers soft tokens where every query head has its own key head.
    """

    kind: Literal["prefix"] = "prefix"
    length: int = Field(ge=1, title="Slots", examples=[1], description="number of slots at each layer")
    learning_rate: float = Field(gt=0, examples=[0.1])
    encoder_width: int | None = Field(
        default=None, ge=1, description="inner width of the perceptron that makes them while tuned; none unless given"
    )

    movable = True
    of_vectors = True
    sized_by = "length"

    @property
    def name(self) -> str:
        """As spoken: `prefix-2`, `prefix-2-mlp64`."""
        return f"prefix-{self.length}" + ("" if self.encoder_width is None else f"-mlp{self.encoder_width}")

    @property
    def prompt_lengths(self) -> tuple[int, ...]:
        """Its slots."""
        return (self.length,)

    def cells(self, build: Builder) -> dict[str, Any]:
        """One tuned thing."""
        return {"tuned0": build.tuned(self)}
