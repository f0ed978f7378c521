"""Where results live: cells under a key made of everything that shapes them, written whole or not at all.

A cell's `cell.json` holds its description, whose hash is the cell's own name, and a checksum of every other file: a
flipped bit, a cut or missing file anywhere in the folder is found when a process reads the cell for the first time.
"""

import contextlib
import errno
import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from data.errors import InputError

SCHEMA = 2
"""Form of runs and cells; what is of another form is refused by its number, and made anew by running its study."""
CELL = "cell.json"
SCHEMA_KEY, CHECKSUMS = "schema", "checksums"
"""What a cell's file holds beside its description."""
LIBRARIES = (
    *("torch", "transformers", "tokenizers", "transformer-lens", "nnsight", "llmcompressor", "compressed-tensors"),
    *("peft", "numpy", "scipy", "pandas", "statsmodels", "accelerate", "gguf", "safetensors", "datasets"),
)


@cache
def versions() -> dict[str, str]:
    """Versions of the libraries that compute, and of Python, whose patches change no number."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {name: importlib.metadata.version(name) for name in LIBRARIES} | {"python": python}


def content_key(description: dict[str, Any]) -> str:
    """Twenty-four hexadecimal digits of a JSON-able description."""
    canonical = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Store:
    """The cells of a runs folder, shared by all its runs: equal work is done once."""

    root: Path

    @property
    def cells(self) -> Path:
        """Folder of all cells."""
        return self.root / "cells"

    def folder(self, key: str) -> Path:
        """Where a finished cell is, or would be."""
        return self.cells / key

    @property
    def failures(self) -> Path:
        """Folder of what went wrong, for whoever wants to know more than a line."""
        return self.root / "failures"

    def failure(self, key: str) -> Path:
        """Where the trace of a cell that failed is."""
        return self.failures / f"{key}.txt"

    def done(self, key: str) -> bool:
        """Whether a cell is finished: its folder appears only when everything in it is written."""
        return (self.folder(key) / CELL).is_file()

    def damage(self, key: str) -> str | None:
        """What is wrong with a finished cell's files, read once per process unless written since; None: nothing."""
        folder = self.folder(key)
        stamps = _stamps(folder)  # taken before the files are read: what is written meanwhile is seen the next time
        if _WHOLE.get(folder) != stamps:
            if found := _damage(folder, key):
                return found
            _WHOLE[folder] = stamps
        return None

    def forget(self, keys: Iterable[str]) -> None:
        """Drop cells, finished or left without their description, so that they are computed anew."""
        for key in keys:
            _WHOLE.pop(self.folder(key), None)
            # Out of its place in one step: killed while it deletes, it leaves a draft and no half of a cell.
            gone = self.cells / f".{key}.{uuid.uuid4().hex[:8]}"
            with contextlib.suppress(FileNotFoundError):
                self.folder(key).rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def clear_drafts(self, key: str) -> None:
        """Remove what killed writers of a cell left half done; for the one who holds the cell's lock."""
        for draft in self.cells.glob(f".{key}.*"):
            shutil.rmtree(draft, ignore_errors=True)

    @contextlib.contextmanager
    def writing(self, key: str, description: dict[str, Any]) -> Iterator[Path]:
        """A folder to fill; it takes its place under the key in one step, or vanishes after an error."""
        self.cells.mkdir(parents=True, exist_ok=True)
        draft = self.cells / f".{key}.{uuid.uuid4().hex[:8]}"
        draft.mkdir()  # whoever may read the runs folder may read its cells: a folder for one's own eyes would not do
        try:
            yield draft
            stored = description | {SCHEMA_KEY: SCHEMA, CHECKSUMS: checksums(draft)}
            (draft / CELL).write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            try:
                draft.rename(self.folder(key))
            except OSError:
                # Another run on this folder finished the same cell first; equal keys mean equal contents.
                if not self.done(key):
                    self.forget([key])  # a folder that lost its description is no cell, and stood in the way
                    draft.rename(self.folder(key))
        finally:
            shutil.rmtree(draft, ignore_errors=True)


