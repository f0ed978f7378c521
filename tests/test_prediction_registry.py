"""Every prediction of the list is whole, proves what is planted in its table, and one more is a file and a line."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis import predictions as home
from analysis.predictions.comparisons import BEYOND
from analysis.predictions.prediction import RECORD, Asked, Entry, Prediction, Words, record
from analysis.predictions.registry import prediction_of, predictions, predictions_sha, registered
from analysis.run import prepare
from analysis.study import load_study
from data.errors import InputError
from tests.opened_pages import errors_of, opened
from tests.planted_predictions import PLANTED, planted
from tests.studies import AS_WRITTEN

BESIDE = pytest.mark.parametrize("name", [one.name for one in predictions() if not one.decides])
FIELDS = ["name", "about", "statistic", "estimate", "lower", "upper", "p", "p_corrected", "n", "supports", "sentence"]


def test_each_file_is_in_the_list_and_each_entry_has_words_and_a_way_or_decides():
    names = [one.name for one in predictions()]
    assert len(set(names)) == len(names)
    assert set(PLANTED) == {one.name for one in predictions() if not one.decides}
    for one in predictions():
        assert one.decides == (one.measure is None) == one.name.startswith(BEYOND)
        assert all(str(value) for value in one.words.stored().values())
    files = Path(home.__path__[0]).glob("*.py")
    listed = {path.stem for path in files if "Prediction(words=" in path.read_text()}
    source = Path(home.__path__[0], "registry.py").read_text()
    assert all(f"{module}." in source for module in listed)


def test_the_record_is_what_it_was_and_its_hash_is_that_of_its_bytes():
    """Manifests of runs that were made hold this hash: what they tested may not be written anew."""
    names = [one.name for one in predictions()]
    assert list(record()) == [one["name"] for one in yaml.safe_load(RECORD.read_text())]
    assert list(record()) == [name for name in names if name in record()]
    digest = hashlib.sha256(RECORD.read_bytes()).hexdigest()
    assert digest.startswith("2d4e189ea14e8999")
    assert (predictions_sha() == digest) == (len(names) == len(record()))


@BESIDE
def test_a_prediction_finds_what_was_planted_and_its_entry_has_the_form_of_all(name):
    one = prediction_of(name)
    asked, estimate, supports = planted(name)
    assert one.measure
    found = one.measure(asked)
    assert list(found) == FIELDS
    assert (found["name"], found["about"], found["statistic"]) == (name, one.words.about, one.words.statistic)
    assert found["estimate"] == pytest.approx(estimate, abs=0.06)
    assert found["supports"] == supports
    assert found["sentence"].startswith(f"{name}: {found['estimate']:+.2f}")
    if one.words.direction == "none":
        assert (found["p"], found["supports"]) == (None, "neither")
    elif supports != "neither":
        assert found["p"] < 0.05
        assert found["lower"] <= found["estimate"] <= found["upper"]


@BESIDE
def test_without_a_table_that_it_names_a_prediction_says_so_and_supports_nothing(name):
    one = prediction_of(name)
    asked, *_ = planted(name)
    assert one.measure
    for table in one.tables:
        empty = {**asked.tables, table: asked.tables[table].iloc[:0]}
        for tables in (empty, {key: kept for key, kept in asked.tables.items() if key != table}):
            found = one.measure(replace(asked, tables=tables))
            assert list(found) == FIELDS
            assert (found["estimate"], found["p"], found["supports"]) == (None, None, "neither")
            assert len(found["sentence"]) > len(name) + 10
    others = {key: kept for key, kept in asked.tables.items() if key in (*one.tables, "variants")}
    assert one.measure(replace(asked, tables=others)) == one.measure(asked)


def test_an_unknown_prediction_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="no prediction is called 'control label'; nearest: control labels"):
        prediction_of("control label")


# A prediction of the test's own: the share of dense's test answers that the repaired copy says as dense does.

TOY = Words(
    name="agreement with dense",
    about="mechanism",
    decides=False,
    direction="none",
    H0="described only",
    H1="described only",
    statistic="share of test answers",
    control="none",
    source="this test",
)


def agreement(asked: Asked) -> Entry:
    evidence = asked.evidence
    said = [
        evidence.joined[evidence.rows(asked.scope, compression, repair, "test")]
        .query("replicate == 0")
        .set_index("item")["predicted"]
        for compression, repair in (("dense", ""), (asked.compression, asked.repair))
    ]
    both = pd.concat(said, axis=1, join="inner")
    share = float((both.iloc[:, 0] == both.iloc[:, 1]).mean())
    return TOY.entry(estimate=share, n=len(both), sentence=f"{TOY.name}: {share:.2f} of {len(both)} test answers")


@pytest.fixture
def toy():
    entry = Prediction(words=TOY, measure=agreement)
    with registered(entry):
        yield entry
    with pytest.raises(InputError, match="agreement"):
        prediction_of(TOY.name)


STUDY = AS_WRITTEN


@pytest.mark.slow
def test_one_more_prediction_goes_from_a_study_to_its_verdict_the_report_and_the_page(
    toy, tmp_path, studies, monkeypatch
):
    path = tmp_path / "toy.yaml"
    path.write_text(STUDY)
    study = load_study(str(path))
    before = [cell.key for cell in prepare(study)[0].cells]
    folder = studies.run(study, tmp_path / "runs")
    assert [cell.key for cell in prepare(study)[0].cells] == before
    answers, variants = (pd.read_parquet(folder / f"{name}.parquet") for name in ("answers", "variants"))
    identity = {(one.scope, one.compression, one.repair): one.variant_id for one in variants.itertuples()}
    said: list[dict[str, Any]] = []
    for of in (("main", "dense", ""), ("main", "magnitude-60%", "prompt-2")):
        said.append(
            {
                row.item: row.predicted
                for row in answers.itertuples()
                if (row.variant_id, row.reading, row.split) == (identity[of], "candidates", "test")
                and row.phrasing == "measure"
            }
        )
    by_hand = np.mean([said[0][item] == said[1][item] for item in said[1]])
    verdict = json.loads((folder / "verdict.json").read_text())
    (setting,) = verdict["settings"]
    assert setting["further_predictions"][-1]["name"] == TOY.name
    assert setting["further_predictions"][-1]["estimate"] == pytest.approx(by_hand)
    assert len(said[1]) == setting["further_predictions"][-1]["n"] > 5
    assert TOY.name in (folder / "report.md").read_text()
    assert json.loads((folder / "manifest.json").read_text())["predictions_sha"] == predictions_sha()
    monkeypatch.setenv("PALIMPSEST_RUNS", str(folder.parent))
    page = opened("evidence", run=folder.name)
    assert errors_of(page) == []
    shown = next(one.value for one in page.dataframe if "said" in one.value).set_index("name")
    assert list(shown.index) == [one.name for one in predictions() if not one.decides]
    assert shown.loc[TOY.name, "estimate"] == pytest.approx(by_hand)


def test_one_more_prediction_changes_what_was_predicted_and_the_record_stays():
    alone = predictions_sha()
    with registered(Prediction(words=TOY, measure=agreement)):
        added = predictions_sha()
        with pytest.raises(ValueError, match="a prediction 'agreement with dense' already"):
            registered(Prediction(words=TOY, measure=agreement)).__enter__()
    other = Prediction(words=replace(TOY, H1="more than by chance"), measure=agreement)
    with registered(other):
        assert len({alone, added, predictions_sha()}) == 3
    assert predictions_sha() == alone
