"""The form of `manifest.json`: its keys with what stands under them, checked where it is read."""

from typing import Any, NotRequired

from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import TypedDict

from analysis.schema.json_fault import json_fault


@with_config(ConfigDict(extra="forbid", strict=True))
class Manifest(TypedDict):
    """What shaped a run's numbers, and the files that it wrote."""

    schema: int
    study: dict[str, Any]
    """The study as its file has it, every default filled in."""
    versions: dict[str, str]
    """Of Python and the libraries that compute."""
    facts_sha: str
    model_sha: str
    seeds: list[int]
    predictions_sha: str
    gathering: str
    """Hash of the code that makes tables and verdict from cells."""
    cells: list[str]
    """Keys of the run's cells."""
    note: str
    """What a reader must know of the model; empty: nothing."""
    files: dict[str, str]
    """Checksum of every file but this one, by its name."""
    seal: NotRequired[str]
    """Hash of everything else; a manifest made by hand has none."""


_FORM = TypeAdapter(Manifest)


def manifest_fault(manifest: dict[str, Any]) -> str | None:
    """The first place at which a manifest is not of this form, in words; None where it is."""
    return json_fault(_FORM, manifest)
