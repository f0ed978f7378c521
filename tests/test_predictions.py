"""Predictions: what decides is written down, the rest is measured or said to be absent, and a change is noticed."""

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from analysis import report
from analysis.evidence import Evidence
from analysis.predictions.errors import return_to_errors
from analysis.predictions.lora_drift import STREAM, less_drift
from analysis.predictions.registry import predictions_sha


def evidence(repaired_says, *, errors=20, people=30):
    """D errs on the first `errors` people; C says another wrong word; the repair says what it is told to."""
    says = {
        ("dense", ""): lambda place: "wrong-of-d" if place < errors else "right",
        ("c", ""): lambda place: "other",
        ("c", "placebo-8"): lambda place: "other",
        ("c", "prompt-8"): repaired_says,
    }
    answers, variants = [], []
    for (compression, repair), word in says.items():
        for replicate in range(3):
            identity = f"{compression}/{repair}/{replicate}"
            variants.append((identity, "main", compression, repair, repair, replicate, 0))
            for place in range(people):
                said = word(place)
                answers.append((identity, f"person {place}", said, said == "right"))
    columns = ["variant_id", "scope", "compression", "repair", "variant", "replicate", "parameters_added"]
    table = pd.DataFrame(answers, columns=["variant_id", "entity", "predicted", "correct"])
    constant = {"reading": "candidates", "phrasing": "measure", "relation": "city", "group": "people", "split": "test"}
    table = table.assign(**constant, bits=0.0, log_prob=-1.0)
    known = pd.DataFrame(variants, columns=columns).assign(draw=0, bytes_added=0)
    return Evidence(table, known, {"main": ["people"]}, "planted")


def test_what_the_repair_says_of_the_dense_models_errors_is_found_again():
    found = return_to_errors(
        evidence(lambda place: "wrong-of-d" if place % 2 else "other"), "main", "c", "prompt-8", "placebo-8"
    )
    assert found["estimate"] == pytest.approx(0.5)
    assert found["supports"] == "H1"
    assert found["n"] == 20


def test_right_answers_are_no_return_and_few_errors_say_nothing():
    right = return_to_errors(evidence(lambda place: "right"), "main", "c", "prompt-8", "placebo-8")
    assert (right["estimate"], right["supports"]) == (0.0, "neither")
    few = return_to_errors(evidence(lambda place: "right", errors=4), "main", "c", "prompt-8", "placebo-8")
    assert few["estimate"] is None
    assert "on 4 test entities" in few["sentence"]


def test_what_some_replicates_copy_says_already_is_no_return():
    """The third copy says half of D's errors itself: they are nothing that could return."""
    found = evidence(lambda place: "wrong-of-d" if place < 10 else "other")
    own = (found.joined["variant_id"] == "c//2") & found.joined["entity"].isin(
        [f"person {place}" for place in range(10)]
    )
    found.joined.loc[own, "predicted"] = "wrong-of-d"
    told = return_to_errors(found, "main", "c", "prompt-8", "placebo-8")
    assert (told["estimate"], told["n"]) == (0.0, 10)


@pytest.mark.parametrize(("lora", "supports"), [(0.5, "H1"), (0.1, "neither")])
def test_drift_is_compared_within_replicates(lora, supports):
    levels = {"prompt-8": 0.2, "lora-r4": lora}
    variants = pd.DataFrame(
        [(f"{name}{seed}", "main", "c", name, seed) for name in levels for seed in range(3)],
        columns=["variant_id", "scope", "compression", "repair", "replicate"],
    )
    noise = np.random.default_rng(0).normal(0, 0.005, len(variants))
    drift = pd.DataFrame(
        {
            "variant_id": variants["variant_id"],
            "value": variants["repair"].map(levels) + noise,
            "site": "resid_post",
            "metric": "relative_l2",
            "reference": "dense",
        }
    )
    tables = {"drift": drift, "variants": variants}
    found = less_drift(STREAM, tables, "main", "c", "prompt-8", "lora-r4")
    assert found["supports"] == supports
    assert found["estimate"] == pytest.approx(lora - 0.2, abs=0.02)
    assert less_drift(STREAM, tables, "main", "c", "prompt-8", None)["estimate"] is None


def test_predictions_that_changed_after_the_run_are_noticed():
    out = io.StringIO()
    for sha in (predictions_sha(), "of other predictions"):
        report.show_further(Console(file=out, width=200), {"predictions_sha": sha, "settings": []})
    assert out.getvalue().count("has changed since this run") == 1
