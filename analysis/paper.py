"""The figures of a run for a paper, by name: those that it has the tables for, and why the others are left out.

A figure whose table a run has not, or has empty, is left out with its reason; none is ever drawn without data.
"""

import hashlib
import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from analysis.figures.figure import Figure
from analysis.figures.registry import figure_of, figures
from analysis.figures.source import Source
from analysis.look import looks_of
from data.errors import InputError

LONGEST = 200
"""Bytes of a file's name, less what is put before and behind it."""


def figure_names(text: str) -> tuple[str, ...]:
    """Names of figures from a list with commas.

    Raises:
        InputError: there is no figure of that name.
    """
    return tuple(figure_of(one.strip()).name for one in text.split(",") if one.strip())


@dataclass(frozen=True)
class Named:
    """One figure of a run, ready to be written."""

    name: str
    figure: Figure
    wide: bool
    """Whether it takes the whole width of the text, not a single column."""


def _columns(figure: Figure) -> int:
    """How many panels stand side by side."""
    return len({axis.domain for axis in figure.figure.select_xaxes()})


def drawn(source: Source, names: Sequence[str] = ()) -> tuple[list[Named], dict[str, str]]:
    """Every figure that the run has the tables for, and why the others are left out; looks are those of the run."""
    with looks_of(source.every_variant()):
        return _drawn(source, names)


def _drawn(source: Source, names: Sequence[str]) -> tuple[list[Named], dict[str, str]]:
    found: list[Named] = []
    left_out: dict[str, str] = {}
    for one in figures():
        if names and one.name not in names:
            continue
        before = len(found)
        try:
            source.require(one.tables)
            for suffix, figure in one.draw(source):
                wide = not (one.narrow and _columns(figure) == 1)
                name = untaken(file_name(one.name, suffix), {other.name for other in found})
                found.append(Named(name, figure, wide))
        except InputError as error:
            left_out[one.name] = str(error).removeprefix(f"run '{source.run.name}': ")
        else:
            if len(found) == before:
                left_out[one.name] = "its table has nothing of this run's own groups and variants"
    return found, left_out


def file_name(name: str, suffix: str) -> str:
    """A name that is safe in every file system and in LaTeX: letters, figures, hyphens, and not too many of them."""
    whole = f"{name}-{suffix}" if suffix else name
    kept = "".join(letter if letter.isalnum() else "-" for letter in whole.lower())
    joined = "-".join(part for part in kept.split("-") if part)
    if len(joined.encode()) <= LONGEST:
        return joined
    digits = hashlib.sha256(whole.encode()).hexdigest()[:6]
    return f"{joined.encode()[: LONGEST - 7].decode(errors='ignore')}-{digits}"


def untaken(name: str, taken: Collection[str]) -> str:
    """A name for a file, with a number where another has it: what tells two suffixes apart may be no letter."""
    numbers = (f"{name}-{number}" for number in itertools.count(2))
    return name if name not in taken else next(one for one in numbers if one not in taken)
