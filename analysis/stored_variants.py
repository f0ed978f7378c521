"""The variants of a finished run as its stored cells describe them: nothing is planned anew, whatever the code is now.

A run's manifest names its cells; each cell's description says what it is and which cells it needs.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from analysis.opening import spec_of
from analysis.run_files import read_manifest
from analysis.store import CELL, CHECKSUMS, Store, content_key
from data.errors import InputError
from probes.specs.variants import VariantSpec


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
    for key in read_manifest(run).get("cells", []):
        if not store.done(key):
            continue
        try:
            stored = json.loads((store.folder(key) / CELL).read_text(encoding="utf-8"))
            described = {name: value for name, value in stored.items() if name != CHECKSUMS}
            if content_key(described) != key:
                raise ValueError(f"{CELL} is not what its key says")
            if described["kind"] == "scored":
                needs = {role: store.folder(need) for role, need in described["needs"].items()}
                yield Parts(described["fields"], spec_of(described["fields"]["variant"]), needs)
        except (ValueError, KeyError, TypeError, AttributeError, ValidationError, RecursionError):
            raise InputError(f"cell '{key}' of run '{run.name}' cannot be read: run the study again") from None


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
