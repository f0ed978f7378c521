"""Intervals cover what was planted, draws are shared, and clusters count."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from scipy import stats

from analysis import intervals
from analysis.intervals import Estimate
from tests.repeated_draws import only, within_binomial


def difference(means: dict[str, np.ndarray]) -> np.ndarray:
    return means["repaired"] - means["recalibrated"]


def test_an_estimate_reads_like_a_paper() -> None:
    assert str(Estimate(0.71, 0.66, 0.76, 300, 100, 0.95)) == ".71 [.66, .76]"
    assert str(Estimate(-0.001, -0.204, 10.04, 1, 1, 0.95)) == ".00 [-.20, 10.04]"


@pytest.mark.parametrize("clusters", [12, 50])
def test_the_cluster_bootstrap_covers_and_ignoring_clusters_does_not(clusters: int) -> None:
    rng, runs, items = np.random.default_rng(0), 300, 6
    names = np.repeat(np.arange(clusters), items)
    covered = ignored = 0
    for run in range(runs):
        values = rng.normal(size=(clusters, 1)) + rng.normal(0, 0.5, size=(clusters, items))
        found = intervals.clustered_mean(values.ravel(), names, resamples=400, seed=run)
        naive = intervals.clustered_mean(values.ravel(), np.arange(values.size), resamples=400, seed=run)
        covered += found.lower <= 0 <= found.upper
        ignored += naive.lower <= 0 <= naive.upper
    assert within_binomial(covered, runs, 0.945)
    assert ignored < 0.75 * runs


def test_a_clustered_mean_weighs_items_not_clusters() -> None:
    found = intervals.clustered_mean(np.array([1.0, 1, 1, 0]), ["a", "a", "a", "b"], resamples=50, seed=0)
    assert (found.estimate, found.n, found.clusters) == (0.75, 4, 2)


@pytest.mark.parametrize("seed_deviation", [0.0, 0.1, 0.3])
def test_the_crossed_bootstrap_covers_with_three_seeds(seed_deviation: float) -> None:
    rng, runs = np.random.default_rng(1), 300
    covered = {True: 0, False: 0}
    for run in range(runs):
        values = rng.normal(0, seed_deviation, (3, 1)) + rng.normal(0, 0.5, (1, 60)) + rng.normal(size=(3, 60))
        for stretch in covered:
            draws = intervals.crossed_sample({"arm": values}, only, resamples=400, seed=run, stretch=stretch).draws
            lower, upper = np.quantile(draws, [0.025, 0.975])
            covered[stretch] += lower <= 0 <= upper
    # Where seeds differ much, the plain percentile interval of three seeds is far too short.
    assert covered[True] >= 0.88 * runs
    if seed_deviation == 0.3:
        assert covered[False] < covered[True] - 0.03 * runs


def test_a_small_p_is_as_rare_as_it_says_with_three_seeds() -> None:
    """Holm over many settings asks of p values far below .025, where draws of three seeds alone say too little."""
    rng, runs, level = np.random.default_rng(3), 1000, 0.005
    found, drawn = 0, 0
    for run in range(runs):
        values = rng.normal(0, 1, (3, 1)) + rng.normal(0, 0.5, (1, 60))
        sample = intervals.crossed_sample({"arm": values}, only, resamples=400, seed=run)
        found += sample.p_above_zero < level
        drawn += (1 + (sample.draws <= 0).sum()) / 401 < level
    assert 0 < found <= stats.binom.ppf(0.999, runs, level) < drawn


def test_an_independent_sample_taken_off_adds_its_error() -> None:
    rng = np.random.default_rng(4)
    one, other = (
        intervals.crossed_sample({"arm": shift + rng.normal(size=(3, 80))}, only, seed=seed)
        for seed, shift in enumerate((2.0, 0.5))
    )
    both = one.less(other)
    assert both.point == one.point - other.point
    assert both.error == pytest.approx(np.hypot(one.error, other.error))
    assert min(one.freedom, other.freedom) <= both.freedom <= one.freedom + other.freedom


def test_arms_share_their_draws_and_one_row_holds_under_every_seed() -> None:
    rng = np.random.default_rng(2)
    dense = rng.normal(size=(1, 40))
    arms = {"repaired": dense + np.array([[0.5], [0.5], [0.5]]), "recalibrated": dense}
    np.testing.assert_allclose(intervals.crossed_sample(arms, difference, seed=0).draws, 0.5)


def test_absent_cells_and_weights_are_left_out_and_counted() -> None:
    values = np.array([[1.0, np.nan, 0.0], [1.0, 1.0, np.nan]])
    found = intervals.crossed_mean(values, weights=np.array([2.0, 1, 1]), resamples=20, seed=3)
    assert found.estimate == pytest.approx(5 / 6)
    assert (found.n, found.clusters) == (4, 3)


@settings(max_examples=20, deadline=None)
@given(shift=st.floats(-5, 5), scale=st.floats(0.1, 10))
def test_intervals_move_and_stretch_with_the_values(shift: float, scale: float) -> None:
    values = np.random.default_rng(4).normal(size=(3, 30))
    plain = intervals.crossed_mean(values, resamples=200, seed=0)
    moved = intervals.crossed_mean(values * scale + shift, resamples=200, seed=0)
    assert moved.lower == pytest.approx(plain.lower * scale + shift, abs=1e-8)
    assert moved.upper == pytest.approx(plain.upper * scale + shift, abs=1e-8)


@pytest.mark.parametrize(
    ("successes", "n", "lower", "upper"), [(0, 36, 0, 0.0974), (10, 10, 0.6915, 1), (4, 20, 0.0573, 0.4366)]
)
def test_clopper_pearson_gives_the_known_values(successes: int, n: int, lower: float, upper: float) -> None:
    found = intervals.clopper_pearson(successes, n)
    assert (found.lower, found.upper) == pytest.approx((lower, upper), abs=5e-5)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 60), share=st.floats(0.01, 0.99))
def test_clopper_pearson_never_undercovers(n: int, share: float) -> None:
    counts = np.arange(n + 1)
    found = [intervals.clopper_pearson(int(count), n) for count in counts]
    covering = [one.lower <= share <= one.upper for one in found]
    assert stats.binom.pmf(counts, n, share)[covering].sum() >= 0.95 - 1e-9


@pytest.mark.parametrize(
    "refused",
    [
        lambda: intervals.clustered_mean(np.array([]), [], seed=0),
        lambda: intervals.clustered_mean(np.array([1.0, np.nan]), ["a", "b"], seed=0),
        lambda: intervals.crossed_mean(np.full((2, 3), np.nan), seed=0),
        lambda: intervals.crossed_mean(np.zeros((2, 3)), weights=np.ones(2), seed=0),
        lambda: intervals.crossed_sample(
            {"repaired": np.zeros((2, 3)), "recalibrated": np.zeros((2, 4))}, difference, seed=0
        ),
        lambda: intervals.clopper_pearson(3, 2),
    ],
)
def test_what_makes_no_sense_is_refused(refused: Callable[[], object]) -> None:
    # Where shapes are checked at run time, the checker refuses first, with a TypeError of its own.
    with pytest.raises((ValueError, TypeCheckError), match=" "):
        refused()


def test_the_p_of_one_seed_is_students() -> None:
    """The jackknife error of a mean is its standard error, so that scipy's t test is the same test."""
    values = np.random.default_rng(5).normal(0.5, 1.0, size=(1, 24))
    found = intervals.crossed_sample({"arm": values}, only, seed=0)
    assert found.p_other_than_zero == pytest.approx(stats.ttest_1samp(values[0], 0.0).pvalue, rel=1e-9)
    assert 0.01 < found.p_other_than_zero < 0.5
