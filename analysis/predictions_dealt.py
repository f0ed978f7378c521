"""Predictions that rest on the prompt tuned on answers dealt to the wrong subjects: what it learns that is not true.

R is a repair and R' its twin, tuned for as long on as many facts whose answers were dealt anew within their relation;
C is the compressed copy and D who knows. Each gives one entry for one setting; none decides anything.

    control labels           mean loss over the tuning of R' less that of R, paired by replicate
    counterfactual tuning    B(C+R') - B(C) on test facts that D knows: do wrong answers, too, lead to the right ones?
    capacity on tune facts   (B(C+R) - B(C)) - B'(C+R') on tune facts, B' being bits of the answers that R' was dealt

Bits are calibrated by relation, so that habits of answering (base rates) give none.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.evidence import Evidence
from analysis.intervals import crossed_sample
from analysis.predictions import Entry, measured, not_run, rows_of, sampled
from analysis.recovery import entity_table, item_counts

LABELS, COUNTERFACTUAL = "control labels", "counterfactual tuning"
CAPACITY = "capacity on tune facts"
FEWEST = 3
"""Replicates below which nothing is said of their mean."""
FEWEST_KNOWN = 10
"""Test entities that D must know for their mean to be a figure."""
Tables = Mapping[str, pd.DataFrame]
Setting = Mapping[str, Any]


def has_twin(setting: Setting, shuffled: str | None) -> bool:
    """Whether the setting's repair has a twin that was tuned on answers dealt anew."""
    return shuffled is not None and shuffled == f"{setting['repair']}-shuffled"


def _no_twin(name: str, setting: Setting) -> Entry:
    return not_run(name, f"not run: {setting['repair']} has no twin tuned on answers dealt anew")


def learning_curves(tables: Tables, setting: Setting, shuffled: str | None) -> Entry:
    """How much lower the loss on real answers runs than that on answers dealt anew, paired by replicate and step."""
    table = rows_of(tables, "training", setting)
    if table is None or not has_twin(setting, shuffled):
        return _no_twin(LABELS, setting)
    rows = table[table["compression"] == setting["compression"]]
    areas = rows.groupby(["replicate", "repair"])["loss"].mean().unstack("repair")
    if not {setting["repair"], shuffled} <= set(areas.columns) or len(areas) < FEWEST:
        return not_run(LABELS, f"cannot be said: fewer than {FEWEST} replicates of both were tuned")
    difference = (areas[shuffled] - areas[setting["repair"]]).dropna().to_numpy()
    test = stats.ttest_1samp(difference, 0.0, alternative="greater")
    lower, upper = stats.ttest_1samp(difference, 0.0).confidence_interval(0.95)
    figure = {"estimate": float(difference.mean()), "lower": float(lower), "upper": float(upper)}
    told = measured(LABELS, figure, float(test.pvalue), len(difference))
    told["sentence"] += "; nats per token, mean over steps"
    return told


def counterfactual(evidence: Evidence, setting: Setting, shuffled: str | None) -> Entry:
    """What tuning on wrong answers gives back of the right ones, on test facts that D answers right."""
    if shuffled is None or not has_twin(setting, shuffled):
        return _no_twin(COUNTERFACTUAL, setting)
    scope, compression = setting["scope"], setting["compression"]
    dense = evidence.dense_arm(scope, compression)
    if dense is None:
        return not_run(COUNTERFACTUAL, "cannot be said: no D of these facts was run")
    wanted = {
        "dense": dense,
        "compressed": (compression, "", "the compressed model"),
        "counterfactual": (compression, shuffled, f"the prompt {shuffled}"),
    }
    if absent := evidence.absent(wanted, scope, "test"):
        return not_run(COUNTERFACTUAL, f"cannot be said: no answers of {', '.join(absent)} on test")
    arms = evidence.arms(wanted, scope, "test").only(evidence.answered_right(scope, *dense[:2]))
    if arms is None or arms.entities < FEWEST_KNOWN:
        count = 0 if arms is None else arms.entities
        return not_run(COUNTERFACTUAL, f"not applicable: D knows facts of {count} test entities")
    return sampled(COUNTERFACTUAL, arms.measure(lambda arm: arm["counterfactual"] - arm["compressed"]), arms.entities)


def capacity(evidence: Evidence, tables: Tables, setting: Setting, shuffled: str | None) -> Entry:
    """What tuning on true answers returned of them beyond what the same tuning stores of answers dealt anew."""
    if shuffled is None or not has_twin(setting, shuffled):
        return _no_twin(CAPACITY, setting)
    dealt = rows_of(tables, "dealt", setting)
    stored = None if dealt is None else _stored(dealt, setting["compression"], shuffled)
    if stored is None or stored.empty:
        return not_run(CAPACITY, f"cannot be said: {shuffled} was not asked for what it was dealt")
    scope, compression = setting["scope"], setting["compression"]
    rows = {
        "repaired": evidence.joined[evidence.rows(scope, compression, setting["repair"], "tune")],
        "compressed": evidence.joined[evidence.rows(scope, compression, "", "tune")],
        "stored": stored,
    }
    if lack := [name for name, part in rows.items() if part.empty]:
        return not_run(CAPACITY, f"cannot be said: no answers of {', '.join(lack)} on tune")
    tables_of = {name: entity_table(part, "bits") for name, part in rows.items()}
    entities = sorted(set.intersection(*(set(table.columns) for table in tables_of.values())))
    arms = {name: table[entities].to_numpy(dtype=float) for name, table in tables_of.items()}
    weights = item_counts(rows["repaired"], pd.Index(entities))

    def beyond(arm: dict[str, np.ndarray]) -> np.ndarray:
        return arm["repaired"] - arm["compressed"] - arm["stored"]

    told = sampled(CAPACITY, crossed_sample(arms, beyond, weights=weights, seed=0), len(entities))
    held = crossed_sample({"": arms["stored"]}, lambda arm: arm[""], weights=weights, seed=0)
    told["sentence"] += f"; stored {held.point:+.2f}"
    return told


def _stored(dealt: pd.DataFrame, compression: str, shuffled: str) -> pd.DataFrame:
    """The twin's answers, right being what it was dealt."""
    kept = (dealt["reading"] == "candidates") & (dealt["compression"] == compression) & (dealt["repair"] == shuffled)
    return dealt[kept]
