"""What pages say of runs whose tables, manifest or verdict are damaged, empty or of an older form: a sentence each."""

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis.reading import read_table
from data.errors import InputError
from tests.opened_pages import PAGES, errors_of, opened
from tests.stored_runs import write_run


def test_damaged_and_older_runs_say_what_is_wrong(root):
    first = root / "first"
    (first / "drift.parquet").write_bytes(b"not a table")
    assert "drift.parquet" in opened("drift").warning[0].value
    pd.DataFrame({"item": ["x"]}).to_parquet(first / "answers.parquet")
    with pytest.raises(InputError, match="no column correct: run the study again"):
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
    told = errors_of(opened(page))
    assert told
    assert all("run 'first': what this part shows cannot be read from what is stored (" in one for one in told)
    assert column in told[0]


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
def test_a_manifest_of_another_form_is_one_sentence(root, page, place):
    write_run(root / "second")
    without(root / "first" / "manifest.json", *place)
    app = opened(page, run="first")
    told = errors_of(app)
    assert page == "new_study" or (len(told) == 1 and f"(KeyError: '{place[-1]}')" in told[0])
    app.selectbox(key="run").set_value("second").run()
    assert page == "compare" or not errors_of(app)  # there it stands beside the other now


@pytest.mark.parametrize("page", ["question", "evidence", "compare", "claims"])
@pytest.mark.parametrize("place", [("settings",), ("settings", 0, "reasons"), ("settings", 0, "decision")])
def test_a_verdict_of_another_form_is_said_where_it_is_read(root, page, place):
    write_run(root / "second")
    without(root / "first" / "verdict.json", *place)
    told = errors_of(opened(page, run="first"))
    assert all(f"(KeyError: '{place[-1]}')" in one for one in told)
    assert told or page == "claims" or (page, place[-1]) == ("compare", "reasons")


def without(path: Path, *place: str | int) -> None:
    """Take one field out of a JSON file."""
    stored = json.loads(path.read_text())
    within = stored
    for name in place[:-1]:
        within = within[name]
    del within[place[-1]]
    path.write_text(json.dumps(stored))
