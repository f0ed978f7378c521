"""The base of every value of a study: frozen, and strict about its keys."""

from pydantic import BaseModel, ConfigDict, Field


class Spec(BaseModel):
    """A frozen value that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def drawn_as(self) -> str:
        """What a repair counts as in figures: its kind, where it says nothing else."""
        return str(getattr(self, "kind", ""))

    @property
    def bound(self) -> bool:
        """Whether a repair looks at the answers to what is asked, so that it is never reported."""
        return False

    @property
    def readable(self) -> bool:
        """Whether one model reads what a repair made row by row, so that its inside can be read."""
        return True


class SteppedSpec(Spec):
    """What may be tuned for other steps than the study's."""

    steps: int | None = Field(default=None, ge=1, description="tuning steps; those of the study unless given")

    @property
    def _ending(self) -> str:
        """The end of the name of a repair that has steps of its own."""
        return "" if self.steps is None else f"-{self.steps}steps"
