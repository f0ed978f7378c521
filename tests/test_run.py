"""A whole study, small: its tables, its cache, its repeatability and its floor."""

import ast
import errno
import json
import os
import random
import re
import shutil
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from analysis import run, work_drift
from analysis.cell import Plan
from analysis.code_keys import reached, source_of
from analysis.engine import run_cells
from analysis.floors import doubles_of
from analysis.opening import dense
from analysis.predictions.registry import predictions, predictions_sha
from analysis.reading import read_table
from analysis.run_files import sealed
from analysis.store import CELL, Store, checksums
from analysis.study import Study
from analysis.worker import COST
from benchmarks.kills import STUDY as KILLED
from benchmarks.kills import Driver, numbers_of
from data.atlas import load_world
from data.errors import InputError
from probes.families import family_of
from probes.models import DTYPES, OpenedModel, open_model
from probes.sites import Kind, sites_of
from tests.studies import STUDY, with_needs


@pytest.fixture(scope="module")
def finished(studies, tmp_path_factory):
    """The finished study in a folder of its own: what is damaged here is read by no other."""
    shared, out = studies.run(STUDY), tmp_path_factory.mktemp("runs")
    plan, _ = run.prepare(STUDY)
    for folder in (shared, *(Store(studies.out).folder(cell.key) for cell in plan.cells)):
        shutil.copytree(folder, out / folder.relative_to(studies.out))
    return out / shared.name, out


@pytest.fixture
def without_page(monkeypatch):
    """The page of the report is drawn elsewhere (`test_paper_pages.py`): it takes half the time of the tables."""
    monkeypatch.setattr(run, "write_report_page", lambda folder: None)


def test_every_arm_that_makes_recovery_count_is_in_the_table(finished):
    folder, _ = finished
    recovery = read_table(folder, "recovery")
    repairs = set(recovery[recovery["compression"] == "magnitude-60%"]["repair"])
    assert repairs == {
        *("", "recalibrated", "placebo-2", "prompt-2-masked", "prompt-2-shuffled"),
        *("prompt-2", "idp-2,4-attention", "lora-r1"),
    }
    assert set(recovery["reading"]) == {"candidates", "vocabulary"}
    assert (recovery["lower"] <= recovery["value"] + 1e-9).all()
    assert (recovery["value"] <= recovery["upper"] + 1e-9).all()
    placebo = read_table(folder, "variants").query("kind == 'placebo' and compression == 'magnitude-60%'")
    assert len(placebo) == 8


def test_the_verdict_carries_every_prediction_and_every_claim(finished):
    folder, _ = finished
    verdict = json.loads((folder / "verdict.json").read_text())
    assert json.loads((folder / run.MANIFEST).read_text())["predictions_sha"] == predictions_sha()
    for one in verdict["settings"]:
        assert {found["name"] for found in one["further_predictions"]} == {
            found.name for found in predictions() if not found.decides
        }
    ours = {one["claim"]: one["ours"] for one in verdict["claims"]}
    assert len(ours) == 7
    assert ours["IDP is faster than LoRA"].startswith("not measured in this run: ")
    assert "times the parameters" in ours["IDP adds fewer parameters than LoRA"]
    page = (folder / "report.md").read_text()
    assert all(one in page for one in ("## Verdict", "## Knowledge", "## Mechanism", "not run: "))
    assert "erased" not in page


def test_a_second_run_computes_nothing(finished):
    folder, out = finished
    started: list[object] = []
    assert run.run(STUDY, out=out, on_start=lambda plan, todo: started.append(todo)) == folder
    assert started == []


def test_a_folder_that_holds_another_experiment_is_refused_and_kept(finished, monkeypatch):
    folder, out = finished
    path = folder / run.MANIFEST
    kept = path.read_bytes()
    stored = json.loads(kept)
    # What is written anew is what was there: see the damaged table below.
    monkeypatch.setattr(run, "finish", lambda *_: path.write_bytes(kept))
    path.write_text(json.dumps(sealed(stored | {"facts_sha": "of other facts"})))
    try:
        with pytest.raises(InputError, match=r"another experiment.*facts_sha"):
            run.run(STUDY, out=out)
        for name, other in {
            "cells": [],  # the same experiment, by other code
            "gathering": "of other tables",
            "predictions_sha": "of other predictions",
            "versions": stored["versions"] | {"pandas": "0.1"},
        }.items():
            path.write_text(json.dumps(sealed(stored | {name: other})))
            run.run(STUDY, out=out)
            assert path.read_bytes() == kept, name
    finally:
        path.write_bytes(kept)


