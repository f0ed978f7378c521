"""Estimates with intervals whose unit is the entity, not the answer; tests are in `analysis/significance.py`.

Answers about one entity are not independent, nor are runs of one seed, so intervals resample entities (and
seeds, crossed: the pigeonhole bootstrap, Owen 2007, doi 10.1214/07-AOAS122). Few seeds make a percentile
interval far too short: draws are therefore stretched about the estimate until their spread is Student's t times
the two-way jackknife error, with Satterthwaite's degrees of freedom (as Clark 1973,
doi 10.1016/S0022-5371(73)80014-3, did for subjects x items).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Shaped
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

Arms = Mapping[str, Float[np.ndarray, "seed entity"]]
Combine = Callable[[dict[str, np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval, and how many items and clusters (entities) it rests on."""

    estimate: float
    lower: float
    upper: float
    n: int
    clusters: int
    level: float

    def __str__(self) -> str:
        shown = (f"{value:.2f}" for value in (self.estimate, self.lower, self.upper))
        bare = [re.sub(r"^-(?=\.00)", "", re.sub(r"^(-?)0\.", r"\1.", text)) for text in shown]
        return f"{bare[0]} [{bare[1]}, {bare[2]}]"


def clustered_mean(
    values: Float[np.ndarray, "item"],
    clusters: Shaped[np.ndarray, "item"] | Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int,
) -> Estimate:
    """Give the mean over items with a bootstrap interval that resamples whole clusters."""
    values = np.asarray(values, dtype=float)
    if values.shape != (len(clusters),) or np.isnan(values).any():
        raise ValueError("a clustered mean needs one cluster per value and no NaN")
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    counts = np.bincount(index).astype(float)
    means = np.bincount(index, weights=values) / counts if len(values) else counts
    return crossed_mean(means[None], weights=counts, level=level, resamples=resamples, seed=seed)


def clustered_columns(
    values: Float[np.ndarray, "item column"],
    clusters: Shaped[np.ndarray, "item"] | Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int,
) -> tuple[Float[np.ndarray, "column"], Float[np.ndarray, "column"], Float[np.ndarray, "column"]]:
    """Give what `clustered_mean` gives of each column, mean and interval, many columns at a time."""
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or len(values) != len(clusters) or not values.size or np.isnan(values).any():
        raise ValueError("clustered columns need one cluster per item, a column or more and no NaN")
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    counts, sums = np.bincount(index).astype(float), np.zeros((index.max() + 1, values.shape[1]))
    np.add.at(sums, index, values)
    whole = values.mean(axis=0)
    _, drawn = _resampled((1, len(counts)), resamples, seed)
    draws = (drawn @ sums) / (drawn @ counts)[:, None]
    spread, size = draws.std(axis=0), len(counts)
    if size > 1:
        left_out = (values.sum(axis=0) - sums) / (counts.sum() - counts)[:, None]
        error = np.sqrt((size - 1) * left_out.var(axis=0))
        stretch = stats.t.ppf(0.975, size - 1) / stats.norm.ppf(0.975)
        wider = np.divide(error * stretch, spread, out=np.ones_like(spread), where=spread > 0)
        draws = whole + (draws - draws.mean(axis=0)) * wider
    return whole, *interval_of(draws, level=level)


def crossed_mean(
    values: Float[np.ndarray, "seed entity"],
    *,
    weights: Float[np.ndarray, "entity"] | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int,
) -> Estimate:
    """Give one arm's mean over seeds and entities; NaN marks an absent cell, `weights` are item counts."""
    return crossed_estimate(
        {"": values}, lambda means: means[""], weights=weights, level=level, resamples=resamples, seed=seed
    )


def crossed_estimate(
    arms: Arms,
    combine: Combine,
    *,
    weights: Float[np.ndarray, "entity"] | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int,
) -> Estimate:
    """Give a combination of arm means with its interval from `crossed_sample`."""
    table = _Crossed.of(arms, combine, weights)
    lower, upper = table.sample(resamples, seed).interval(level)
    seen = table.present.any(axis=(0, 1))
    return Estimate(table.whole, lower, upper, round(table.weights[seen].sum()), int(seen.sum()), level)


