"""A small world in which every prediction that stands beside the verdict has a known answer."""

import functools
from typing import Any

import numpy as np
import pandas as pd

from analysis.evidence import Evidence
from analysis.predictions.prediction import Asked
from analysis.study import Study
from tests.studies import STUDY

PEOPLE, ERRORS, REPLICATES = 40, 20, 3
"""Test and tune people each; on how many test people dense errs; replicates of every arm."""
LENGTHS = (8, 2, 32)
BITS = {
    "test": {"dense": 4.0, "c": 1.0, "prompt-8": 1.5, "prompt-8-shuffled": 1.25, "placebo-8": 1.0}
    | {"prompt-2": 1.0, "prompt-32": 2.0},
    "tune": {"dense": 4.0, "c": 1.0, "prompt-8": 3.0, "prompt-2": 2.0, "prompt-32": 4.0},
}
"""Mean bits per fact of every arm; over two doublings a gain of half a bit on test, hence a slope of a quarter."""
STORED = 0.5
"""Bits that the twin holds of the answers that it was dealt."""
PLANTED: dict[str, tuple[float, str]] = {
    "test facts come back": (0.5, "H1"),
    "tune facts come back beyond test facts": (1.5, "H0"),
    "return to the dense model's own errors": (0.5, "H1"),
    "less drift of the residual stream than LoRA": (0.3, "H1"),
    "less drift of attention than LoRA": (0.2, "H1"),
    "direction of drift": (0.1, "neither"),
    "linear decodability": (0.5, "H1"),
    "knockout of prompt keys": (1.5, "H1"),
    "control labels": (0.5, "H1"),
    "counterfactual tuning": (0.25, "H1"),
    "capacity on tune facts": (3.0 - 1.0 - STORED, "H1"),
    "prompt-length scaling": (0.25, "neither"),
}
"""By prediction: its figure and what it supports."""
SETTING: dict[str, Any] = {
    **{"scope": "main", "compression": "c", "repair": "prompt-8", "entities": PEOPLE},
    **{"gain_bits": {"estimate": 0.5, "lower": 0.4, "upper": 0.6}, "gain_p": 0.001},
    **{"relearned_bits": {"estimate": 1.5, "lower": 1.2, "upper": 1.8}, "relearned_p": 0.002},
}


def planted(name: str) -> tuple[Asked, float, str]:
    """The world, and what a prediction has to find in it."""
    return world(), *PLANTED[name]


@functools.cache
def world() -> Asked:
    """Of all predictions the one setting: dense knows half of the test facts, c lost them, prompt-8 is the repair."""
    variants = _variants()
    evidence = Evidence(_answers(), variants, {"main": ["people"]}, "planted")
    return Asked(evidence, {"variants": variants} | _tables(), SETTING, study())


def study() -> Study:
    """Prompts of three lengths, of which 8 is the study's own, and LoRA."""
    stored = STUDY.model_dump(mode="json")
    repairs = [{"kind": "prompt", "length": one, "learning_rate": 0.03} for one in LENGTHS]
    repairs.append({"kind": "lora", "rank": 4, "learning_rate": 0.01})
    return Study.model_validate(stored | {"repairs": repairs, "reported": ["prompt-8"], "controls": []})


def _variants() -> pd.DataFrame:
    repairs = ["", "prompt-8", "prompt-8-shuffled", "placebo-8", "prompt-2", "prompt-32", "lora-r4"]
    arms = [("dense", "")] + [("c", repair) for repair in repairs]
    rows = [
        (f"{repair or damage}/{seed}", "main", damage, repair, repair or damage, seed)
        for damage, repair in arms
        for seed in range(REPLICATES)
    ]
    columns = ["variant_id", "scope", "compression", "repair", "variant", "replicate"]
    return pd.DataFrame(rows, columns=columns).assign(draw=0, parameters_added=0, bytes_added=0)


def _said(arm: str, place: int) -> str:
    """Dense errs on the first people; the repair says every second of these errors again."""
    if arm == "dense" or (arm == "prompt-8" and place % 2):
        return "wrong-of-d" if place < ERRORS else "right"
    return "other"


def _answers() -> pd.DataFrame:
    draw = np.random.default_rng(0)
    rows = [
        (f"{arm}/{seed}", split, f"{split} {place:02d}", mean + draw.normal(0, 0.05), _said(arm, place))
        for split, arms in BITS.items()
        for arm, mean in arms.items()
        for seed in range(REPLICATES)
        for place in range(PEOPLE)
    ]
    table = pd.DataFrame(rows, columns=["variant_id", "split", "entity", "bits", "predicted"])
    return table.assign(correct=table["predicted"] == "right", **CONSTANT)


CONSTANT = {"reading": "candidates", "phrasing": "measure", "relation": "city", "group": "people", "log_prob": -1.0}


def _tables() -> dict[str, pd.DataFrame]:
    draw = np.random.default_rng(1)
    seeds = range(REPLICATES)

    def levels(values: dict[str, float], **where: Any) -> pd.DataFrame:
        rows = [(f"{arm}/{seed}", value + draw.normal(0, 0.002)) for arm, value in values.items() for seed in seeds]
        return pd.DataFrame(rows, columns=["variant_id", "value"]).assign(
            **{"reference": "dense", "layer": 1, "group": "questions"} | where
        )

    stream = levels({"lora-r4": 0.5, "prompt-8": 0.2}, site="resid_post", metric="relative_l2")
    moved = levels({"prompt-8": 0.4, "placebo-8": 0.3}, site="resid_post", metric="direction")
    selective = [(arm, layer, value) for arm, values in PROBES.items() for layer, value in enumerate(values)]
    probes = pd.DataFrame(selective, columns=["variant_id", "layer", "value"])
    losses = {"prompt-8": 2.5, "prompt-8-shuffled": 3.0}
    dealt = [
        (f"prompt-8-shuffled/{seed}", f"tune {place:02d}", STORED + draw.normal(0, 0.05))
        for seed in seeds
        for place in range(PEOPLE)
    ]
    return {
        "drift": pd.concat([stream, moved], ignore_index=True),
        "attention": levels({"lora-r4": 0.3, "prompt-8": 0.1}, site="pattern", metric="jensen_shannon"),
        "probes": probes.assign(
            way="refitted",
            metric="probe_selectivity",
            lower=probes["value"] - 0.1,
            upper=probes["value"] + 0.1,
            group="open",
            entities=PEOPLE,
        ),
        "interventions": pd.DataFrame(
            {
                **{"variant_id": "prompt-8/0", "intervention": "knockout", "form": "renormalised"},
                **{"arm": "prompt keys - random keys", "head": -1, "layer": [0, 2], "last_layer": [1, 3]},
                **{"value": [0.1, 1.5], "lower": [-1.0, 1.0], "upper": [1.0, 2.0], "p": [0.9, 0.02], "entities": 12},
            }
        ),
        "training": pd.DataFrame(
            [
                (f"{arm}/{seed}", step, loss + draw.normal(0, 0.01))
                for arm, loss in losses.items()
                for seed in seeds
                for step in range(10)
            ],
            columns=["variant_id", "step", "loss"],
        ),
        "dealt": pd.DataFrame(dealt, columns=["variant_id", "entity", "bits"]).assign(split="tune", **CONSTANT),
    }


PROBES = {"dense/0": [0.1, 0.6, 0.2], "c/0": [0.9, 0.5, 0.9]}
"""Selectivity by layer: dense's is largest at layer 1."""
