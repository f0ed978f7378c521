"""Studies as a form shows and writes them: where to start from, what stands where, and what is written as YAML.

A convenience: what a study may hold is decided by analysis/study.py, from which every field is read.
"""

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from analysis.asking import bare
from analysis.study import Study, shipped_studies
from analysis.study_files import complaint
from data.errors import InputError
from data.user_yaml import read_yaml

DEMO = "atlas"
SUBJECT = (("name", "title"), ("model", "dtype", "device"), ("facts", "groups", "controls", "text"))
"""Fields of a study that say what is asked of which model, row by row."""
AMOUNTS = (("seeds", "placebos", "score_batch", "threads"),)
"""Fields of a study that say how much is asked, row by row."""
BLOCKS: Mapping[str, type[BaseModel]] = {
    name: info.annotation
    for name, info in Study.model_fields.items()
    if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
}
"""Fields of a study that it always has and that have fields of their own: these stand in the form, a row each."""
ROWS = ("compressions", "repairs")
"""Fields of a study that stand in as many rows as asked for."""
FORM = (*(name for line in (*SUBJECT, *AMOUNTS) for name in line), "reported", *BLOCKS, *ROWS)
"""What stands in the form; the others are written as YAML."""


def shipped() -> list[str]:
    """Names of the studies that ship, the demo first."""
    return sorted(shipped_studies(), key=lambda name: (name != DEMO, name))


def study_of(stored: Mapping[str, Any], where: str) -> Study:
    """A stored study.

    Raises:
        InputError: it is none that can be read here.
    """
    try:
        return Study.model_validate(stored)
    except ValidationError as error:
        raise InputError(f"{where}: {complaint(error)}: start from another study") from None


def further(study: Study) -> str:
    """What has no field of its own in the form, as YAML."""
    rest = {name: value for name, value in bare(study).items() if name not in FORM}
    return yaml.safe_dump(rest, sort_keys=False, default_flow_style=None, width=80) if rest else ""


def with_further(study: dict[str, Any], text: str) -> dict[str, Any]:
    """A study with the keys written as YAML.

    Raises:
        InputError: they are no YAML, no keys, or have a field of their own.
    """
    found = read_yaml(text, "further fields") or {}
    if not isinstance(found, dict):
        raise InputError("further fields: write keys with values, such as `candidates: 8`")
    if double := sorted(set(found) & set(FORM)):
        raise InputError(f"further fields: {', '.join(double)} has a field of its own above")
    return study | found


def whole_numbers(text: str, where: str) -> list[int]:
    """Numbers written with commas between them; none of an empty text.

    Raises:
        InputError: something else is written there.
    """
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise InputError(f"{where}: write whole numbers with commas between them, such as 8, 8") from None


def as_words(value: Any) -> str:
    """A value on one line of YAML; nothing for None."""
    if value is None:
        return ""
    return yaml.safe_dump(value, default_flow_style=True, width=1e9, allow_unicode=True).removesuffix("...\n").strip()
