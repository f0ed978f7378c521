"""Write one repair of a finished run for use outside: as a folder of peft's, a bank of prompts as one file in it."""

from dataclasses import replace
from pathlib import Path

from analysis.opening import opening_of
from analysis.run_files import read_manifest
from analysis.scopes import MAIN
from analysis.store import Store
from analysis.stored_variants import Parts, require_there, stored_parts
from analysis.tables import replicate_of
from data.errors import InputError
from probes.repairs.registry import work_of


def export(run: Path, variant: str, to: Path, *, scope: str = MAIN, replicate: int | None = None) -> Path:
    """Write a variant's prompt, prefix or adapter; the folder names the dense model as its base.

    It is read from the cells that the run's manifest names, so that whatever the code has become since does not
    matter. A repair of a compressed copy belongs on that copy: the same architecture with other weights. peft has no
    form for a bank: its prompts are one safetensors file, which a study's `bank: files` reads.

    Args:
        run: the folder of a finished run, beside whose folder its cells lie.
        variant: its name as spoken.
        to: the folder that is made.
        scope: whose facts it was tuned on.
        replicate: seed of the replicate; the run's first unless given.

    Raises:
        InputError: no such variant, one that holds nothing to be written, a folder that is already there, or cells
            that are gone or damaged.
    """
    if to.exists():
        raise InputError(f"'{to}' is already there: name another folder")
    parts = _find(run, variant, scope, replicate)
    spec, needs = parts.spec, {role: folder for role, folder in parts.needs.items() if role != "parent"}
    if spec.repair is None:
        raise InputError(f"'{variant}' has no repair: name a variant that has one")
    require_there(run, replace(parts, needs=needs))
    store = Store(run.parent)
    if damaged := [role for role, folder in needs.items() if store.damage(folder.name)]:
        raise InputError(
            f"what '{variant}' was made from is damaged (its cell {damaged[0]}): run the study again, which computes "
            "it anew, then export"
        )
    work_of(spec.repair).write(spec.repair, opening_of(parts.fields, spec, needs), to)
    return to


def _find(run: Path, variant: str, scope: str, replicate: int | None) -> Parts:
    """A variant by its spoken name."""
    wanted = read_manifest(run)["seeds"][0] if replicate is None else replicate
    every = [one for one in stored_parts(run) if one.spec.scope == scope]
    here = [one for one in every if replicate_of(one.spec) == wanted]
    for one in here:
        if one.spec.name == variant:
            return one
    names = sorted({one.spec.name for one in here if one.spec.repair is not None})
    raise InputError(
        f"no variant '{variant}' in scope {scope} and replicate {wanted}; there are {', '.join(names) or 'none'}"
    )
