"""The predictions, written down before any run (`predictions.yaml`), and those of them that decide nothing, evaluated.

What decides is measured in `analysis/hypothesis.py`; here stand the descriptions beside it, knowledge and mechanism
apart. A prediction that is not tested says so: what was not tested supports nothing.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from scipy import stats

from analysis.evidence import PLACEBO, Evidence
from analysis.intervals import Sample, crossed_sample
from analysis.reading import p_words

WRITTEN = Path(__file__).with_name("predictions.yaml")
LEVEL = 0.05
FEWEST_ERRORS = 10
"""Entities on which D errs and C differs, below which the return to D's errors is not applicable."""
ERRORS = "return to the dense model's own errors"
DRIFTS = {
    "less drift of the residual stream than LoRA": ("drift", "resid_post", "relative_l2"),
    "less drift of attention than LoRA": ("attention", "pattern", "jensen_shannon"),
}
ACCOUNTED = {
    "test facts come back": ("gain_bits", "gain_p", "H1"),
    "tune facts come back beyond test facts": ("relearned_bits", "relearned_p", "H0"),
}
"""Predictions that the four-way account holds: its quantity, its p, and what a value above 0 supports."""
Entry = dict[str, Any]


@cache
def written() -> tuple[Entry, ...]:
    """Every prediction as it was written down."""
    return tuple(yaml.safe_load(WRITTEN.read_text(encoding="utf-8")))


def predictions_sha() -> str:
    """Hash of the predictions, for the manifest: what was predicted may not change after the run."""
    return hashlib.sha256(WRITTEN.read_bytes()).hexdigest()


def entry(name: str, **found: Any) -> Entry:
    """What is said of a prediction: as written down, with the figures that were found."""
    own = next(one for one in written() if one["name"] == name)
    blank = dict.fromkeys(("estimate", "lower", "upper", "p", "p_corrected", "n"))
    return {"name": name, "about": own["about"], "statistic": own["statistic"], **blank, "supports": "neither", **found}


def not_run(name: str, why: str) -> Entry:
    """A prediction of which nothing is said; tables may still describe what it is about."""
    return entry(name, sentence=f"{name}: {why}")


def measured(name: str, found: Mapping[str, float], p: float, n: int, *, above: str = "H1") -> Entry:
    """A prediction with its figure; `above` is the hypothesis that a value above 0 supports."""
    statistic = next(one["statistic"] for one in written() if one["name"] == name)
    figure = f"{found['estimate']:+.2f} [{found['lower']:+.2f}, {found['upper']:+.2f}], p {p_words(p)}, n {n}"
    supports = above if p < LEVEL else "neither"
    return entry(name, **found, p=p, n=n, supports=supports, sentence=f"{name}: {figure} ({statistic})")


def sampled(name: str, found: Sample, n: int) -> Entry:
    """A prediction whose figure was drawn by the bootstrap: its 95 % interval and one-sided p above 0."""
    lower, upper = found.interval()
    return measured(name, {"estimate": found.point, "lower": lower, "upper": upper}, found.p_above_zero, n)


def rows_of(tables: Mapping[str, pd.DataFrame], name: str, setting: Mapping[str, Any]) -> pd.DataFrame | None:
    """The rows of a table that lie in the setting's scope, with what each variant is; None where there is no table."""
    if name not in tables or tables[name].empty:
        return None
    known = tables["variants"].set_index("variant_id")[["scope", "compression", "repair", "replicate"]]
    table = tables[name]
    joined = table.drop(columns=[one for one in known.columns if one in table]).join(known, on="variant_id")
    return joined[joined["scope"] == setting["scope"]]


def return_to_errors(evidence: Evidence, scope: str, compression: str, repair: str, placebo: str) -> Entry:
    """Whether C+R says again what D wrongly said, more often than C with untrained prompts does.

    Asked of the facts that D answers wrong and that C answers otherwise in every replicate.
    """
    dense = evidence.dense_arm(scope, compression)
    if dense is None:
        return not_run(ERRORS, "cannot be said: no D of these facts was run")
    arms = {"dense": dense[:2], "compressed": (compression, ""), PLACEBO: (compression, placebo)}
    arms["repaired"] = (compression, repair)
    said, correct = {}, {}
    for name, (damage, what) in arms.items():
        rows = evidence.joined[evidence.rows(scope, damage, what, "test")]
        by = {"index": ["relation", "entity"], "columns": "replicate"}
        said[name], correct[name] = rows.pivot(values="predicted", **by), rows.pivot(values="correct", **by)
    if any(table.empty for table in said.values()):
        return not_run(ERRORS, "cannot be said: D, the compressed model, the repair or a placebo was not run")
    told = said["dense"].iloc[:, 0]
    wrong = ~correct["dense"].iloc[:, 0].astype(bool)
    lost = told[wrong & said["compressed"].ne(told, axis=0).all(axis=1)]
    entities = lost.index.get_level_values("entity").nunique()
    if entities < FEWEST_ERRORS:
        return not_run(ERRORS, f"not applicable: D errs where C differs on {entities} test entities")
    tables = {
        name: said[name].loc[lost.index].eq(lost, axis=0).groupby(level="entity").mean().T.to_numpy(dtype=float)
        for name in ("repaired", PLACEBO)
    }
    tables[PLACEBO] = tables[PLACEBO].mean(axis=0, keepdims=True)
    return sampled(ERRORS, crossed_sample(tables, lambda arm: arm["repaired"] - arm[PLACEBO], seed=0), entities)


def accounted(name: str, setting: Mapping[str, Any]) -> Entry:
    """What the setting's own account measures already."""
    quantity, p, above = ACCOUNTED[name]
    if quantity not in setting:
        return not_run(name, "cannot be said: an arm was not run")
    return measured(name, setting[quantity], setting[p], setting["entities"], above=above)


def less_drift(
    name: str, tables: Mapping[str, pd.DataFrame], scope: str, compression: str, repair: str, lora: str | None
) -> Entry:
    """How much further from dense LoRA lies than the repair, paired within replicate; t over replicates.

    Recovery and parameters are not matched here; the sentence says so.
    """
    if lora is None:
        return not_run(name, "not applicable: there is no LoRA in this study to compare it with")
    if lora == repair:
        return not_run(name, "not applicable: this is the LoRA that the others are compared with")
    source, site, metric = DRIFTS[name]
    found = rows_of(tables, source, {"scope": scope})
    if found is None:
        return not_run(name, f"cannot be said: table '{source}' is empty")
    rows = found[(found["site"] == site) & (found["metric"] == metric) & (found["reference"] == "dense")]
    rows = rows[rows["compression"] == compression]
    means = rows[rows["repair"].isin([repair, lora])].groupby(["replicate", "repair"])["value"].mean().unstack("repair")
    if not {repair, lora} <= set(means.columns) or len(means.dropna()) < 3:
        return not_run(name, "cannot be said: fewer than three replicates of both repairs were looked into")
    difference = (means[lora] - means[repair]).dropna().to_numpy()
    test = stats.ttest_1samp(difference, 0.0, alternative="greater")
    low, high = stats.ttest_1samp(difference, 0.0).confidence_interval(0.95)
    quantity = {"estimate": float(difference.mean()), "lower": float(low), "upper": float(high)}
    entry = measured(name, quantity, float(test.pvalue), len(difference))
    entry["sentence"] += "; neither recovery nor parameters are matched"
    return entry
