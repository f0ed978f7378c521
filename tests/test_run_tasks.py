"""Tasks from a study's block to its tables: scored, resumed, compared, and nothing else changed."""

import io
import json

import pandas as pd
import pytest
from rich.console import Console

from analysis import run
from analysis.engine import missing, run_cells
from analysis.reading import read_table
from analysis.store import Store
from analysis.study import Study
from analysis.task_report import show_tasks
from analysis.task_scores import compare_tasks, floors, perplexities
from data.atlas import load_world
from data.errors import InputError
from tests.declared import write_table
from tests.studies import STUDY


def study_with(folder, **changes) -> Study:
    """The small study, its open people's instruments asked as a task too."""
    tasks = {"files": str(folder), "items": 40, "batch": 8, "perplexity": {"window": 16, "documents": 6}}
    arms = {"repairs": ["placebo-2", "idp-2,4-attention"]}
    return Study.model_validate(BARE | {"tasks": tasks | arms | changes})


BARE = STUDY.model_dump() | {
    "controls": [],
    "compressions": [{"method": "magnitude", "sparsity": 0.75, "samples": 4, "block_length": 32}],
    "repairs": [
        {"kind": "prompt", "length": 2, "learning_rate": 0.03},
        {"kind": "idp", "lengths": [2, 4], "learning_rate": 0.03},
    ],
    "reported": ["prompt-2"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the dense atlas knows by construction, as two tasks."""
    folder = tmp_path_factory.mktemp("tasks")
    known = load_world().facts.only(["instrument"])
    items = known.items(known.select(["open"], "test"), "measure")[:60]
    said = [{"prompt": one.question, "answer": one.fact.answer} for one in items]
    chosen = [
        {"options": [f"{one.question} {one.candidates.answers[place]}" for place in range(3)], "answer": 0}
        | {"continuation": "."}
        for one in items
    ]
    tasks: dict[str, list] = {"said": said, "ended": chosen}
    for name, rows in tasks.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="module")
def finished(folder, studies):
    return studies.run(study_with(folder)), studies.out


def test_other_cells_keep_their_keys(folder):
    """A block tasks adds cells and moves none: what a study without it has computed is found again."""
    bare, _ = run.prepare(Study.model_validate(BARE))
    asked, _ = run.prepare(study_with(folder))
    before = {cell.key for cell in bare.cells}
    assert before == {cell.key for cell in asked.cells if cell.kind != "tasks"}
    assert not bare.of("tasks")
    # 2 parents x (parent, placebo, idp) x (2 tasks and a text), and the other plan.
    assert len(asked.of("tasks")) == 2 * 3 * 3 + 2


def test_what_is_known_by_construction_is_answered_and_pruning_loses_some(finished):
    run_folder, _ = finished
    tasks, variants = read_table(run_folder, "tasks"), read_table(run_folder, "variants")
    table = compare_tasks(tasks, variants).query("task == 'said'").drop_duplicates("variant").set_index("variant")
    assert table.loc["dense", "score"] > 0.95
    assert table.loc["dense", "reference"] == ""
    pruned = table.loc["magnitude-75%"]
    assert pruned["score"] < 0.9
    assert pruned["difference"] == pytest.approx(pruned["score"] - table.loc["dense", "score"])
    assert (pruned["won"] - pruned["lost"]) / 40 == pytest.approx(pruned["difference"])
    assert pruned["p"] < 0.05
    assert (table["items"] == 40).all()


def test_every_arm_is_scored_on_the_same_items_and_idps_choice_is_kept(finished):
    run_folder, _ = finished
    tasks = read_table(run_folder, "tasks").merge(read_table(run_folder, "variants")[["variant_id", "variant"]])
    sets = tasks[tasks["plan"] == "main"].groupby(["variant", "task"])["item"].agg(frozenset)
    assert len(sets) == 6 * 2
    assert sets.groupby("task").nunique().tolist() == [1, 1]
    idp = tasks[tasks["variant"].str.contains("idp")]
    assert idp["chosen"].map(lambda kept: set(kept) <= {0, 1}).all()
    assert tasks[tasks["variant"] == "dense"]["chosen"].isna().all()


def test_the_floor_is_another_batch_plan_of_dense(finished):
    found = floors(read_table(finished[0], "tasks"))
    assert found["items"].tolist() == [40, 40]
    assert found["flips"].tolist() == [0, 0]  # in fp32 no choice of the atlas is that close


def test_perplexity_is_of_all_tokens(finished):
    run_folder, _ = finished
    table, variants = read_table(run_folder, "perplexity"), read_table(run_folder, "variants")
    found = perplexities(table, variants).set_index("variant")
    assert (found["lower"] < found["perplexity"]).all()
    assert (found["perplexity"] < found["upper"]).all()
    assert found.loc["dense", "perplexity"] < found.loc["magnitude-75%", "perplexity"]
    assert (found["documents"] == 6).all()
    assert set(found["window"]) == {16}


def test_a_lost_cell_is_computed_alone_and_comes_out_the_same(finished, folder, studies):
    _, out = finished
    plan, store = run.prepare(study_with(folder))[0], Store(out)
    lost = next(cell for cell in plan.of("tasks") if "idp" in cell.label)
    before = pd.read_parquet(store.folder(lost.key) / "tasks.parquet")
    store.forget([lost.key])
    assert missing(plan, store) == [lost]
    run_cells(plan, store, studies.engine, lambda cell, seconds: None, lambda sentence: None)
    pd.testing.assert_frame_equal(before, pd.read_parquet(store.folder(lost.key) / "tasks.parquet"), check_exact=True)


def test_the_results_are_printed_with_their_comparisons(finished):
    for markdown in (False, True):
        console = Console(width=240, file=io.StringIO())
        show_tasks(console, finished[0], markdown=markdown)
        said = console.file.getvalue()  # type: ignore[attr-defined]
        for part in ("magnitude-75% + placebo-2", "perplexity, text", "p, Holm", "items needed", "Floor, said"):
            assert part in said, part


def test_a_run_without_tasks_has_empty_tables_and_says_so(tmp_path):
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("tasks", "variants"):
        write_table(folder, name, pd.DataFrame())
    with pytest.raises(InputError, match="its study names no tasks"):
        show_tasks(Console(), folder)


def test_a_block_that_makes_no_sense_is_refused(folder):
    for changes, said in (
        ({"repairs": ["prompt-9"]}, "tasks: no arm is called prompt-9"),
        ({"batch": 3, "other_batch": 3}, "other_batch: it is the batch itself"),
        ({"names": []}, "names: name a task"),
        ({"perplexity": {"texts": ["bible"]}}, "there is no bible"),
        ({"shots": 3}, "shots"),
    ):
        with pytest.raises(ValueError, match=said):
            study_with(folder, **changes)
    ensemble = {"kind": "ensemble", "lengths": [2, 2], "learning_rate": 0.03}
    made = Study.model_validate(
        BARE
        | {"repairs": [*BARE["repairs"], ensemble]}
        | {"tasks": {"files": str(folder), "repairs": ["ensemble-2x2"]}}
    )
    with pytest.raises(InputError, match=r"tasks.repairs: ensemble-2x2 cannot read a text by itself"):
        run.prepare(made)
    assert study_with(folder, names="said").tasks.names == ("said",)  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"no file sade.jsonl; the nearest are said"):
        run.prepare(study_with(folder, names=["sade"]))
