"""Predictions read from tables beside the answers: inside the models, and over prompt lengths.

Each gives one entry of `further_predictions` for one setting, measured or said to be absent; none decides anything.

    linear decodability         selectivity of a probe refitted to C, at the layer where D's is largest (chosen on D)
    knockout of prompt keys     log-odds lost beyond as many content keys, at the window where most is lost (max-T p)
    direction of drift          cosine with the way back to D at the last layer, tuned less untrained; described only
    prompt-length scaling       slope of the gain on the logarithm of the length; described only
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.evidence import Arms, Evidence
from analysis.predictions import Entry, entry, measured, not_run, rows_of
from probes.specs.repairs import PromptSpec
from probes.specs.variants import NamedSpec

DECODABLE, KNOCKOUT, DIRECTION = "linear decodability", "knockout of prompt keys", "direction of drift"
SCALING = "prompt-length scaling"
FEWEST = 3
"""Prompt lengths below which a trend over them is none."""
Tables = Mapping[str, pd.DataFrame]
Setting = Mapping[str, Any]


def _pick(table: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table


def decodability(tables: Tables, setting: Setting) -> Entry:
    """Whether a linear probe refitted to the compressed model reads the answers beyond control labels."""
    table = rows_of(tables, "probes", setting)
    if table is None:
        return not_run(DECODABLE, "not run: the study fits no probes (inside.probes)")
    chosen = _pick(table, way="refitted", metric="probe_selectivity", repair="")
    of_dense = _pick(chosen, compression="dense")
    if of_dense.empty:
        return not_run(DECODABLE, "cannot be said: no probe was refitted to the dense model")
    group = of_dense["group"].iloc[0]  # the first that the study names
    layer = _pick(of_dense, group=group).groupby("layer")["value"].mean().idxmax()
    found = _pick(chosen, compression=setting["compression"], group=group, layer=layer)
    if found.empty:
        return not_run(DECODABLE, f"not run: no probe was refitted to {setting['compression']}")
    one = found.loc[found["replicate"].idxmin()]
    error = (one["upper"] - one["lower"]) / (2 * stats.norm.ppf(0.975))
    p = float(stats.norm.sf(one["value"] / error)) if error > 0 else float(one["value"] <= 0)
    figure = {name: float(one[name]) for name in ("lower", "upper")} | {"estimate": float(one["value"])}
    told = measured(DECODABLE, figure, p, int(one["entities"]))
    told["sentence"] += f"; {one['group']}, layer {one['layer']}, where D's is largest; of C before any repair"
    return told


def knockout(tables: Tables, setting: Setting) -> Entry:
    """Whether taking the prompt's keys away from the content costs more than taking as many of the content's."""
    table = rows_of(tables, "interventions", setting)
    if table is None:
        return not_run(KNOCKOUT, "not run: the study intervenes nowhere (inside.interventions)")
    found = _pick(
        table,
        intervention="knockout",
        compression=setting["compression"],
        repair=setting["repair"],
        form="renormalised",
        arm="prompt keys - random keys",
        head=-1,
    )
    if found.empty:
        return not_run(KNOCKOUT, f"not run: no knockout with {setting['repair']} (inside.interventions.repairs)")
    # The p is corrected over the windows of a replicate, so only among those may the largest be taken.
    own = found[found["replicate"] == found["replicate"].min()].sort_values("layer")
    one = own.loc[own["value"].idxmax()]
    figure = {"estimate": float(one["value"]), "lower": float(one["lower"]), "upper": float(one["upper"])}
    told = measured(KNOCKOUT, figure, float(one["p"]), int(one["entities"]))
    window = f"layers {one['layer']} to {one['last_layer']}"
    told["sentence"] += f"; {window}, p by max-T over the windows; replicate {one['replicate']}"
    return told


def direction(tables: Tables, setting: Setting, placebo: str) -> Entry:
    """How much more a tuned repair moves the last layer towards D than an untrained prompt does."""
    table = rows_of(tables, "drift", setting)
    rows = None if table is None else _pick(table, metric="direction", compression=setting["compression"])
    if rows is None or rows.empty:
        return not_run(DIRECTION, "not run: the study does not measure it (drift.metrics)")
    last = _pick(rows, site="resid_post", layer=rows["layer"].max())
    last = last[last["group"] == "questions"] if "questions" in set(last["group"]) else last
    means = last.groupby("repair")["value"].mean()
    if not {setting["repair"], placebo} <= set(means.index):
        return not_run(DIRECTION, f"cannot be said: {setting['repair']} or {placebo} was not looked into")
    tuned, untrained = float(means[setting["repair"]]), float(means[placebo])
    sentence = (
        f"{DIRECTION}: {tuned - untrained:+.2f} at the last layer ({setting['repair']} {tuned:.2f}, untrained "
        f"{untrained:.2f}); described, not tested: both start at the parent"
    )
    return entry(DIRECTION, estimate=tuned - untrained, sentence=sentence)


def lengths_of(repairs: Sequence[NamedSpec]) -> dict[str, int]:
    """Soft tokens of the prompts that read true answers for the study's own steps, by name, the shortest first."""
    prompts = [one for one in repairs if isinstance(one, PromptSpec) and one.answers == "true" and one.steps is None]
    return {one.name: one.length for one in sorted(prompts, key=lambda one: one.length)}


def length_scaling(evidence: Evidence, setting: Setting, lengths: Mapping[str, int]) -> Entry:
    """Slope of the gain on test and on tune facts over the binary logarithm of the prompt's length.

    `lengths` holds the length of every plain prompt that the setting's scope asks, by its repair's name.
    """
    scope, compression = setting["scope"], setting["compression"]
    if setting["repair"] not in lengths or len(lengths) < FEWEST:
        return not_run(SCALING, f"not run: it takes prompts of {FEWEST} lengths")
    where = np.log2(list(lengths.values()))
    weights = (where - where.mean()) / np.square(where - where.mean()).sum()
    wanted = {name: (compression, name, name) for name in lengths}
    slopes = {}
    for split in ("test", "tune"):
        if absent := evidence.absent(wanted, scope, split):
            return not_run(SCALING, f"cannot be said: no answers of {', '.join(absent)} on {split}")
        slopes[split] = _slope(evidence.arms(wanted, scope, split), dict(zip(lengths, weights, strict=True)))
    (estimate, lower, upper), (tune, *_) = slopes["test"], slopes["tune"]
    sentence = (
        f"{SCALING}: {estimate:+.2f} [{lower:+.2f}, {upper:+.2f}] bits per fact on test for each doubling, {tune:+.2f} "
        f"on tune ({', '.join(map(str, sorted(lengths.values())))} tokens); described, not tested"
    )
    return entry(SCALING, estimate=estimate, lower=lower, upper=upper, sentence=sentence)


def _slope(arms: Arms, weights: Mapping[str, float]) -> tuple[float, float, float]:
    """A weighted sum of arms with its interval; weights that sum to zero make what is common to all drop out."""
    found = arms.measure(lambda arm: np.sum([weight * arm[name] for name, weight in weights.items()], axis=0))
    return found.point, *found.interval()
