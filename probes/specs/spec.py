"""The base of every value of a study: frozen, and strict about its keys."""

from pydantic import BaseModel, ConfigDict, Field


class Spec(BaseModel):
    """A frozen value that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def drawn_as(self) -> str:
        """What a repair counts as in figures: its kind, where it says nothing else."""
        return str(getattr(self, "kind", ""))


class SteppedSpec(Spec):
    """What may be tuned for other steps than the study's."""

    steps: int | None = Field(default=None, ge=1, description="tuning steps; those of the study unless given")

    @property
    def _ending(self) -> str:
        """The end of the name of a repair that has steps of its own."""
        return "" if self.steps is None else f"-{self.steps}steps"
