"""The variants of a finished run as its stored cells describe them: nothing is planned anew, whatever the code is now.

A run's manifest names its cells; each cell's description says what it is and which cells it needs.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.run_files import read_manifest
from analysis.store import CELL, Store, content_key, described, schema_fault
from data.errors import InputError
from probes.specs.variants import VariantSpec, spec_of


@dataclass(frozen=True)
class Parts:
    """What a variant is made from: the fields of its scored cell, what it is, and the folders it needs."""

    fields: dict[str, Any]
    spec: VariantSpec
    needs: dict[str, Path]


def stored_parts(run: Path) -> Iterator[Parts]:
    """What every variant of a finished run is made from; those whose cell is gone are left out.

    Raises:
        InputError: a cell's description is not what was written, or is of a form that this version does not read.
    """
    store = Store(run.parent)
    for key in read_manifest(run)["cells"]:
        if not store.done(key):
            continue
        cell = _read_cell(run, store, key)
        if cell["kind"] == "scored":
            needs = {role: store.folder(need) for role, need in cell["needs"].items()}
            yield Parts(cell["fields"], spec_of(cell["fields"]["variant"]), needs)


def _read_cell(run: Path, store: Store, key: str) -> dict[str, Any]:
    """A cell's description.

    Raises:
        InputError: it is of another schema, or not what was written.
    """
    try:
        stored = json.loads((store.folder(key) / CELL).read_text(encoding="utf-8"))
        fault = schema_fault(stored)
        whole = fault is not None or content_key(described(stored)) == key
    except (ValueError, TypeError, AttributeError, RecursionError):
        fault, whole = None, False
    if fault or not whole:
        raise InputError(
            f"cell '{key}' of run '{run.name}': {fault or 'its description is not what was written'}: `python -m "
            "analysis run STUDY` with its study makes it anew"
        )
    return described(stored)


def find_parts(run: Path, identities: Sequence[str]) -> dict[str, Parts]:
    """What each of these variants of a finished run is made from, by identity.

    Raises:
        InputError: cells of the run are gone, or cannot be read.
    """
    found = {parts.spec.identity: parts for parts in stored_parts(run) if parts.spec.identity in identities}
    for identity in identities:
        parts = found.get(identity)
        if parts is None:
            raise _gone(run, identity)
        require_there(run, parts)
    return {identity: found[identity] for identity in identities}


def require_there(run: Path, parts: Parts) -> None:
    """Refuse a variant whose parts are gone: tables alone open no model.

    Raises:
        InputError: a cell that it is made from is gone.
    """
    if any(not (folder / CELL).is_file() for folder in parts.needs.values()):
        raise _gone(run, parts.spec.name)


def _gone(run: Path, name: str) -> InputError:
    return InputError(
        f"run '{run.name}': the cells of '{name}' are not in '{run.parent / 'cells'}' (the run was copied without "
        "them, or they were cleared): run its study again"
    )
