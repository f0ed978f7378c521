"""What is known of a metric of drift or attention without computing it; loads neither torch nor numpy."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

STATES = ("resid_pre", "attn_out", "mlp_out", "resid_post")
PATTERN = ("pattern",)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What of a metric shapes its numbers: a cell is told this, and keyed by it."""

    name: str
    """As stored: in the column `metric` of the tables `drift` and `attention`."""
    module: str
    """Whose `REDUCER` computes it; one module may compute several metrics."""
    sites: tuple[str, ...] = STATES
    """Kinds of site that it is measured at; at `PATTERN` it is a number per head."""
    references: tuple[str, ...] = ()
    """References that it needs together, stored under the first; empty: each reference by itself."""

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Measured":
        """A metric as a cell's description holds it."""
        lists = {name: tuple(stored[name]) for name in ("sites", "references")}
        return cls(name=stored["name"], module=stored["module"], **lists)

    def stored(self) -> dict[str, Any]:
        """What a cell's description holds of it."""
        told = asdict(self)
        return {one.name: told[one.name] for one in fields(Measured)}


@dataclass(frozen=True, kw_only=True)
class Metric(Measured):
    """A metric with what is said of it on pages, in figures and of its noise."""

    words: str
    unit: str
    group: str
    """What a study names in `drift.metrics` to have it measured."""
    level: bool = False
    """It is of the variant alone, as a share of attention is: its floor is the dense model's own level."""
    signed: bool = False
    """It may lie below zero."""
    floor: float | None = 1e-5
    """By how much it may find the same model in float32 to differ from itself; None where no floor can be."""

    @property
    def is_distance(self) -> bool:
        """Whether it says how far from a reference a variant lies, rather than its own level or which way it moved."""
        return not self.level and not self.references