@dataclass(frozen=True)
class Sample:
    """A combination of arm means over all there is, its draws over seeds x entities, and its jackknife error."""

    point: float
    draws: Float[np.ndarray, " resample"]
    error: float
    freedom: float
    """Satterthwaite's degrees of freedom of the error."""

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The ends of the interval of the draws."""
        lower, upper = np.quantile(self.draws, [(1 - level) / 2, (1 + level) / 2])
        return float(lower), float(upper)

    @property
    def p_above_zero(self) -> float:
        """The one-sided p against zero or less: the larger of the draws' and of Student's t; never zero.

        The draws fit t at 97.5 % and no further out, and three seeds can be drawn in ten ways only: below .025 the
        draws reject several times too often (at a nominal .0025 in .017 of null trials), and a correction over many
        settings reaches there.
        """
        drawn = float((1 + np.sum(self.draws <= 0)) / (1 + len(self.draws)))
        return drawn if self.error == 0 else max(drawn, float(stats.t.sf(self.point / self.error, self.freedom)))

    @property
    def p_other_than_zero(self) -> float:
        """The two-sided p of Student's t; 1 where nothing varies about zero, 0 where nothing varies about another."""
        if self.error == 0:
            return float(self.point == 0)
        return float(2 * stats.t.sf(abs(self.point) / self.error, self.freedom))

    def less(self, other: "Sample") -> "Sample":
        """This less another that was drawn independently."""
        squares = np.array([self.error, other.error]) ** 2
        total = squares.sum()
        freedom = total**2 / (squares**2 / [self.freedom, other.freedom]).sum() if total else 1.0
        return Sample(self.point - other.point, self.draws - other.draws, float(np.sqrt(total)), float(freedom))


def crossed_sample(
    arms: Arms,
    combine: Combine,
    *,
    weights: Float[np.ndarray, "entity"] | None = None,
    resamples: int = 2000,
    seed: int,
    stretch: bool = True,
) -> Sample:
    """Draw a combination of arm means over seeds x entities, every arm under the same draw.

    Arms are [seed, entity] on the same entities (NaN: absent; one row holds under every seed, as the dense
    model's does); `combine` maps {arm: [resample] means} to [resample]. `stretch` corrects for few seeds or
    entities, as the module says; a single seed leaves variation over seeds out. Raises ValueError for
    misshapen arms, and for an arm so thin, or a ratio with so small a base, that a draw is not a number.
    """
    return _Crossed.of(arms, combine, weights).sample(resamples, seed, stretch=stretch)


