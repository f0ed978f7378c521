"""Tests whose unit is the entity, their corrections over a family, and what size of effect they can find.

Answers about one entity are not independent, so permutations flip whole entities; intervals, and the p-values that
are read off their draws, are in `analysis/intervals.py`.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from analysis.intervals import crossed_sample

Alternative = Literal["two-sided", "greater", "less"]


def paired_permutation(
    differences_by_cluster: Float[np.ndarray, "cluster"],
    *,
    alternative: Alternative = "two-sided",
    resamples: int = 10_000,
    seed: int,
) -> float:
    """Give the p-value of a mean difference of 0 by flipping the sign of whole clusters, at random.

    Never 0: the data themselves count as one draw (Phipson & Smyth 2010, doi 10.2202/1544-6115.1585).
    """
    table = np.asarray(differences_by_cluster, dtype=float)[:, None]
    return float(max_t(table, alternative=alternative, resamples=resamples, seed=seed)[0])


def paired_p(ours: Float[np.ndarray, "seed cluster"], theirs: Float[np.ndarray, "seed cluster"], *, seed: int) -> float:
    """Give the two-sided p of a mean difference of 0 between arms of the same replicates and clusters.

    Sign flips of whole clusters; over several replicates the larger of that and Student's t at the crossed error: flips
    take these replicates for all there are, and where three seeds differ by .05 reject a null at .05 in .10 of trials.
    """
    flips = paired_permutation((ours - theirs).mean(axis=0), seed=seed)
    if len(ours) == 1:
        return flips
    arms = {"ours": ours, "theirs": theirs}
    return max(flips, crossed_sample(arms, lambda means: means["ours"] - means["theirs"], seed=seed).p_other_than_zero)


@lru_cache(maxsize=2)
def _signs(seed: int, resamples: int, clusters: int) -> Float[np.ndarray, "resample cluster"]:
    """Signs drawn at random, the same for every test of one size: hundreds of tests share them."""
    return 1.0 - 2.0 * np.random.default_rng(seed).integers(0, 2, size=(resamples, clusters))


def max_t(
    differences: Float[np.ndarray, "cluster statistic"],
    *,
    alternative: Alternative = "two-sided",
    resamples: int = 10_000,
    seed: int,
) -> Float[np.ndarray, "statistic"]:
    """Give p-values adjusted over a family by the largest t of joint sign flips (Westfall & Young 1993)."""
    differences = np.asarray(differences, dtype=float)
    if differences.ndim != 2 or not differences.size or np.isnan(differences).any():
        raise ValueError("sign flips need a difference per cluster and statistic, none of them NaN")
    turn = {"two-sided": np.abs, "greater": np.positive, "less": np.negative}[alternative]
    signs = _signs(seed, resamples, len(differences))
    # Flipping leaves the sum of squares as it is, so t rises with the mean over its root.
    root = np.sqrt(len(differences) * (differences**2).sum(axis=0))
    scale = np.where(root > 0, root, 1)
    observed = turn(differences.sum(axis=0) / scale)
    largest = turn(signs @ differences / scale).max(axis=1)
    # The margin keeps ties that rounding would part.
    return (1 + (largest[:, None] >= observed - 1e-12).sum(axis=0)) / (1 + resamples)


def holm(p_values: Float[np.ndarray, "setting"] | Sequence[float]) -> Float[np.ndarray, "setting"]:
    """Adjust p-values over settings (Holm 1979)."""
    if not len(p_values) or not all(0 <= p <= 1 for p in p_values):
        raise ValueError("Holm's correction needs p-values between 0 and 1")
    return multipletests(p_values, method="holm")[1]


def two_one_sided(
    draws: Float[np.ndarray, "resample"],
    margin: float | Float[np.ndarray, "resample"],
    *,
    level: float = 0.05,
) -> tuple[float, bool]:
    """Test by two one-sided tests on bootstrap draws that a difference lies within ±margin: p, equivalent.

    The margin may be drawn too (a share of a gap, under the same seed): its own error then counts.
    Schuirmann 1987, doi 10.1007/BF01068419.
    """
    if not len(draws) or np.isnan(draws).any() or not np.mean(margin) > 0:
        raise ValueError("equivalence needs draws without NaN and a margin above 0")
    p = float(max((1 + (side >= margin).sum()) / (1 + len(draws)) for side in (draws, -draws)))
    return p, p <= level


def mcnemar(first: Shaped[np.ndarray, "item"], second: Shaped[np.ndarray, "item"]) -> tuple[int, int, float]:
    """Describe where variants part: items right in the first alone, the second alone, exact p.

    Items count as independent: not for facts, of which several share a subject.
    """
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if first.shape != second.shape or not first.size:
        raise ValueError(f"McNemar needs the same items twice, got {first.shape} and {second.shape}")
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    table = [[0, only_first], [only_second, 0]]
    return only_first, only_second, float(statsmodels_mcnemar(table, exact=True).pvalue)


def power_of(effect: float, clusters: int, standard_deviation: float, *, level: float = 0.05) -> float:
    """Give the power of a two-sided paired t-test at a mean cluster difference of `effect`."""
    if clusters < 2 or not standard_deviation > 0:
        raise ValueError("power needs two clusters or more and a standard deviation above 0")
    return float(TTestPower().power(effect / standard_deviation, clusters, level, alternative="two-sided"))


def smallest_detectable(clusters: int, standard_deviation: float, *, power: float = 0.8, level: float = 0.05) -> float:
    """Give the smallest mean cluster difference that a two-sided paired t-test finds with this power."""
    power_of(0.0, clusters, standard_deviation)  # the same refusals
    effect = TTestPower().solve_power(nobs=clusters, alpha=level, power=power, alternative="two-sided")
    return float(effect * standard_deviation)


def items_needed(effect: float, standard_deviation: float, *, power: float = 0.8, level: float = 0.05) -> float:
    """Give how many pairs a two-sided paired t-test needs to find a mean difference as large as `effect`.

    Infinite where there is no difference; 2 where all pairs differ alike.
    """
    if not standard_deviation >= 0:
        raise ValueError("the number of items needs a standard deviation of 0 or more")
    if effect == 0:
        return float("inf")
    if standard_deviation == 0 or abs(effect) > 3 * standard_deviation:
        return 2.0
    size = TTestPower().solve_power(effect / standard_deviation, None, level, power, "two-sided")
    return float(np.ceil(np.atleast_1d(size)[0]))
