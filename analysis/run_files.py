"""The files of a finished run, each compared with its checksum before it is read for the first time.

The manifest holds the checksum of every other file and the hash of what it says itself.
"""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from analysis.schema.manifest import manifest_fault
from analysis.store import Written, content_key, schema_fault, sha_of, written
from data.errors import InputError

MANIFEST = "manifest.json"
SEAL = "seal"
"""Key of a manifest that holds the hash of all the others."""
TEXT_SEAL = "# sha256 "
"""What the last line of a sealed text begins with."""
EXAMPLES = "examples"
"""Folder of a run that holds one file per example."""


def read_json(run: Path, name: str) -> dict[str, Any]:
    """One JSON file of a finished run.

    Raises:
        InputError: it is missing or damaged.
    """
    if name != MANIFEST:
        require_whole(run, name)
    try:
        stored = json.loads((run / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # brackets without end
        raise InputError(f"run '{run.name}': '{name}' cannot be read ({type(error).__name__}): run it again") from None
    if not isinstance(stored, dict):
        raise InputError(f"run '{run.name}': '{name}' holds no object: run it again")
    return stored


def read_manifest(run: Path) -> dict[str, Any]:
    """What shaped a run's numbers.

    Raises:
        InputError: it is damaged, of a schema that this version does not read, or not of its form.
    """
    manifest = read_json(run, MANIFEST)
    require_sealed(run, manifest)
    if fault := schema_fault(manifest):
        raise InputError(
            f"run '{run.name}': {fault}: `python -m analysis run STUDY` with its study makes it anew, and "
            "`python -m analysis gc` frees what it leaves"
        )
    if fault := manifest_fault(manifest):
        raise InputError(f"run '{run.name}': '{MANIFEST}': {fault}: run the study again")
    return manifest


def require_sealed(run: Path, manifest: dict[str, Any]) -> None:
    """Compare what a manifest says with its seal, whatever its schema.

    Raises:
        InputError: it is not what was written.
    """
    if SEAL in manifest and manifest != sealed(manifest):
        raise InputError(f"run '{run.name}': '{MANIFEST}' is not what was written: run the study again")


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest with the hash of what it says."""
    said = {name: value for name, value in manifest.items() if name != SEAL}
    return said | {SEAL: content_key(said)}


def sealed_text(text: str) -> str:
    """A text with a last line that holds its checksum, for a file that no manifest knows."""
    return f"{text}{TEXT_SEAL}{hashlib.sha256(text.encode()).hexdigest()}\n"


def unsealed_text(text: str) -> str:
    """A text without the checksum that it was sealed with.

    Raises:
        ValueError: it is not what was sealed, or has no checksum, as one that was cut has none.
    """
    body, _, found = text.rpartition(TEXT_SEAL)
    if sealed_text(body) != text:
        raise ValueError(f"not what was written: its checksum is not {found.strip()}")
    return body


def damaged_file(run: Path) -> str | None:
    """The first file of a finished run that is missing or not what was written."""
    for name in read_manifest(run)["files"]:
        try:
            require_whole(run, name)
        except InputError:
            return str(name)
    return None


def require_whole(run: Path, name: str) -> None:
    """Compare a file with its checksum, once per process; what a run's manifest does not name is read as it is.

    Raises:
        InputError: it is missing, or is not what was written.
    """
    if not (run / MANIFEST).is_file():  # being written: its readers are those who write it
        return
    expected = _checksums(run, written(run / MANIFEST)).get(name)
    path = run / name
    if expected is None:
        return
    try:
        found = _sha(path, written(path))
    except OSError as error:
        raise InputError(
            f"run '{run.name}': '{name}' cannot be read ({type(error).__name__}): run the study again, which writes "
            "it anew from its cells"
        ) from None
    if found != expected:
        raise InputError(
            f"run '{run.name}': '{name}' is not what was written: run the study again, which writes it anew from its "
            "cells"
        )


def forget_checksums() -> None:
    """Have every file's checksum computed anew, for one that changes twice within a tick of the clock."""
    _checksums.cache_clear()
    _sha.cache_clear()


@lru_cache(maxsize=64)
def _checksums(run: Path, stamp: Written) -> dict[str, str]:
    found: dict[str, str] = read_manifest(run)["files"]
    return found


@lru_cache(maxsize=4096)
def _sha(path: Path, stamp: Written) -> str:
    return sha_of(path)
