"""What a figure of a run is, before it is drawn."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from analysis.figures.figure import Figure
from analysis.figures.source import Source

Drawn = Iterator[tuple[str, Figure]]
"""Figures of one name, each with a suffix that says what it is of."""


def nothing(run: Path) -> list[Path]:
    """No file."""
    return []


@dataclass(frozen=True, kw_only=True)
class RunFigure:
    """A figure by name: a run may have several of it, each with a suffix."""

    name: str
    question: str
    """What it answers, in one sentence."""
    draw: Callable[[Source], Drawn]
    """Raises InputError where the run has nothing of it, with the reason."""
    tables: tuple[str, ...] = ()
    """Tables without which it cannot be drawn."""
    also: tuple[str, ...] = ()
    """Tables that it draws too where the study filled them."""
    beside: Callable[[Path], list[Path]] = nothing
    """Files that it reads besides tables and verdict: they may be written anew while the run stays as it is."""
    each: str = ""
    """What it makes a file for; empty: it makes one."""
    narrow: bool = False
    """Whether one of its figures fits a single column of text where it has one column of panels."""
    in_report: bool = False
    """Whether a reader of the verdict wants it first: `report.html` carries these."""
