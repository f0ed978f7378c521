"""What is found of a study before a weight is read, as plain values: one result for every command, the form and a run.

`doctor --json`, `run --dry-run --json` and the form show the same one, and a run keeps it in `resolved.json`. What it
says in sentences it says here alone. No library that computes is loaded: the form reads it too.
"""

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict

from analysis.amounts import spoken_bytes


class _Value(BaseModel):
    """A frozen value that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelFound(_Value):
    """A model as its small files, or the study's `shape`, describe it."""

    name: str
    """As the study calls it."""
    family: str
    parameters: int
    dtype: str
    """In which it is read."""
    source: Literal["configuration", "shape"]
    """Where its sizes come from: its files, or the study, as they are not on this machine."""


class CellFound(_Value):
    """One cell of the plan."""

    kind: str
    label: str
    seconds: float
    """What it takes on one worker, to a factor of three."""
    bytes: int
    """What its worker holds at most, to a factor of two."""


class Detectable(_Value):
    """The smallest effect that a scope could show."""

    scope: str
    subjects: int
    """Subjects of its test facts."""
    difference: float
    """Smallest paired difference in accuracy that is found with power 0.8."""

    @property
    def sentence(self) -> str:
        """As it is printed."""
        return (
            f"{self.scope}: {self.subjects} test subjects; a paired accuracy difference of {self.difference:.3f} is "
            "found with power 0.8"
        )


class Left(_Value):
    """What is still to be computed, and by how many workers of this machine."""

    cells: tuple[int, ...]
    """Places among the cells of the plan."""
    workers: int


class Resolution(_Value):
    """What is found of a study, or of a model alone; where it is refused, that and nothing else."""

    study: str = ""
    """As it calls itself; empty where a model alone is looked at, or the study cannot be read."""
    model: ModelFound | None = None
    read_beside: tuple[str, ...] = ()
    """What of the model's files is read beside the weights and a plain configuration, as sentences."""
    notes: tuple[str, ...] = ()
    """What must be said wherever numbers of this study stand: of its model's file, its questions and its tasks."""
    cells: tuple[CellFound, ...] = ()
    detectable: tuple[Detectable, ...] = ()
    left: Left | None = None
    """None in a finished run."""
    refused: str | None = None
    """What is wrong, where, and what to do, in one line."""

    @property
    def as_json(self) -> str:
        """As it is printed and stored."""
        return self.model_dump_json(indent=1)

    @property
    def note(self) -> str:
        """The notes in one line; empty where there are none."""
        return "; ".join(self.notes)

    @property
    def finished(self) -> int:
        """How many cells are computed already."""
        return 0 if self.left is None else len(self.cells) - len(self.left.cells)

    @property
    def minutes(self) -> float:
        """What is left, on this machine."""
        if self.left is None:
            return 0.0
        return sum(self.cells[place].seconds for place in self.left.cells) / self.left.workers / 60

    @property
    def kept(self) -> "Resolution":
        """What a run keeps of it: the same for everybody who runs the study."""
        return self.model_copy(update={"left": None})

    @property
    def lines(self) -> Iterator[str]:
        """All of it, as a dry run prints it."""
        if self.study:
            yield f"{self.study}: {len(self.cells)} cells, {self.finished} of them cached"
        if self.model is not None:
            where = {"configuration": "its configuration"}.get(
                self.model.source, "the study's shape, as its files are not on this machine"
            )
            yield f"{self.model.name}: {self.model.parameters:,} parameters in {self.model.dtype}, by {where}"
        yield from self.notes
        if self.read_beside:
            yield from ("read beside the weights:", *(f"  {one}" for one in self.read_beside))
        if self.left is not None:
            yield from self._costs(self.left)
        yield from (one.sentence for one in self.detectable)
        if self.left is not None:
            left = set(self.left.cells)
            yield ""
            for place, cell in enumerate(self.cells):
                yield f"  {'todo' if place in left else 'done'}  {cell.kind:<11} {cell.label}"

    def _costs(self, left: Left) -> Iterator[str]:
        """A line for each kind of cell, and one for all."""
        todo = [self.cells[place] for place in left.cells]
        for kind in dict.fromkeys(cell.kind for cell in self.cells):
            of_kind = [cell.bytes for cell in self.cells if cell.kind == kind]
            seconds = sum(cell.seconds for cell in todo if cell.kind == kind) / left.workers
            yield (
                f"  {kind:<11} {len(of_kind):>4}   about {seconds:>6.0f} s left on {left.workers} workers, "
                f"{spoken_bytes(max(of_kind))} each"
            )
        yield f"about {self.minutes:.1f} minutes in all (to a factor of three; memory to a factor of two)"
