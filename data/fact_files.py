"""A user's files of facts and of their phrasings, as they are written: every name in the form in which it is kept.

What they mean together is checked where they are put together (`data/facts.py`).
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.names import Named, canonical, invisible, plain_text, read_name
from data.user_files import read_text
from data.user_yaml import Document, read_document

COLUMNS = ("relation", "subject", "answer")
PHRASINGS = ("tune", "damage", "measure")
SAME_CASE = "same_case"
"""Beside the relations of a file of phrasings: whether names that differ in case alone are one name."""


@dataclass(frozen=True)
class Row:
    """A fact and where it stands."""

    file: str
    line: int
    relation: str
    subject: str
    answer: str

    @property
    def place(self) -> str:
        """As a sentence about it begins."""
        return f"{self.file}, line {self.line}"

    def named(self, column: str) -> Named:
        """The name in one of its columns."""
        return Named(getattr(self, column), self.file, self.line)


@dataclass(frozen=True)
class Entry:
    """What a file says of one relation."""

    name: Named
    tune: tuple[str, ...]
    damage: str
    measure: str


@dataclass(frozen=True)
class PhrasingFile:
    """Relations by name, and what is said of names that differ in case alone."""

    file: str
    entries: Mapping[str, Entry]
    same_case: bool | None


def read_rows(path: Path, relation: str | None = None) -> list[Row]:
    """The facts of a CSV file that must have exactly its columns and no empty cell.

    Args:
        path: The file.
        relation: What all of it is about, where the file has no column that says so.

    Raises:
        InputError: naming the line and what to mend.
    """
    columns = COLUMNS if relation is None else COLUMNS[1:]
    reader = csv.reader(io.StringIO(read_text(path, "file of facts"), newline=""), strict=True)
    try:
        header = next(reader, [])
        if header != list(columns):
            raise InputError(f"{path}: the header must be {','.join(columns)}, not {','.join(header)}")
        rows = [_row(path, line, columns, cells, relation) for line, cells in _lines(reader) if cells]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not readable as CSV ({error})") from None
    if not rows:
        raise InputError(f"{path}: holds no facts")
    return rows


def _lines(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line that each begins in: a cell may hold line ends."""
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return


def _row(path: Path, line: int, columns: Sequence[str], cells: Sequence[str], relation: str | None) -> Row:
    place = f"{path}, line {line}"
    if len(cells) > len(columns):
        raise InputError(f"{place}: more cells than {', '.join(columns)}: put quotes around a cell with a comma")
    if len(cells) < len(columns) or not all(map(canonical, cells)):
        raise InputError(f"{place}: every row needs {', '.join(columns)}: fill it in")
    names = [read_name(cell, f"{place}: the {column}") for column, cell in zip(columns, cells, strict=True)]
    return Row(str(path), line, *([] if relation is None else [relation]), *names)


def read_phrasings(path: Path) -> PhrasingFile:
    """How the relations are asked, from a YAML file.

    Raises:
        InputError: naming the line and what to mend.
    """
    if not path.is_file():
        raise InputError(f"{path}: the phrasings of the facts are missing; see data/facts/README.md for their shape")
    document = read_document(read_text(path, "file of phrasings"), str(path))
    if not isinstance(document.value, dict):
        raise InputError(f"{path}: not a file of phrasings: it must hold relations, each with {', '.join(PHRASINGS)}")
    same_case = document.value.get(SAME_CASE)
    if SAME_CASE in document.value and not isinstance(same_case, bool):
        raise InputError(f"{document.place([SAME_CASE])}: {SAME_CASE} is true or false, and no relation is called so")
    entries = [_entry(document, name) for name in document.value if name != SAME_CASE]
    return PhrasingFile(str(path), {one.name.name: one for one in entries}, same_case)


def _entry(document: Document, name: str) -> Entry:
    """What stands under one relation."""
    stored, place = document.value[name], document.place([name])
    line = document.line([name])
    kept = read_name(name, f"{place}: the relation")
    if not isinstance(stored, dict) or not isinstance(stored.get("tune", []), list):
        raise InputError(
            f"{place}: not a file of phrasings: relation '{kept}' needs tune (a list of two or more), damage, measure"
        )
    if unknown := sorted(set(stored) - set(PHRASINGS)):
        raise InputError(
            f"{document.place([name, unknown[0]])}: unknown key '{unknown[0]}' under '{kept}': remove it or mend its "
            f"spelling; a relation has {', '.join(PHRASINGS)}"
        )
    if lacking := [one for one in PHRASINGS if one not in stored]:
        raise InputError(f"{place}: not a file of phrasings: relation '{kept}' lacks {', '.join(lacking)}: add it")
    tune = tuple(_phrasing(document, [name, "tune", index]) for index in range(len(stored["tune"])))
    damage, measure = (_phrasing(document, [name, kind]) for kind in ("damage", "measure"))
    return Entry(Named(kept, document.where, line), tune, damage, measure)


def _phrasing(document: Document, path: Sequence[str | int]) -> str:
    """One phrasing: text in NFC with plain spaces."""
    stored = document.value
    for step in path:
        stored = stored[step]
    if not isinstance(stored, str):
        why = document.misread(path) or "a phrasing must be text"
        raise InputError(f"{document.place(path)}: not a file of phrasings: {why}")
    text = plain_text(stored)
    if fault := invisible(text):
        raise InputError(f"{document.place(path)}: a phrasing holds the invisible character {fault}: take it out")
    return text
