"""A study's file as it is written, with what `--set` changes in it, and where what is wrong with it stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from data.errors import InputError
from data.paths import shown
from data.user_files import read_text
from data.user_yaml import Document, read_document

_OF_WORDS = ("string_type", "literal_error", "tuple_type", "list_type")
"""Complaints of a value that should have been a word, or words."""


def complaint(error: ValidationError) -> str:
    """The first complaint as one sentence, with where it was found."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key '{where}': remove it or mend its spelling"
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


@dataclass(frozen=True)
class StudyFile:
    """Keys and values of a study, not yet checked."""

    stored: dict[str, Any]
    file: Document
    told: Mapping[tuple[str, ...], Document]
    """What every `--set` says, by the place it stands at."""

    @classmethod
    def read(cls, path: Path, changes: Sequence[str]) -> "StudyFile":
        """Read a file and apply `key=value` changes (dotted keys, YAML values).

        Raises:
            InputError: it is no YAML of keys and values, or a change leads to no field or stands twice.
        """
        file = read_document(read_text(path, "study"), f"study '{path}'")
        if not isinstance(file.value, dict):
            raise InputError(f"study '{path}' must hold keys and values")
        return cls(file.value, file, _apply(file.value, changes))

    def fault(self, error: ValidationError) -> str:
        """The first complaint as one sentence, with where it was found, and what YAML made of a bare word there."""
        first = error.errors(include_url=False)[0]
        return complaint(error) + (self._misread(first["loc"]) if first["type"] in _OF_WORDS else "")

    def _misread(self, place: tuple[int | str, ...]) -> str:
        """What YAML made of the bare word at a place, as the end of a sentence; empty where it made nothing of it."""
        change = next((one for one in self.told if tuple(map(str, place))[: len(one)] == one), None)
        document = self.file if change is None else self.told[change]
        path = place if change is None else place[len(change) :]
        said = document.misread(path)
        begins = f"line {document.line(path)}" if change is None else f"--set {'.'.join(change)}"
        return f"; {begins}: {said}" if said else ""


def _apply(stored: dict[str, Any], changes: Sequence[str]) -> dict[tuple[str, ...], Document]:
    """Apply changes; what each says by the place it stands at.

    Raises:
        InputError: one leads to no field, or says anew what another has said.
    """
    told: dict[tuple[str, ...], Document] = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise InputError(f"--set {change}: write key=value")
        path = tuple(key.split("."))
        among = _among(stored, path, change)
        said_within = path[-1] in among and any(path[: len(one)] == one for one in told)
        if said_within or any(one[: len(path)] == path for one in told):
            raise InputError(f"--set {shown(change)}: another --set says '{key}' too: keep one")
        told[path] = read_document(value, f"--set {shown(change)}: the value")
        among[path[-1]] = told[path].value
    return told


def _among(stored: dict[str, Any], path: Sequence[str], change: str) -> dict[str, Any]:
    """The keys and values among which the last of a dotted key stands."""
    place = stored
    for parent in path[:-1]:
        place = place.setdefault(parent, {}) if isinstance(place, dict) else place
    if not isinstance(place, dict):
        raise InputError(f"--set {change}: '{'.'.join(path)}' does not lead to a field")
    return place
