"""Run a study from its description to its tables, manifest and verdict; a second run finds everything done."""

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analysis.cells import Cell, Plan, expand
from analysis.checks import check_opened
from analysis.code_keys import code_hash
from analysis.engine import Note, Report, drop_damaged, missing, run_cells
from analysis.engines import open_engine, require_engine, require_place
from analysis.estimate import resolution_of
from analysis.hosting import check_hosted
from analysis.inside_tables import copy_examples
from analysis.locks import Locks, under_way
from analysis.predictions.registry import predictions_sha
from analysis.report_markdown import markdown
from analysis.report_page import write_report_page
from analysis.resolution import Resolution
from analysis.resolve import resolve
from analysis.run_files import EXAMPLES, MANIFEST, damaged_file, read_manifest, sealed
from analysis.schema.registry import TABLES
from analysis.schema.verdict import VERDICT, require_verdict
from analysis.store import (
    SCHEMA,
    Store,
    atomically,
    content_key,
    open_root,
    sha_of,
    telling_storage,
    versions,
    write_atomically,
)
from analysis.study import Study, load_facts
from analysis.tables import gather
from analysis.verdicts import judge
from data.errors import InputError
from data.facts import FactSet
from data.paths import path_fault, shown
from probes.models import locate

ABSENT = "not on this machine"
RESOLVED = "resolved.json"
"""Holds what was found of the study before a weight was read."""
GATHERING = ("analysis.inside_tables", "analysis.tables", "analysis.verdicts")
"""What makes tables and verdicts from cells: of pages and figures a finished run does not depend."""
EXPERIMENT = ("study", "model_sha", "facts_sha")
"""What of a manifest says which experiment it is; the rest says with what code and libraries it was computed."""
SHAPING = ("cells", "gathering", "predictions_sha", "versions")
"""What of a manifest shapes tables and verdict: where one of these is another, they are written anew from the cells."""


def prepare(study: Study, *, absent: bool = False) -> tuple[Plan, FactSet]:
    """Find the facts, the model's files and the cells; nothing is written and no model is opened.

    With `absent` the model need not be on this machine, nor is it downloaded: the plan can be looked at and not run.

    Raises:
        InputError: whatever of these is missing or does not fit.
    """
    facts = load_facts(study)
    plan = expand(study, facts, ABSENT if absent else None)
    check_hosted(plan)
    return plan, facts


def is_here(study: Study) -> bool:
    """Whether the model's files are on this machine, or the study says nothing of its shape that could stand in."""
    if study.shape is None:
        return True
    try:
        locate(study.model, here=True)
    except InputError:
        return False
    return True


def run_folder(study: Study, shipped: bool, out: Path) -> Path:
    """A shipped study unchanged gets its name; any change gets a folder of its own."""
    if shipped:
        return out / study.name
    return out / f"{study.name}-{content_key(study.model_dump(mode='json'))[:8]}"


def manifest_of(plan: Plan, facts: FactSet) -> dict[str, Any]:
    """What shaped the run's numbers."""
    return {
        "schema": SCHEMA,
        "study": plan.study.model_dump(mode="json"),
        "versions": versions() | {"python": platform.python_version()},
        "facts_sha": facts.sha,
        "model_sha": plan.cells[0].fields["model_sha"],
        "seeds": list(plan.study.seeds),
        "predictions_sha": predictions_sha(),
        "gathering": code_hash(GATHERING),
        "cells": sorted(cell.key for cell in plan.cells),
    }


