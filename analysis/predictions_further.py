"""Every prediction that decides nothing, for one setting: measured where its tables are there, else said not to be."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pandas as pd

from analysis import predictions_dealt as dealt
from analysis import predictions_inside as inside
from analysis.evidence import Evidence
from analysis.predictions import (
    ACCOUNTED,
    DRIFTS,
    ERRORS,
    Entry,
    accounted,
    less_drift,
    return_to_errors,
    written,
)
from analysis.scopes import ABLATIONS, MAIN
from analysis.study import Study
from probes.specs.repairs import LoraSpec


def further(
    evidence: Evidence, tables: Mapping[str, pd.DataFrame], setting: Mapping[str, Any], study: Study
) -> list[Entry]:
    """Entries in the order in which the predictions were written down."""
    ways = _ways(evidence, tables, setting, study)
    beside = [one["name"] for one in written() if not one["decides"]]
    return [ways[name]() for name in beside]


def _ways(
    evidence: Evidence, tables: Mapping[str, pd.DataFrame], setting: Mapping[str, Any], study: Study
) -> dict[str, Callable[[], Entry]]:
    """How each prediction is measured, by its name."""
    place = (setting["scope"], setting["compression"], setting["repair"])
    placebo = f"placebo-{study.prompt.length}"
    lora = next((one.name for one in study.repairs if isinstance(one, LoraSpec)), None)
    shuffled = next((one.name for one in study.factless_prompts if one.answers == "shuffled"), None)
    return {
        **{name: partial(accounted, name, setting) for name in ACCOUNTED},
        **{name: partial(less_drift, name, tables, *place, lora) for name in DRIFTS},
        ERRORS: partial(return_to_errors, evidence, *place, placebo),
        inside.DECODABLE: partial(inside.decodability, tables, setting),
        inside.KNOCKOUT: partial(inside.knockout, tables, setting),
        inside.DIRECTION: partial(inside.direction, tables, setting, placebo),
        dealt.LABELS: partial(dealt.learning_curves, tables, setting, shuffled),
        dealt.COUNTERFACTUAL: partial(dealt.counterfactual, evidence, setting, shuffled),
        dealt.CAPACITY: partial(dealt.capacity, evidence, tables, setting, shuffled),
        inside.SCALING: partial(_length_scaling, evidence, setting, study),
    }


def _length_scaling(evidence: Evidence, setting: Mapping[str, Any], study: Study) -> Entry:
    """Over the study's own prompts; of the compression that ablations are of, over theirs where they have more."""
    own, more = inside.lengths_of(study.repairs), inside.lengths_of(study.ablated_repairs)
    ablated = study.ablated_compression
    if setting["scope"] != MAIN or ablated is None or ablated.name != setting["compression"] or len(more) <= len(own):
        return inside.length_scaling(evidence, setting, own)
    return inside.length_scaling(evidence, {**setting, "scope": ABLATIONS}, more)
