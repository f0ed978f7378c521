"""A cell: one unit of work of a study, known by its content; and a plan, all cells of a study in order.

A cell's key hashes its own description, the keys of the cells it needs, the code that computes it and sets its
surroundings, and the versions of the libraries, so that nothing that shapes a number can change without the key.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

from analysis.code_keys import code_hash, named_by
from analysis.store import content_key, versions

if TYPE_CHECKING:  # a worker is handed cells alone; of a study it would import every library before the first
    from analysis.study import Study

Kind = Literal["compressed", "tuned", "scored", "drift", "lens", "probed", "intervened", "examples", "tasks"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def computed_with(module: str, fields: dict[str, Any]) -> dict[str, Any]:
    """What a cell's numbers come from beside what it reads: code of its kind and repairs, the worker's, the libraries.

    Args:
        module: whose `work` computes the cell.
        fields: its description, which names its repairs.
    """
    return {
        "code": code_hash((module,), named_by(fields)),
        "surroundings": code_hash(("analysis.surroundings",)),
        "versions": versions(),
    }


@dataclass(frozen=True)
class Cell:
    """One unit of work: what it computes (`fields`, JSON-able) and whose results it reads (`needs`)."""

    kind: Kind
    label: str
    fields: dict[str, Any]
    needs: dict[str, "Cell"] = field(default_factory=dict)

    @property
    def module(self) -> str:
        """The module whose `work` computes it."""
        return f"analysis.work_{self.kind}"

    @cached_property
    def description(self) -> dict[str, Any]:
        """Everything that shapes the result."""
        return {
            "kind": self.kind,
            "fields": self.fields,
            "needs": {role: cell.key for role, cell in self.needs.items()},
            **computed_with(self.module, self.fields),
        }

    @cached_property
    def key(self) -> str:
        """The content key."""
        return content_key(self.description)


@dataclass(frozen=True)
class Plan:
    """All cells of a study, in an order in which each comes after what it needs."""

    study: "Study"
    cells: tuple[Cell, ...]

    def of(self, kind: Kind) -> tuple[Cell, ...]:
        """Cells of one kind."""
        return tuple(cell for cell in self.cells if cell.kind == kind)
