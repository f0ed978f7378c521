"""What pages say of runs whose tables, manifest or verdict are damaged, empty or foreign: a sentence each."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from analysis.reading import read_table
from analysis.run_files import sealed
from data.errors import InputError
from tests.opened_pages import PAGES, errors_of, opened
from tests.stored_runs import write_run


def test_damaged_runs_say_what_is_wrong(root):
    first = root / "first"
    (first / "drift.parquet").write_bytes(b"not a table")
    assert "drift.parquet" in opened("drift").warning[0].value
    pd.DataFrame({"item": ["x"]}).to_parquet(first / "answers.parquet")
    with pytest.raises(InputError, match="no column 'correct': run the study again"):
        read_table(first, "answers", ["item", "correct"])
    assert "has no column" in opened("facts").warning[0].value
    (first / "verdict.json").write_text("{")
    assert "verdict.json" in opened("evidence").warning[0].value
    (first / "manifest.json").write_text("{")
    assert "manifest.json" in opened().error[0].value


@pytest.mark.parametrize(
    ("page", "table", "column"),
    [
        *(("drift", "drift", column) for column in ("floor", "metric", "tokens")),
        *(("attention", "attention", column) for column in ("tokens", "head", "reference")),
        *(("choices", "selectors", column) for column in ("usage", "group", "p")),
        *(("choices", "selections", column) for column in ("chosen", "scores")),
        *(("recovery", "recovery", column) for column in ("group", "parameters_added")),
        *(("facts", "recovery", "scope"), ("live", "variants", "kind"), ("question", "variants", "scope")),
    ],
)
def test_a_column_that_is_not_there_is_one_sentence(root, page, table, column):
    path = root / "first" / f"{table}.parquet"
    pd.read_parquet(path).drop(columns=column).to_parquet(path, index=False)
    told = told_of(opened(page))
    assert told
    assert set(told) == {f"run 'first': table '{table}' has no column '{column}': run the study again"}


@pytest.mark.parametrize(
    ("page", "table"),
    [
        *((page, "variants") for page in PAGES),
        *((page, page) for page in ("recovery", "drift", "attention")),
        *(("recovery", "answers"), ("facts", "answers"), ("facts", "recovery"), ("compare", "recovery")),
        *(("choices", "selectors"), ("choices", "selections"), ("choices", "banks"), ("live", "timings")),
    ],
)
def test_an_empty_table_is_a_sentence_at_most(root, page, table):
    path = root / "first" / f"{table}.parquet"
    pd.read_parquet(path).head(0).to_parquet(path, index=False)
    app = opened(page)
    assert len(errors_of(app)) <= 1
    if table == "variants" and page != "new_study":
        assert "Scope: the run's tables leave nothing to choose" in app.error[0].value


@pytest.mark.parametrize(
    ("page", "place"),
    [
        *(("question", place) for place in (("seeds",), ("study", "model"))),
        *(("drift", place) for place in (("study",), ("study", "text"))),
        *(("compare", place) for place in (("seeds",), ("study", "text"))),
        *(("new_study", place) for place in (("study",), ("study", "model"))),
    ],
)
def test_a_manifest_that_is_not_what_was_written_is_one_sentence(root, page, place):
    write_run(root / "second")
    path = root / "first" / "manifest.json"
    path.write_text(json.dumps(sealed(json.loads(path.read_text()))))
    without(path, *place)
    app = opened(page, run="first")
    told = told_of(app)
    assert page == "new_study" or told == ["run 'first': 'manifest.json' is not what was written: run the study again"]
    app.selectbox(key="run").set_value("second").run()
    assert page == "compare" or not errors_of(app)  # there it stands beside the other now


@pytest.mark.parametrize("page", ["question", "evidence", "compare", "claims"])
@pytest.mark.parametrize("place", [("settings",), ("settings", 0, "reasons"), ("settings", 0, "decision")])
def test_a_verdict_of_another_form_is_said_where_it_is_read(root, page, place):
    write_run(root / "second")
    without(root / "first" / "verdict.json", *place)
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    told = told_of(opened(page, run="first"))
    assert set(told) == {f"run 'first': 'verdict.json': {where}: field required: run the study again"}


def told_of(page: AppTest) -> list[str]:
    """Everything that a page says is wrong, as it is meant to be read; it must not have raised."""
    return [re.sub(r"\\(.)", r"\1", one) for one in (*errors_of(page), *(one.value for one in page.warning))]


def without(path: Path, *place: str | int) -> None:
    """Take one field out of a JSON file."""
    stored = json.loads(path.read_text())
    within = stored
    for name in place[:-1]:
        within = within[name]
    del within[place[-1]]
    path.write_text(json.dumps(stored))
