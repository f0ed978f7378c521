"""Where results live: cells under a key made of everything that shapes them, written whole or not at all."""

import ast
import contextlib
import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from data.errors import InputError

SCHEMA = 1
ROOT = Path(__file__).parent.parent
PACKAGES = ("data", "probes", "analysis")
LIBRARIES = ("torch", "transformers", "transformer-lens", "llmcompressor", "peft", "numpy", "scipy", "pandas")


@cache
def versions() -> dict[str, str]:
    """Versions of the libraries that compute."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


@cache
def code_hash(module: str) -> str:
    """Hash of a module of ours and of every module of ours that it imports, directly or not."""
    digest = hashlib.sha256()
    for name in sorted(_closure(module)):
        digest.update(name.encode())
        digest.update(_source(name).read_bytes())
    return digest.hexdigest()


def _source(module: str) -> Path:
    """The file of one of our modules."""
    path = ROOT.joinpath(*module.split("."))
    # A folder of the same name beside a module is not the module, as data/facts is not data/facts.py.
    package = path / "__init__.py"
    return package if package.is_file() else path.with_suffix(".py")


@cache
def _imports(module: str) -> frozenset[str]:
    """Our modules that this one names in an import, wherever it stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(_source(module).read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found |= {name for name in names if name.split(".")[0] in PACKAGES and _source(name).is_file()}
    return frozenset(found | {package for name in found for package in _packages(name)})


def _packages(module: str) -> list[str]:
    """The packages that a module lies in: their `__init__` runs before it does."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _closure(module: str) -> set[str]:
    """A module and everything of ours that it reaches."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += _imports(name)
    return seen


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

    def done(self, key: str) -> bool:
        """Whether a cell is finished: its folder appears only when everything in it is written."""
        return (self.folder(key) / "cell.json").is_file()

    def forget(self, keys: Iterable[str]) -> None:
        """Drop finished cells, so that they are computed anew."""
        for key in keys:
            shutil.rmtree(self.folder(key), ignore_errors=True)

    @contextlib.contextmanager
    def writing(self, key: str, description: dict[str, Any]) -> Iterator[Path]:
        """A folder to fill; it takes its place under the key in one step, or vanishes after an error."""
        self.cells.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=self.cells))
        try:
            yield draft
            (draft / "cell.json").write_text(json.dumps(description, indent=1, sort_keys=True) + "\n")
            try:
                draft.rename(self.folder(key))
            except OSError:
                # Another run on this folder finished the same cell first; equal keys mean equal contents.
                if not self.done(key):
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)


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
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