Written: TypeAlias = tuple[int, int, int]
_WHOLE: dict[Path, dict[str, Written]] = {}
"""Cells whose files this process has compared with their checksums, and what those files were then."""


def written(path: Path) -> Written:
    """What changes when a file is written."""
    told = path.stat()
    return told.st_mtime_ns, told.st_size, told.st_ino


def _stamps(folder: Path) -> dict[str, Written]:
    """What changes when any file below a folder is written, by its path there; what cannot be reached is left out."""
    found = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            found[str(path.relative_to(folder))] = written(path)
    return found


def names_in(cell: Path) -> frozenset[str]:
    """The files that a finished cell was written with: what others put beside them is not read."""
    return frozenset(json.loads((cell / CELL).read_text(encoding="utf-8"))[CHECKSUMS])


def schema_fault(stored: dict[str, Any]) -> str | None:
    """Why this version does not read what a manifest or a cell's file holds; None where it does."""
    found = stored.get(SCHEMA_KEY, "none")
    return None if found == SCHEMA else f"schema {found}, and this version reads schema {SCHEMA}"


def described(stored: dict[str, Any]) -> dict[str, Any]:
    """A cell's description as its file holds it: what its key is made of."""
    return {name: value for name, value in stored.items() if name not in (SCHEMA_KEY, CHECKSUMS)}


def sha_of(path: Path) -> str:
    """Checksum of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksums(folder: Path) -> dict[str, str]:
    """Checksum of every file below a folder by its path there; a cell's description is left out."""
    files = (path for path in folder.rglob("*") if path.is_file() and path != folder / CELL)
    return {str(path.relative_to(folder)): sha_of(path) for path in sorted(files)}


def _damage(folder: Path, key: str) -> str | None:
    """How a cell's folder differs from what was written into it."""
    try:
        stored = json.loads((folder / CELL).read_text(encoding="utf-8"))
        if fault := schema_fault(stored):
            return fault
        if content_key(described(stored)) != key:
            return f"{CELL} is not what its key says"
        return differing(stored[CHECKSUMS], checksums(folder))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:  # brackets without end
        return f"it cannot be read ({type(error).__name__})"


def differing(expected: dict[str, str], found: dict[str, str]) -> str | None:
    """The first file that is missing or changed; what others put there is not read."""
    for name in sorted(expected):
        if name not in found:
            return f"{name} is missing"
        if expected[name] != found[name]:
            return f"{name} is not what was written"
    return None


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


def storage_fault(error: BaseException, root: Path) -> str | None:
    """Why results cannot be written, where that is what an error says; libraries wrap the system's own words."""
    number = getattr(error, "errno", None)
    for code in (*FULL, errno.EROFS):
        if number == code or os.strerror(code) in str(error) or f"os error {code}" in str(error):
            return os.strerror(code)
    name = getattr(error, "filename", None)
    below = isinstance(name, str | Path) and Path(name).resolve().is_relative_to(root.resolve())
    return os.strerror(number) if below and number in READ_ONLY else None


@contextlib.contextmanager
def telling_storage(root: Path) -> Iterator[None]:
    """Turn a full disk or a folder that became read-only into a sentence.

    Raises:
        InputError: results cannot be written; what is finished stays.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if fault := storage_fault(error, root):
            raise InputError(no_room(root, fault)) from None
        raise


def no_room(root: Path, fault: str) -> str:
    """What a user reads where results cannot be written."""
    return f"'{root}' cannot be written to ({fault}): make room, or name another with --out; finished cells are kept"


def open_root(out: Path) -> Path:
    """The runs folder, made if need be, proved writable before any work.

    Raises:
        InputError: it cannot be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise InputError(
            f"output folder '{out}' cannot be written to ({error.strerror}): name another with --out"
        ) from None
    return out


def write_atomically(path: Path, text: str) -> None:
    """Write a text file in one step."""
    with atomically(path) as draft:
        draft.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """A file to write beside the path, which takes its place in one step, or vanishes after an error."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
