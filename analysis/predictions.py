"""The predictions, written down before any run (`predictions.yaml`), and those of them that decide nothing, evaluated.

What decides is measured in `analysis/hypothesis.py`; here stand the descriptions beside it, knowledge and mechanism
apart. A prediction that is not tested says so: what was not tested supports nothing.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from analysis.evidence import PLACEBO, Evidence
from analysis.reading import p_words
from analysis.statistics import Sample, crossed_sample

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
    """Whether C+R says again what D wrongly said, more often than C with untrained prompts does."""
    arms = {"dense": ("dense", ""), "compressed": (compression, ""), PLACEBO: (compression, placebo)}
    arms["repaired"] = (compression, repair)
    said = {}
    for name, (damage, what) in arms.items():
        rows = evidence.joined[evidence.rows(scope, damage, what, "test")]
        said[name] = rows.set_index(["relation", "entity", "replicate"])[["predicted", "correct"]]
    if any(table.empty for table in said.values()):
        return not_run(ERRORS, "cannot be said: dense, the compressed model or a placebo was not run")
    dense = said["dense"].groupby(level=["relation", "entity"]).first()
    wrong = dense[~dense["correct"].astype(bool)]["predicted"]
    differs = said["compressed"]["predicted"].groupby(level=["relation", "entity"]).first()
    wrong = wrong[wrong != differs.reindex(wrong.index)]
    entities = wrong.index.get_level_values("entity").nunique()
    if entities < FEWEST_ERRORS:
        return not_run(ERRORS, f"not applicable: D errs where C differs on {entities} test entities")
    tables = {}
    for name in ("repaired", PLACEBO):
        table = said[name]["predicted"].reset_index()
        table = table.merge(wrong.rename("dense").reset_index(), on=["relation", "entity"])
        agreed = table.assign(same=table["predicted"] == table["dense"])
        by = agreed.groupby(["replicate", "entity"])["same"].mean().unstack("entity")
        tables[name] = by.sort_index(axis=1).to_numpy(dtype=float)
    tables[PLACEBO] = tables[PLACEBO].mean(axis=0, keepdims=True)

    def beyond(arm: dict[str, np.ndarray]) -> np.ndarray:
        return arm["repaired"] - arm[PLACEBO]

    return sampled(ERRORS, crossed_sample(tables, beyond, seed=0), entities)


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
    found = tables[source]
    known = tables["variants"].set_index("variant_id")[["scope", "compression", "repair", "replicate"]]
    rows = found[(found["site"] == site) & (found["metric"] == metric) & (found["reference"] == "dense")]
    rows = rows.drop(columns=[one for one in known.columns if one in rows]).join(known, on="variant_id")
    rows = rows[(rows["scope"] == scope) & (rows["compression"] == compression)]
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
