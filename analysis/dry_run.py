"""A study looked at as a run would look at it, before a weight is read: what every command that only asks shows."""

from collections.abc import Sequence
from pathlib import Path

from analysis.engine import missing
from analysis.estimate import model_found, resolution_of
from analysis.resolution import Resolution
from analysis.resolve import model_notes, resolve
from analysis.run import is_here, prepare
from analysis.store import Store
from analysis.study import load_study
from data.errors import InputError
from probes.models import check_place, find, outline_of
from probes.tokens import require_rows


def dry_run(name: str, changes: Sequence[str], out: Path) -> Resolution:
    """What is found of a study by its name or file; where it is refused, the sentence. Nothing is written."""
    try:
        study = load_study(name, changes)
    except InputError as error:
        return Resolution(refused=one_line(error))
    try:
        here = is_here(study)
        plan, facts = prepare(study, absent=not here)
        return resolution_of(resolve(plan, facts, here=here), missing(plan, Store(out)))
    except InputError as error:
        return Resolution(study=study.name, refused=one_line(error))


def look_at_model(name: str, dtype: str) -> Resolution:
    """What is found of a model alone; where it is refused, the sentence."""
    try:
        check_place(dtype, "cpu")
        found = find(name, dtype)
        require_rows(found.tokenizer, int(found.outlook.config.vocab_size), name)
        model = model_found(name, outline_of(found.outlook.config), dtype, here=True)
    except InputError as error:
        return Resolution(refused=one_line(error))
    return Resolution(model=model, read_beside=found.read_beside, notes=model_notes(found, None))


def one_line(error: InputError) -> str:
    """What a user can mend, as it is printed."""
    return " ".join(str(error).split())


def accepted(found: Resolution) -> Resolution:
    """What was found, of what is not refused.

    Raises:
        InputError: it is refused.
    """
    if found.refused is not None:
        raise InputError(found.refused)
    return found
