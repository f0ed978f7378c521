"""Is a choice among prompts informative? Every selector against chance, the best single prompt, the mixture, an oracle.

1. H0: the choice is independent of the item. Deal the choices out to other items and compare what was chosen with
   what would have been: a permutation test. Over all items of a group, knowing the relation counts as information;
   within relations, where an entity stands once, only knowing more than the relation does.
2. Compare with the best single prompt (picked on tune facts), random ones, the mixture, and the cross-fitted oracle.
3. Ask whether scores rank a bank's prompts as the answers do (Spearman, within an item), and whether the choice
   follows what has nothing to do with the item: a prompt's key norm, its place, its length.

What would count against a selector: p not small, or nothing gained over the best single prompt.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped
from scipy.stats import rankdata

from analysis.intervals import Estimate, clustered_mean

RESAMPLES = 2000
DRAWS = 20
"""What is said of the random choice is over so many draws: a single one finds the right prompt by luck now and then."""
BEST_SINGLE, RANDOM, MIXTURE, ORACLE = "fixed", "random", "mixture", "oracle"
RIVALS = {"best_single": BEST_SINGLE, "random": RANDOM, "mixture": MIXTURE, "oracle": ORACLE}
COVARIATES = {"key_norm": "key_norm", "position": "prompt", "length": "length"}
MEASURES = {"log_prob": "log_prob_by_prompt", "accuracy": "correct_by_prompt"}


@dataclass(frozen=True)
class Permuted:
    """A mean of what was chosen, what it would be under H0, and how rarely H0 gives as much."""

    observed: float
    expected: float
    """Mean over all ways of dealing the choices out: exact, not drawn."""
    p: float
    """One-sided; the data count as one draw, so it is never 0."""


def choice_permutation(
    values: Float[np.ndarray, "item prompt"],
    chosen: Int[np.ndarray, "item"] | Int[np.ndarray, "draw item"],
    blocks: Shaped[np.ndarray, " item"] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int,
) -> Permuted:
    """Test whether choices go with items, by dealing them out anew within blocks (all items are one unless told).

    A choice that was drawn several times is dealt out with all its draws, and its mean over draws is tested. Exact
    where items of a block are exchangeable under H0. Raises ValueError for shapes that do not fit.
    """
    values, drawn = np.asarray(values, dtype=float), np.atleast_2d(chosen)
    if values.ndim != 2 or drawn.ndim != 2 or drawn.shape[1] != len(values) or not drawn.size:
        raise ValueError(f"a permutation needs a choice per item: {values.shape} values, {drawn.shape} choices")
    home = np.zeros(len(values), dtype=int) if blocks is None else np.unique(blocks, return_inverse=True)[1]
    orders = _orders(tuple(home.tolist()), resamples, seed)
    places = np.arange(len(values))
    observed = float(values[places, drawn].sum())
    totals, expected = np.zeros(resamples), 0.0
    for one in drawn:
        totals += values.ravel()[one[orders] + values.shape[1] * places].sum(axis=1)
        for block in np.unique(home):
            inside = np.flatnonzero(home == block)
            shares = np.bincount(one[inside], minlength=values.shape[1]) / len(inside)
            expected += float((values[inside] @ shares).sum())
    # The margin keeps ties that rounding would part.
    p = (1 + (totals >= observed - 1e-9 * max(1.0, abs(observed))).sum()) / (1 + resamples)
    return Permuted(observed / drawn.size, expected / drawn.size, float(p))


@lru_cache(maxsize=4)
def _orders(home: tuple[int, ...], resamples: int, seed: int) -> Int[np.ndarray, "resample item"]:
    """Orders of items that keep each inside its block; all selectors of a table are dealt the same ones."""
    rng, blocks = np.random.default_rng(seed), np.array(home)
    orders = np.empty((resamples, len(home)), dtype=np.int32)
    for block in np.unique(blocks):
        places = np.flatnonzero(blocks == block).astype(np.int32)
        orders[:, places] = rng.permuted(np.broadcast_to(places, (resamples, len(places))), axis=1)
    orders.flags.writeable = False
    return orders


def rank_correlations(
    scores: Float[np.ndarray, "item prompt"], values: Float[np.ndarray, "item prompt"]
) -> Float[np.ndarray, " item"]:
    """Spearman's correlation over prompts within each item; NaN where either is the same for all prompts."""
    ranks = [rankdata(one, axis=1) for one in (scores, values)]
    centred = [one - one.mean(axis=1, keepdims=True) for one in ranks]
    scale = np.sqrt((centred[0] ** 2).sum(axis=1) * (centred[1] ** 2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, (centred[0] * centred[1]).sum(axis=1) / scale, np.nan)


def usage(chosen: Int[np.ndarray, " item"], prompts: int) -> tuple[Float[np.ndarray, " prompt"], float]:
    """Share of items for which each prompt was kept, and the entropy of these shares in bits."""
    shares = np.bincount(chosen, minlength=prompts) / len(chosen)
    used = shares[shares > 0]
    return shares, float(-(used * np.log2(used)).sum()) + 0.0


def covariate_correlation(shares: Float[np.ndarray, " prompt"], covariate: Float[np.ndarray, " prompt"]) -> float:
    """Pearson's correlation over (item, prompt) pairs of being kept and a prompt's covariate; NaN for a constant one.

    Between -1 and 1; reaches 1 only for two prompts of which one is always kept.
    """
    centred = np.asarray(covariate, dtype=float) - np.mean(covariate)
    mean = 1 / len(shares)
    scale = np.sqrt((centred**2).mean() * mean * (1 - mean))
    return float((centred * shares).mean() / scale) if scale > 1e-12 * (1 + np.abs(covariate).max()) else float("nan")


def selector_table(selections: pd.DataFrame, bank: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """One row per group, selector and measure (log-probability of the right answer in nats; accuracy), of one bank.

    Columns: value with lower and upper (95 %, entities resampled); expected and p when choices are dealt out to all
    items, expected_within_relation and p_within_relation when only inside a relation (NaN for the mixture); minus_X
    with its bounds for X the best single prompt, a drawn one, the mixture, the oracle; regret, what the best prompt in
    hindsight would add (an upper bound, as luck counts for it); usage by prompt, choice_bits; rank_correlation with
    bounds; own_prompt, the share of items for which the prompt tuned on their relation was kept, with its bounds (NaN
    where the bank has none for a relation); choice_and_key_norm, choice_and_position, choice_and_length; items,
    entities. No p is corrected.
    """
    rows = []
    for group, part in selections.groupby("group", sort=False):
        arms = {str(name): arm.reset_index(drop=True) for name, arm in part.groupby("selector", sort=False)}
        for name, arm in arms.items():
            about = {"group": group, "selector": name, "cost": arm["cost"].iloc[0]} | _about(arm, bank, seed)
            rows += [about | _measured(arm, arms, measure, seed) for measure in MEASURES]
    return pd.DataFrame(rows)


def _about(arm: pd.DataFrame, bank: pd.DataFrame, seed: int) -> dict[str, object]:
    """What is said of a selector's choices whatever they are worth."""
    told: dict[str, object] = {"items": len(arm), "entities": arm["entity"].nunique()}
    values = np.array(arm["log_prob_by_prompt"].tolist())
    if arm["chosen"].isna().any():
        nothing = {f"choice_and_{name}": np.nan for name in COVARIATES}
        unnamed = _named("rank_correlation", None) | _named("own_prompt", None)
        return told | {"usage": [], "choice_bits": np.nan} | unnamed | nothing
    shares, bits = usage(_draws(arm).ravel(), values.shape[1])
    ranks = rank_correlations(np.array(arm["scores"].tolist()), values)
    real = ~np.isnan(ranks)
    mean = clustered_mean(ranks[real], arm["entity"][real], seed=seed) if real.any() else None
    told |= {"usage": shares.tolist(), "choice_bits": bits} | _named("rank_correlation", mean)
    told |= _named("own_prompt", _own(arm, seed))
    return told | {
        f"choice_and_{name}": covariate_correlation(shares, bank[column].to_numpy(dtype=float))
        for name, column in COVARIATES.items()
    }


def _own(arm: pd.DataFrame, seed: int) -> Estimate | None:
    """How often the prompt tuned on the item's relation was kept; None where there is no such prompt."""
    if arm["own"].isna().any():
        return None
    right = (_draws(arm) == arm["own"].to_numpy(dtype=int)).mean(axis=0)
    return clustered_mean(right, arm["entity"], seed=seed)


def _draws(arm: pd.DataFrame) -> Int[np.ndarray, "draw item"]:
    """The choices of one selector: one draw, but for what is drawn at random."""
    return np.array(arm["draws"].tolist(), dtype=int).T


def _worth(arm: pd.DataFrame, measure: str) -> Float[np.ndarray, " item"]:
    """What was chosen is worth, item by item, the mean over draws."""
    if arm["chosen"].isna().any():
        return arm["log_prob" if measure == "log_prob" else "correct"].to_numpy(dtype=float)
    by_prompt = np.array(arm[MEASURES[measure]].tolist(), dtype=float)
    return np.take_along_axis(by_prompt, _draws(arm).T, axis=1).mean(axis=1)


def _measured(arm: pd.DataFrame, arms: Mapping[str, pd.DataFrame], measure: str, seed: int) -> dict[str, object]:
    """What a selector's choices are worth in one measure."""
    mine, entities = _worth(arm, measure), arm["entity"]
    by_prompt = np.array(arm[MEASURES[measure]].tolist(), dtype=float)
    told: dict[str, object] = {"measure": measure}
    mean = clustered_mean(mine, entities, seed=seed)
    told |= {"value": mean.estimate, "lower": mean.lower, "upper": mean.upper}
    told |= {"regret": float((by_prompt.max(axis=1) - mine).mean())}
    for name, blocks in {"": None, "_within_relation": arm["relation"].to_numpy()}.items():
        tested = None
        if not arm["chosen"].isna().any():
            tested = choice_permutation(by_prompt, _draws(arm), blocks, seed=seed)
        told[f"expected{name}"] = np.nan if tested is None else tested.expected
        told[f"p{name}"] = np.nan if tested is None else tested.p
    for name, rival in RIVALS.items():
        told |= _named(f"minus_{name}", clustered_mean(mine - _worth(arms[rival], measure), entities, seed=seed))
    return told


def _named(name: str, found: Estimate | None) -> dict[str, float]:
    """An estimate as three columns."""
    values = (np.nan,) * 3 if found is None else (found.estimate, found.lower, found.upper)
    return dict(zip((name, f"{name}_lower", f"{name}_upper"), values, strict=True))
