"""Predictions that rest on a prompt tuned on dealt answers: what was planted is found, and the null is null."""

import numpy as np
import pandas as pd
import pytest

from analysis.evidence import Evidence
from analysis.predictions.capacity import capacity
from analysis.predictions.control_labels import learning_curves
from analysis.predictions.counterfactual import counterfactual

SETTING = {"scope": "main", "compression": "c", "repair": "prompt-8", "entities": 30}
SHUFFLED = "prompt-8-shuffled"
ARMS = {"dense": ("dense", ""), "compressed": ("c", ""), "repaired": ("c", "prompt-8"), "shuffled": ("c", SHUFFLED)}
COLUMNS = ["variant_id", "split", "entity", "bits", "correct"]


def variants(replicates=3):
    rows = [
        (f"{arm}/{seed}", "main", damage, repair, repair or damage, seed)
        for arm, (damage, repair) in ARMS.items()
        for seed in range(replicates)
    ]
    columns = ["variant_id", "scope", "compression", "repair", "variant", "replicate"]
    return pd.DataFrame(rows, columns=columns).assign(draw=0, parameters_added=0, bytes_added=0)


def answers(bits, *, split, people=30, known=30):
    """Everyone's bits by arm about a planted mean; of `people`, D answers `known` right."""
    draw = np.random.default_rng(0)
    rows = [
        (f"{arm}/{seed}", split, f"{split} {person}", mean + draw.normal(0, 0.1), arm != "dense" or person < known)
        for arm, mean in bits.items()
        for seed in range(3)
        for person in range(people)
    ]
    return pd.DataFrame(rows, columns=COLUMNS).assign(
        reading="candidates", phrasing="measure", relation="city", group="people", log_prob=-1.0
    )


def evidence(table):
    return Evidence(table, variants(), {"main": ["people"]}, "planted")


@pytest.mark.parametrize(("ahead", "supports"), [(0.5, "H1"), (0.0, "neither"), (-0.5, "neither")])
def test_real_answers_that_come_sooner_have_an_area(ahead, supports):
    draw = np.random.default_rng(0)
    rows = [
        (f"{arm}/{seed}", step, 3.0 - (ahead if arm == "repaired" else 0.0) + draw.normal(0, 0.01))
        for arm in ("repaired", "shuffled")
        for seed in range(3)
        for step in range(10)
    ]
    training = pd.DataFrame(rows, columns=["variant_id", "step", "loss"])
    found = learning_curves({"variants": variants(), "training": training}, SETTING, SHUFFLED)
    assert found["estimate"] == pytest.approx(ahead, abs=0.02)
    assert found["supports"] == supports


@pytest.mark.parametrize(("gain", "supports"), [(0.5, "H1"), (0.0, "neither"), (-0.5, "neither")])
def test_truth_that_comes_back_through_wrong_answers_is_found(gain, supports):
    table = answers({"dense": 4.0, "compressed": 1.0, "shuffled": 1.0 + gain}, split="test")
    found = counterfactual(evidence(table), SETTING, SHUFFLED)
    assert found["estimate"] == pytest.approx(gain, abs=0.05)
    assert (found["supports"], found["n"]) == (supports, 30)


def test_only_what_the_dense_model_knows_is_looked_for():
    table = answers({"dense": 4.0, "compressed": 1.0, "shuffled": 1.0}, split="test", known=12)
    unknown = table["entity"].isin([f"test {person}" for person in range(12, 30)])
    table.loc[unknown & table["variant_id"].str.startswith("shuffled"), "bits"] = 9.0
    found = counterfactual(evidence(table), SETTING, SHUFFLED)
    assert found["estimate"] == pytest.approx(0.0, abs=0.1)
    assert found["n"] == 12
    few = counterfactual(
        evidence(answers({"dense": 4.0, "compressed": 1.0, "shuffled": 1.0}, split="test", known=9)), SETTING, SHUFFLED
    )
    assert few["estimate"] is None
    assert "9 test entities" in few["sentence"]


@pytest.mark.parametrize(("returned", "stored", "supports"), [(2.0, 0.5, "H1"), (0.5, 2.0, "neither")])
def test_what_came_back_is_set_against_what_can_be_stored(returned, stored, supports):
    table = answers({"compressed": 1.0, "repaired": 1.0 + returned}, split="tune")
    dealt = answers({"shuffled": stored}, split="tune")
    found = capacity(evidence(table), {"variants": variants(), "dealt": dealt}, SETTING, SHUFFLED)
    assert found["estimate"] == pytest.approx(returned - stored, abs=0.1)
    assert found["supports"] == supports
    assert f"stored +{stored:.1f}" in found["sentence"]


def test_a_repair_without_a_twin_has_no_such_figures():
    setting, held = SETTING | {"repair": "lora-r4"}, {"variants": variants()}
    nothing = evidence(answers({"compressed": 1.0}, split="test"))
    found = [
        learning_curves(held, setting, SHUFFLED),
        counterfactual(nothing, setting, SHUFFLED),
        capacity(nothing, held, setting, SHUFFLED),
    ]
    assert all(one["estimate"] is None and "lora-r4 has no twin" in one["sentence"] for one in found)