@dataclass(frozen=True)
class _Crossed:
    """The arms as sums and counts, ready for any weighting of seeds and entities."""

    names: list[str]
    sums: Float[np.ndarray, "arm seed entity"]
    present: Float[np.ndarray, "arm seed entity"]
    weights: Float[np.ndarray, "entity"]
    combine: Combine

    @classmethod
    def of(cls, arms: Arms, combine: Combine, weights: np.ndarray | None) -> "_Crossed":
        tables = [np.asarray(table, dtype=float) for table in arms.values()]
        if not tables or any(table.ndim != 2 or not table.size for table in tables):
            raise ValueError("every arm needs a table of seeds x entities that is not empty")
        seeds, entities = max(len(table) for table in tables), tables[0].shape[1]
        if any(table.shape not in {(seeds, entities), (1, entities)} for table in tables):
            raise ValueError(f"arms differ in shape: {[table.shape for table in tables]}")
        weights = np.ones(entities) if weights is None else np.asarray(weights, dtype=float)
        if weights.shape != (entities,) or not (weights >= 0).all():
            raise ValueError(f"{entities} entities need as many weights, none negative or NaN")
        stacked = np.stack([np.broadcast_to(table, (seeds, entities)) for table in tables])
        present = ~np.isnan(stacked) * weights
        return cls(list(arms), np.nan_to_num(stacked) * present, present, weights, combine)

    def means(self, seeds: Float[np.ndarray, "draw seed"], entities: Float[np.ndarray, "draw entity"]) -> np.ndarray:
        """Combine the arm means under each draw's multiplicities of seeds and of entities: [draw]."""
        with np.errstate(invalid="ignore", divide="ignore"):
            total, count = (
                np.einsum("ds,ads->ad", seeds, entities @ table.transpose(0, 2, 1))
                for table in (self.sums, self.present)
            )
            combined = self.combine(dict(zip(self.names, total / count, strict=True)))
        if not np.isfinite(combined).all():
            raise ValueError("an arm is too thin, or a base too small: a draw is not a number")
        return combined

    @property
    def whole(self) -> float:
        """The combination over all seeds and entities."""
        return float(self.means(*(np.ones((1, size)) for size in self.sums.shape[1:]))[0])

    def sample(self, resamples: int, seed: int, *, stretch: bool = True) -> Sample:
        draws = self.means(*_resampled(self.sums.shape[1:], resamples, seed))
        spread = draws.std()
        error, freedom = self.jackknife()
        if stretch and spread > 0:
            wider = error * stats.t.ppf(0.975, freedom) / (spread * stats.norm.ppf(0.975))
            draws = self.whole + (draws - draws.mean()) * wider
        return Sample(self.whole, draws, error, freedom)

    def jackknife(self) -> tuple[float, float]:
        """Give the error from leaving out one seed or entity at a time, and its degrees of freedom."""
        sizes = self.sums.shape[1:]
        variances = []
        for axis, size in enumerate(sizes):
            if size > 1:
                left_out = [np.ones((size, other)) for other in sizes]
                left_out[axis] -= np.eye(size)
                variances.append(((size - 1) * self.means(*left_out).var(), size - 1))
        total = sum(variance for variance, _ in variances)
        if not total:
            return 0.0, 1.0
        return float(np.sqrt(total)), total**2 / sum(variance**2 / free for variance, free in variances)


@lru_cache(maxsize=8)
def _resampled(sizes: tuple[int, ...], resamples: int, seed: int) -> tuple[Float[np.ndarray, "draw unit"], ...]:
    """How often each seed and each entity is drawn: the same for every estimate over as many, so drawn once."""
    rng = np.random.default_rng(seed)
    drawn = tuple(_multiplicities(rng, resamples, size) for size in sizes)
    for one in drawn:
        one.flags.writeable = False
    return drawn


def _multiplicities(rng: np.random.Generator, draws: int, size: int) -> Float[np.ndarray, "draw unit"]:
    drawn = rng.integers(size, size=(draws, size)) + size * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * size).reshape(draws, size).astype(float)


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> Estimate:
    """Give a share with its exact binomial interval (Clopper & Pearson 1934)."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n} is not a share")
    lower, upper = proportion_confint(successes, n, alpha=1 - level, method="beta")
    return Estimate(successes / n, float(lower), float(upper), n, n, level)


def bootstrap_means(
    values: Float[np.ndarray, "cluster column"], *, resamples: int = 1000, seed: int
) -> Float[np.ndarray, "draw column"]:
    """Give the means of each column over clusters drawn with replacement, all columns under the same draws."""
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or not values.size or np.isnan(values).any():
        raise ValueError("column means need a value per cluster and column, none of them NaN")
    return _multiplicities(np.random.default_rng(seed), resamples, len(values)) @ values / len(values)


def interval_of(
    draws: Float[np.ndarray, "draw column"], *, level: float = 0.95
) -> tuple[Float[np.ndarray, "column"], Float[np.ndarray, "column"]]:
    """Give the percentile interval of each column's draws."""
    lower, upper = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return lower, upper
