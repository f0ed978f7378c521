"""Predictions read from tables beside the answers: what was planted is found, what is not there is said to be so."""

import numpy as np
import pandas as pd
import pytest

from analysis.evidence import Evidence
from analysis.predictions.decodability import decodability
from analysis.predictions.direction import direction
from analysis.predictions.knockout import knockout
from analysis.predictions.lengths import length_scaling
from analysis.predictions.registry import further, predictions
from analysis.study import load_study

SETTING = {"scope": "main", "compression": "c", "repair": "prompt-8", "entities": 20}
ARMS = [("dense", ""), ("c", ""), ("c", "prompt-8"), ("c", "prompt-8-shuffled"), ("c", "placebo-8")]


def variants(replicates=3):
    rows = [
        (f"{damage}/{repair}/{seed}", "main", damage, repair, seed)
        for damage, repair in ARMS
        for seed in range(replicates)
    ]
    return pd.DataFrame(rows, columns=["variant_id", "scope", "compression", "repair", "replicate"]).assign(draw=0)


def probes(of_dense, of_compressed):
    rows = [
        (f"{damage}//0", "refitted", "probe_selectivity", layer, value, value - 0.1, value + 0.1)
        for damage, values in (("dense", of_dense), ("c", of_compressed))
        for layer, value in enumerate(values)
    ]
    columns = ["variant_id", "way", "metric", "layer", "value", "lower", "upper"]
    return {"variants": variants(), "probes": pd.DataFrame(rows, columns=columns).assign(group="open", entities=40)}


def test_the_layer_of_the_probe_is_chosen_on_the_dense_model():
    found = decodability(probes([0.1, 0.6, 0.2], [0.9, 0.0, 0.9]), SETTING)
    assert (found["estimate"], found["supports"], found["n"]) == (0.0, "neither", 40)
    assert decodability(probes([0.1, 0.6, 0.2], [0.0, 0.5, 0.0]), SETTING)["supports"] == "H1"


def test_the_layer_of_the_probe_is_that_of_the_group_that_is_told():
    """Of the first group that the study names, whatever its name and whatever another group's layers say."""
    first, second = probes([0.1, 0.6], [0.0, 0.5]), probes([9.0, 0.0], [0.3, 0.0])
    both = pd.concat([first["probes"], second["probes"].assign(group="graded")], ignore_index=True)
    found = decodability(first | {"probes": both}, SETTING)
    assert (found["estimate"], "open, layer 1" in found["sentence"]) == (0.5, True)


def test_the_window_that_loses_most_stands_with_the_p_of_the_family():
    table = pd.DataFrame(
        {
            "variant_id": "c/prompt-8/0",
            "intervention": "knockout",
            "form": "renormalised",
            "arm": "prompt keys - random keys",
            "head": [-1, -1, 0],
            "layer": [0, 2, 2],
            "last_layer": [0, 2, 2],
            "value": [0.1, 1.5, 9.0],
            "lower": [-1.0, 1.0, 8.0],
            "upper": [1.0, 2.0, 10.0],
            "p": [0.9, 0.02, 0.001],
            "entities": 12,
        }
    )
    found = knockout({"variants": variants(), "interventions": table}, SETTING)
    assert (found["estimate"], found["p"], found["supports"]) == (1.5, 0.02, "H1")
    assert "layers 2 to 2" in found["sentence"]
    # Another replicate's larger window does not borrow a p that was corrected within one.
    other = table.assign(variant_id="c/prompt-8/1", value=table["value"] + 1)
    again = knockout({"variants": variants(), "interventions": pd.concat([other, table])}, SETTING)
    assert again["estimate"] == 1.5


def test_direction_is_described_beside_untrained_prompts_and_supports_nothing():
    rows = [("c/prompt-8/0", 1, 0.4), ("c/placebo-8/0", 1, 0.3), ("c/prompt-8/0", 0, 9.0)]
    table = pd.DataFrame(rows, columns=["variant_id", "layer", "value"])
    table = table.assign(metric="direction", site="resid_post", group="questions")
    found = direction({"variants": variants(), "drift": table}, SETTING, "placebo-8")
    assert found["estimate"] == pytest.approx(0.1)
    assert (found["p"], found["supports"]) == (None, "neither")


@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_gains_that_grow_with_the_length_have_that_slope(slope):
    lengths = {f"prompt-{length}": length for length in (2, 8, 32)}
    draw = np.random.default_rng(0)
    answers, known = [], []
    for (name, length), seed in ((one, seed) for one in lengths.items() for seed in range(3)):
        known.append((f"{name}/{seed}", "main", "c", name, name, seed))
        for split, person in ((split, person) for split in ("test", "tune") for person in range(30)):
            value = 1 + slope * np.log2(length) + draw.normal(0, 0.05)
            answers.append((f"{name}/{seed}", split, f"{split} {person}", value))
    columns = ["variant_id", "scope", "compression", "repair", "variant", "replicate"]
    table = pd.DataFrame(answers, columns=["variant_id", "split", "entity", "bits"]).assign(
        reading="candidates", phrasing="measure", relation="city", group="people", correct=True, log_prob=-1.0
    )
    table_of_variants = pd.DataFrame(known, columns=columns).assign(draw=0, parameters_added=0, bytes_added=0)
    evidence = Evidence(table, table_of_variants, {"main": ["people"]}, "planted")
    found = length_scaling(evidence, SETTING, lengths)
    assert found["estimate"] == pytest.approx(slope, abs=0.03)
    assert found["lower"] <= found["estimate"] <= found["upper"]
    assert length_scaling(evidence, SETTING, {"prompt-8": 8})["estimate"] is None


def test_without_its_table_every_prediction_says_that_it_was_not_run():
    study = load_study("atlas")
    columns = ["reading", "phrasing", "variant_id", "relation", "entity", "split", "group", "bits", "log_prob"]
    empty = pd.DataFrame(columns=[*columns, "predicted", "correct"])
    known = variants().assign(variant="", parameters_added=0, bytes_added=0)
    evidence = Evidence(empty, known, {"main": ["people"]}, "planted")
    tables = {"variants": known, "drift": drift_of_nothing(), "attention": drift_of_nothing()}
    found = further(evidence, tables, SETTING | {"gain_bits": None, "relearned_bits": None}, study)
    assert [one["name"] for one in found] == [one.name for one in predictions() if not one.decides]
    assert all(one["estimate"] is None and one["supports"] == "neither" for one in found)
    assert all(len(one["sentence"]) > len(one["name"]) + 5 for one in found)


def drift_of_nothing():
    return pd.DataFrame(columns=["variant_id", "site", "metric", "reference", "layer", "group", "value"])