def finish(plan: Plan, facts: FactSet, found: Resolution, store: Store, folder: Path) -> None:
    """Write tables, verdict and, last, the manifest with every file's checksum: a folder with a manifest is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = gather(plan, store)
    (folder / MANIFEST).unlink(missing_ok=True)  # first: stopped below, the folder must not pass for whole
    for draft in folder.glob(".*.*.*"):  # of one that was killed here; who finishes holds the folder's lock
        draft.unlink()
    for table in TABLES.every():
        with atomically(folder / table.file) as draft:
            table.write(tables[table.name], draft)
    copy_examples(plan, store, folder)
    verdict = judge(plan.study, facts, tables)
    write_atomically(folder / "report.md", markdown(verdict, found.note, plan.study.title or plan.study.name))
    require_verdict(verdict)
    write_atomically(folder / VERDICT, json.dumps(verdict, indent=1) + "\n")
    write_report_page(folder)
    write_atomically(folder / RESOLVED, found.kept.as_json + "\n")
    written = ["report.md", "report.html", RESOLVED, VERDICT, *(table.file for table in TABLES.every())]
    written += [f"{EXAMPLES}/{path.name}" for path in (folder / EXAMPLES).glob("*")]
    manifest = manifest_of(plan, facts) | {"note": found.note}
    manifest |= {"files": {name: sha_of(folder / name) for name in sorted(written)}}
    write_atomically(folder / MANIFEST, json.dumps(sealed(manifest), indent=1) + "\n")


def run(
    study: Study,
    *,
    out: Path = Path("runs"),
    shipped: bool = False,
    fresh: bool = False,
    engine: str = "local",
    address: str | None = None,
    memory: int | None = None,
    on_start: Callable[[Plan, list[Cell]], None] | None = None,
    on_cell: Report | None = None,
    on_note: Note | None = None,
) -> Path:
    """Run a study and return its folder.

    Cells are computed by the `engine` local or ray (`address`: of a cluster that is there); `memory` bounds, in
    bytes, what its workers hold together. `on_note` is told in a sentence of whatever was damaged, lost or failed.

    Raises:
        InputError: anything the user can mend; what is finished stays and a second run goes on from it.
        UnfinishedError: some cells failed; the others are finished.
    """
    require_engine(engine, address)
    plan, facts = prepare(study)
    folder, store = run_folder(study, shipped, out), Store(out)
    note = _once(on_note or (lambda sentence: None))
    manifest = manifest_of(plan, facts)
    if not fresh:
        refuse_other(manifest, folder, note)
        with telling_storage(out):
            drop_damaged(plan, store, note)
    todo = list(plan.cells) if fresh else missing(plan, store)
    if not todo and is_current(manifest, folder, note):
        open_root(out)
        return folder
    resolved = resolve(plan, facts)
    found = resolution_of(resolved)
    if todo:
        require_place(engine, study)
        check_opened(resolved)
        workers = open_engine(engine, plan, todo, memory=memory, address=address)
    open_root(out)
    if fresh:
        with telling_storage(out):
            store.forget(cell.key for cell in plan.cells)
    if on_start is not None:
        on_start(plan, todo)
    with telling_storage(out), under_way(out):
        while todo:
            run_cells(plan, store, workers, on_cell or (lambda cell, seconds: None), note)
            drop_damaged(plan, store, note)  # of what another run on the folder computed
            todo = missing(plan, store)
        with Locks(out) as locks, locks.holding(f"run-{content_key({'folder': folder.name})}"):
            if fresh or not is_current(manifest, folder, note):
                _gather(plan, facts, found, store, folder)
    return folder


def _gather(plan: Plan, facts: FactSet, found: Resolution, store: Store, folder: Path) -> None:
    """Write the run's folder from its cells.

    Raises:
        InputError: a cell was taken away meanwhile.
    """
    try:
        finish(plan, facts, found, store, folder)
    except FileNotFoundError as error:
        if gone := missing(plan, store):
            raise InputError(
                f"'{gone[0].label}' vanished while the tables were gathered: another run computes it anew (--fresh); "
                "the same command goes on from what is there"
            ) from error
        raise


def _once(note: Note) -> Note:
    """Say nothing twice."""
    said: set[str] = set()

    def first(sentence: str) -> None:
        if sentence not in said:
            said.add(sentence)
            note(sentence)

    return first


def refuse_other(manifest: dict[str, Any], folder: Path, note: Note) -> None:
    """Keep a folder that holds another experiment; the same one by newer code or libraries is replaced whole.

    Raises:
        InputError: naming what differs.
    """
    stored = _stored_manifest(folder, note)
    if stored is None:
        return
    if other := [name for name in EXPERIMENT if stored.get(name) != manifest[name]]:
        raise InputError(
            f"'{folder}' holds another experiment (its {', '.join(other)} differ): give another --out, or replace it "
            "with --fresh"
        )


def _stored_manifest(folder: Path, note: Note) -> dict[str, Any] | None:
    """A folder's manifest; None where there is none, or what is there cannot be relied on and is written anew."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        return read_manifest(folder)
    except InputError as error:
        note(f"{error}; its cells are there, so that it is written anew from them")
        return None


def is_current(manifest: dict[str, Any], folder: Path, note: Note) -> bool:
    """Whether the folder already holds exactly the tables of this manifest, undamaged; what is damaged is named."""
    stored = _stored_manifest(folder, note)
    if stored is None or any(stored.get(name) != manifest[name] for name in SHAPING):
        return False
    if damaged := damaged_file(folder):
        note(f"damaged: {damaged} of '{folder}'; it is written anew from its cells")
    return damaged is None


def open_run(name: str, out: Path) -> Path:
    """A finished run's folder by name or path.

    Raises:
        InputError: there is none, or none can be called so.
    """
    if fault := path_fault(str(out / name)):
        raise InputError(f"run '{shown(name)}': {fault}")
    for folder in (out / name, Path(name)):
        if (folder / MANIFEST).is_file():
            return folder
    raise InputError(f"run '{name}': no finished run of that name in '{out}'; `python -m analysis run STUDY` makes one")


__all__ = ["finish", "open_run", "prepare", "run", "run_folder"]