def test_what_gathers_is_known_by_its_code():
    """Every module that a table or a verdict comes from is in the hash that the manifest holds, and none that draws."""
    gathering = reached(run.GATHERING)
    assert {
        *("analysis.tables", "analysis.hypothesis", "analysis.claims", "analysis.evidence", "analysis.verdicts"),
        *("analysis.inside_tables", "analysis.intervals", "analysis.significance"),
    } <= gathering
    assert not [name for name in gathering if re.search("figures|look|marks|report$|report_|paper|pages", name)]
    nodes = [node for name in gathering for node in ast.walk(ast.parse(source_of(name).read_text()))]
    imported = {alias.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert not imported & {"plotly", "streamlit"}


def test_cells_computed_elsewhere_are_the_same_bytes(finished, studies, tmp_path):
    """One of each kind with all that they need, in another folder and order; whole runs are compared further below."""
    _, out = finished
    plan, _ = run.prepare(STUDY)
    labels = {"drift around magnitude-60% seed 0 (main)", "magnitude-60% + lora-r1 (main)", "dense + key (locked)"}
    labels |= {f"magnitude-60% + {one} (main)" for one in ("recalibrated", "idp-2,4-attention", "prompt-2-shuffled")}
    wanted = [cell for cell in plan.cells if cell.label in labels]
    assert len(wanted) == len(labels)
    cells = {need.key: need for cell in reversed(wanted) for need in with_needs(cell)}
    run_cells(Plan(STUDY, tuple(cells.values())), Store(tmp_path), studies.engine, lambda *_: None, lambda *_: None)
    assert {cell.kind for cell in cells.values()} == {"compressed", "tuned", "scored", "drift"}
    for cell in cells.values():
        found, expected = (checksums(store.folder(cell.key)) for store in (Store(tmp_path), Store(out)))
        unlike = {name for name in found | expected if found.get(name) != expected.get(name)}
        assert unlike <= {COST}, cell.label


def test_a_damaged_table_is_refused_named_and_written_anew_from_its_cells(finished, without_page):
    folder, out = finished
    for name, harm in {
        "answers.parquet": lambda whole: whole[: len(whole) // 2],
        "verdict.json": lambda whole: whole.replace(b"0", b"1", 1),
        "manifest.json": lambda whole: whole.replace(b'"seeds"', b'"seedz"'),
    }.items():
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(harm(whole))
        if name.endswith("parquet"):
            with pytest.raises(InputError, match=r"'answers.parquet' is not what was written: run the study again"):
                read_table(folder, "answers")
        notes: list[str] = []
        assert run.run(STUDY, out=out, on_note=notes.append) == folder
        assert len(notes) == 1
        assert name in notes[0]
        assert (folder / name).read_bytes() == whole


def test_a_cell_that_another_run_takes_away_while_tables_are_gathered_is_one_line(finished, monkeypatch, without_page):
    folder, out = finished
    kept = (folder / run.MANIFEST).read_bytes()
    cell = next(path.parent for path in out.glob("cells/*/answers.parquet"))
    (folder / run.MANIFEST).unlink()
    finish = run.finish

    def taken(*arguments):
        cell.rename(out / "aside")
        finish(*arguments)

    monkeypatch.setattr(run, "finish", taken)
    with pytest.raises(InputError, match=r"vanished while .* \(--fresh\); the same command goes on"):
        run.run(STUDY, out=out)
    (out / "aside").rename(cell)
    monkeypatch.setattr(run, "finish", finish)
    run.run(STUDY, out=out)
    assert (folder / run.MANIFEST).read_bytes() == kept


def test_a_damaged_cell_in_a_folder_that_cannot_be_written_to_is_one_line(tmp_path, monkeypatch):
    store, plan = Store(tmp_path), run.prepare(STUDY)[0]
    cell = store.folder(plan.cells[0].key)
    cell.mkdir(parents=True)
    (cell / CELL).write_text("{}")

    def refused(path, target):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "rename", refused)
    for fresh in (False, True):
        with pytest.raises(InputError, match=r"cannot be written to \(Read-only file system\): make room, or name"):
            run.run(STUDY, out=tmp_path, fresh=fresh)
    assert (cell / CELL).is_file()


def test_a_damaged_cell_is_named_and_computed_anew_to_the_same_bytes(finished, studies):
    folder, out = finished
    store, plan = Store(out), run.prepare(STUDY)[0]
    cell = plan.of("scored")[0]
    path = store.folder(cell.key) / "answers.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    notes: list[str] = []
    started: list[str] = []
    again = studies.run(STUDY, out, on_note=notes.append, on_cell=lambda one, seconds: started.append(one.label))
    assert again == folder
    assert notes == [f"damaged: '{cell.label}' (answers.parquet is not what was written); it is computed anew"]
    assert started == [cell.label]
    assert path.read_bytes() == whole


@pytest.mark.slow
def test_killed_at_random_moments_and_shared_by_two_drivers_a_run_ends_as_one_left_alone(finished, tmp_path):
    """Killed: a worker, its driver, and one of the two drivers that go on from there on one folder."""
    folder, _ = finished
    stored, draw = STUDY.model_dump(mode="json"), random.Random("moments")
    first = Driver(stored, tmp_path)
    first.await_cells(1)
    time.sleep(draw.uniform(0, 2))
    assert first.kill("worker")
    time.sleep(draw.uniform(0, 2))
    assert first.kill("driver")
    second, third = Driver(stored, tmp_path), Driver(stored, tmp_path)
    second.await_cells(len(list(tmp_path.glob("cells/*/cell.json"))) + 4)
    time.sleep(draw.uniform(0, 2))
    assert third.kill("driver")
    assert numbers_of(second.finish()) == numbers_of(folder)
    computed = second.computed()
    assert len(computed) > 10
    assert len(set(computed)) == len(computed)


@pytest.mark.slow
def test_ray_gives_the_bytes_of_the_local_engine_with_a_worker_killed_on_the_way(studies, tmp_path):
    folder = studies.run(Study.model_validate(KILLED))
    driver = Driver(KILLED, tmp_path, "ray")
    driver.await_cells(2)
    while not driver.kill("worker"):  # between two cells there is none
        assert driver.process.poll() is None
    assert numbers_of(driver.finish()) == numbers_of(folder)


def test_drift_of_dense_from_itself_is_at_the_floor(finished):
    folder, _ = finished
    variants = read_table(folder, "variants")
    dense = variants[(variants["variant"] == "dense") & (variants["scope"] == "main")]["variant_id"].item()
    drift = read_table(folder, "drift")
    itself = drift[(drift["variant_id"] == dense) & (drift["reference"] == "dense")]
    assert len(itself) > 0
    assert (itself["value"].abs() <= itself["floor"].abs() + 1e-6).all()
    compressed = variants[(variants["variant"] == "magnitude-60%")]["variant_id"].item()
    moved = drift[drift["variant_id"] == compressed]
    moved = moved[(moved["site"] == "resid_post") & (moved["reference"] == "dense")]
    assert (moved["value"] > 10 * moved["floor"].abs() + 1e-4).all()


def test_a_row_that_is_read_alone_has_the_floor_of_the_same_row_among_others(finished, tmp_path):
    _, out = finished
    plan, _ = run.prepare(STUDY)
    cell = next(cell for cell in plan.of("drift") if cell.fields["variants"][0]["compression"] is None)
    store = Store(out)
    alone = {**cell.fields, "drift": {**cell.fields["drift"], "batch": 1}}
    work_drift.work(alone, {role: store.folder(need.key) for role, need in cell.needs.items()}, tmp_path)
    together = pd.read_parquet(store.folder(cell.key) / "drift.parquet")
    found = pd.read_parquet(tmp_path / "drift.parquet")
    places = ["variant_id", "group", "reference", "site", "layer", "metric"]
    assert found[places].equals(together[places])
    assert (found["value"] - together["value"]).abs().max() < 1e-4
    known = found["floor"].notna()
    assert known.equals(together["floor"].notna())
    assert known.any()
    # Another plan, so rounding shows, and nothing but rounding.
    assert 0 < found.loc[known, "floor"].abs().max() < 1e-4


@pytest.mark.parametrize(("dtype", "other"), [("float32", "bfloat16"), ("bfloat16", "float32"), ("float16", "float32")])
def test_the_other_precision_is_never_coarser_than_the_studys_own_unless_that_is_the_finest(dtype, other):
    fields = run.prepare(STUDY)[0].of("drift")[0].fields | {"dtype": dtype}
    found = doubles_of(["bfloat16"], fields, {}, sites_of(dense(fields).model, (Kind.RESID_POST,)), [[5, 6, 7]])
    assert found["bfloat16"].variant.model.dtype == DTYPES[other]
    assert found["bfloat16"].reference == "dense"


def test_one_replicate_is_never_more_than_undecided(finished):
    folder, _ = finished
    verdict = json.loads((folder / "verdict.json").read_text())
    assert {one["decision"] for one in verdict["settings"]} == {"undecided"}
    assert all(any("replicate" in reason for reason in one["reasons"]) for one in verdict["settings"])


def test_a_changed_field_changes_the_cells_that_it_shapes_and_no_others():
    plan, _ = run.prepare(STUDY)
    longer, _ = run.prepare(STUDY.model_copy(update={"tuning": STUDY.tuning.model_copy(update={"steps": 4})}))
    before = {kind: {cell.key for cell in plan.of(kind)} for kind in ("compressed", "tuned")}
    after = {kind: {cell.key for cell in longer.of(kind)} for kind in ("compressed", "tuned")}
    assert before["compressed"] == after["compressed"]
    assert not before["tuned"] & after["tuned"]


@pytest.fixture
def own(tmp_path):
    """A user's folder: a model, a pruned copy of it, and facts in a CSV with their phrasings."""
    known = load_world().facts.only(["instrument"])
    rows = [f"plays,{one.subject},{one.answer}" for one in known.select(["open"])[:90]]
    (tmp_path / "mine.csv").write_text("\n".join(["relation,subject,answer", *rows]) + "\n")
    (relation,) = known.relations.values()
    phrasings = {"tune": list(relation.tune), "damage": relation.damage, "measure": relation.measure}
    (tmp_path / "mine.yaml").write_text(json.dumps({"plays": phrasings}))
    opened = open_model("atlas", dtype="float32", device="cpu")
    save(opened, tmp_path / "dense")
    with torch.no_grad():
        for linear in family_of(opened.model).linears_of(opened.model).values():
            linear.weight[linear.weight.abs() < linear.weight.abs().quantile(0.6)] = 0
    save(opened, tmp_path / "pruned")
    return tmp_path


def save(opened: OpenedModel, folder: Path) -> None:
    opened.model.save_pretrained(folder)
    opened.tokenizer.save_pretrained(folder)


def test_ones_own_facts_and_a_ready_checkpoint_make_a_study(own, studies):
    changed = {
        "repairs": STUDY.model_dump()["repairs"][:1],
        "reported": ["prompt-2"],
        "model": str(own / "dense"),
        "facts": str(own / "mine.csv"),
        "relations": None,
        "groups": ["facts"],
        "controls": [],
        "compressions": [{"method": "checkpoint", "path": str(own / "pruned")}],
    }
    folder = studies.run(Study.model_validate(STUDY.model_dump() | changed), own / "runs")
    recovery = read_table(folder, "recovery").query("repair == '' and split == 'test' and reading == 'candidates'")
    accuracy = recovery[recovery["measure"] == "accuracy"].set_index("compression")["value"]
    assert set(accuracy.index) == {"dense", "checkpoint-pruned"}
    assert accuracy["dense"] > 0.95
    checks = read_table(folder, "variants").set_index("variant")
    assert checks.loc["checkpoint-pruned", "logit_difference"] > 1e-3
