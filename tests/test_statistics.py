"""Intervals cover what was planted, tests are uniform where nothing was, and clusters count."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from scipy import stats

from analysis import statistics
from analysis.statistics import Estimate


def within_binomial(hits: int, n: int, share: float) -> bool:
    """Whether a count is one that `share` would give in 99.9 % of runs."""
    low, high = stats.binom.interval(0.999, n, share)
    return low <= hits <= high


def only(means: dict[str, np.ndarray]) -> np.ndarray:
    return means["arm"]


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
        found = statistics.clustered_mean(values.ravel(), names, resamples=400, seed=run)
        naive = statistics.clustered_mean(values.ravel(), np.arange(values.size), resamples=400, seed=run)
        covered += found.lower <= 0 <= found.upper
        ignored += naive.lower <= 0 <= naive.upper
    assert within_binomial(covered, runs, 0.945)
    assert ignored < 0.75 * runs


def test_a_clustered_mean_weighs_items_not_clusters() -> None:
    found = statistics.clustered_mean(np.array([1.0, 1, 1, 0]), ["a", "a", "a", "b"], resamples=50, seed=0)
    assert (found.estimate, found.n, found.clusters) == (0.75, 4, 2)


@pytest.mark.parametrize("seed_deviation", [0.0, 0.1, 0.3])
def test_the_crossed_bootstrap_covers_with_three_seeds(seed_deviation: float) -> None:
    rng, runs = np.random.default_rng(1), 300
    covered = {True: 0, False: 0}
    for run in range(runs):
        values = rng.normal(0, seed_deviation, (3, 1)) + rng.normal(0, 0.5, (1, 60)) + rng.normal(size=(3, 60))
        for stretch in covered:
            draws = statistics.crossed_sample({"arm": values}, only, resamples=400, seed=run, stretch=stretch).draws
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
        sample = statistics.crossed_sample({"arm": values}, only, resamples=400, seed=run)
        found += sample.p_above_zero < level
        drawn += (1 + (sample.draws <= 0).sum()) / 401 < level
    assert 0 < found <= stats.binom.ppf(0.999, runs, level) < drawn


def test_seeds_that_differ_by_themselves_are_no_finding() -> None:
    """Flips of items alone take three seeds for all there are: they reject this null twice as often as they say."""
    draw, trials = np.random.default_rng(0), 150
    found = {"flips": 0, "paired": 0}
    for _ in range(trials):
        reference = np.repeat((draw.random((1, 200)) < 0.5).astype(float), 3, axis=0)
        chance = 0.5 + draw.normal(0, 0.05, (3, 1))
        ours = (draw.random((3, 200)) < chance).astype(float)
        found["flips"] += statistics.paired_permutation((ours - reference).mean(axis=0), seed=0) < 0.05
        found["paired"] += statistics.paired_p(ours, reference, seed=0) < 0.05
    assert found["paired"] / trials <= 0.06 < found["flips"] / trials
    one = reference[:1], ours[:1]
    assert statistics.paired_p(*one, seed=0) == statistics.paired_permutation((one[0] - one[1])[0], seed=0)


def test_an_independent_sample_taken_off_adds_its_error() -> None:
    rng = np.random.default_rng(4)
    one, other = (
        statistics.crossed_sample({"arm": shift + rng.normal(size=(3, 80))}, only, seed=seed)
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
    np.testing.assert_allclose(statistics.crossed_sample(arms, difference, seed=0).draws, 0.5)


def test_absent_cells_and_weights_are_left_out_and_counted() -> None:
    values = np.array([[1.0, np.nan, 0.0], [1.0, 1.0, np.nan]])
    found = statistics.crossed_mean(values, weights=np.array([2.0, 1, 1]), resamples=20, seed=3)
    assert found.estimate == pytest.approx(5 / 6)
    assert (found.n, found.clusters) == (4, 3)


@settings(max_examples=20, deadline=None)
@given(shift=st.floats(-5, 5), scale=st.floats(0.1, 10))
def test_intervals_move_and_stretch_with_the_values(shift: float, scale: float) -> None:
    values = np.random.default_rng(4).normal(size=(3, 30))
    plain = statistics.crossed_mean(values, resamples=200, seed=0)
    moved = statistics.crossed_mean(values * scale + shift, resamples=200, seed=0)
    assert moved.lower == pytest.approx(plain.lower * scale + shift, abs=1e-8)
    assert moved.upper == pytest.approx(plain.upper * scale + shift, abs=1e-8)


def test_permutation_is_uniform_under_the_null_and_small_under_an_effect() -> None:
    rng = np.random.default_rng(5)
    p_values = [statistics.paired_permutation(rng.standard_t(4, 40), resamples=500, seed=run) for run in range(300)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert statistics.paired_permutation(rng.normal(1, 1, 40), alternative="greater", seed=0) < 0.001
    assert statistics.paired_permutation(rng.normal(1, 1, 40), alternative="less", seed=0) > 0.99


def test_permutation_agrees_with_all_sign_flips_and_is_never_zero() -> None:
    differences = np.array([0.3, 0.9, -0.1, 0.4, 0.7, 0.2, 0.5, -0.3])
    exact = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
    ).pvalue
    p = statistics.paired_permutation(differences, alternative="greater", resamples=40_000, seed=0)
    assert p == pytest.approx(exact, abs=0.003)
    assert statistics.paired_permutation(np.full(30, 1.0), resamples=99, seed=0) == 0.01
    assert statistics.paired_permutation(np.zeros(30), resamples=99, seed=0) == 1


def test_max_t_controls_the_family_and_gains_on_bonferroni_when_statistics_agree() -> None:
    rng = np.random.default_rng(6)
    families = [rng.normal(size=(30, 1)) + 0.3 * rng.normal(size=(30, 8)) for _ in range(200)]
    smallest = [statistics.max_t(one, resamples=300, seed=run).min() for run, one in enumerate(families)]
    assert within_binomial(sum(p <= 0.05 for p in smallest), 200, 0.05)
    single = [statistics.paired_permutation(families[0][:, column], seed=0) for column in range(8)]
    joint = statistics.max_t(families[0], seed=0)
    assert (joint >= np.array(single) - 1e-12).all()
    assert joint.min() < 8 * min(single)


@pytest.mark.parametrize(
    ("successes", "n", "lower", "upper"), [(0, 36, 0, 0.0974), (10, 10, 0.6915, 1), (4, 20, 0.0573, 0.4366)]
)
def test_clopper_pearson_gives_the_known_values(successes: int, n: int, lower: float, upper: float) -> None:
    found = statistics.clopper_pearson(successes, n)
    assert (found.lower, found.upper) == pytest.approx((lower, upper), abs=5e-5)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 60), share=st.floats(0.01, 0.99))
def test_clopper_pearson_never_undercovers(n: int, share: float) -> None:
    counts = np.arange(n + 1)
    intervals = [statistics.clopper_pearson(int(count), n) for count in counts]
    covering = [one.lower <= share <= one.upper for one in intervals]
    assert stats.binom.pmf(counts, n, share)[covering].sum() >= 0.95 - 1e-9


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(statistics.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize(("mean", "equivalent"), [(0.0, True), (0.09, False), (-0.09, False), (0.5, False)])
def test_equivalence_only_well_inside_the_margin(mean: float, equivalent: bool) -> None:
    draws = np.random.default_rng(7).normal(mean, 0.02, 2000)
    assert statistics.two_one_sided(draws, 0.1)[1] is equivalent


def test_equivalence_errs_at_most_at_its_level_on_the_margin() -> None:
    rng = np.random.default_rng(8)
    found = 0
    for run in range(300):
        values = rng.normal(0.3, 1, (1, 60))
        draws = statistics.crossed_sample({"arm": values}, only, resamples=400, seed=run).draws
        found += statistics.two_one_sided(draws, 0.3)[1]
    assert found <= stats.binom.ppf(0.999, 300, 0.05)


def test_an_uncertain_margin_makes_equivalence_harder() -> None:
    rng = np.random.default_rng(9)
    draws = rng.normal(0.05, 0.02, 4000)
    sure, unsure = (statistics.two_one_sided(draws, margin)[0] for margin in (0.1, rng.normal(0.1, 0.05, 4000)))
    assert sure < unsure


def test_mcnemar_counts_and_tests_the_items_that_differ() -> None:
    first, second = np.array([1, 1, 1, 1, 1, 0, 1]), np.array([0, 0, 0, 0, 0, 1, 1])
    only_first, only_second, p = statistics.mcnemar(first, second)
    assert (only_first, only_second) == (5, 1)
    assert p == pytest.approx(stats.binomtest(1, 6).pvalue)


def test_power_agrees_with_simulation_and_with_its_inverse() -> None:
    effect = statistics.smallest_detectable(40, 2.0)
    assert statistics.power_of(effect, 40, 2.0) == pytest.approx(0.8, abs=1e-4)
    samples = np.random.default_rng(10).normal(effect, 2.0, (2000, 40))
    assert within_binomial((stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05).sum(), 2000, 0.8)


@pytest.mark.parametrize(
    "refused",
    [
        lambda: statistics.clustered_mean(np.array([]), [], seed=0),
        lambda: statistics.clustered_mean(np.array([1.0, np.nan]), ["a", "b"], seed=0),
        lambda: statistics.crossed_mean(np.full((2, 3), np.nan), seed=0),
        lambda: statistics.crossed_mean(np.zeros((2, 3)), weights=np.ones(2), seed=0),
        lambda: statistics.crossed_sample(
            {"repaired": np.zeros((2, 3)), "recalibrated": np.zeros((2, 4))}, difference, seed=0
        ),
        lambda: statistics.paired_permutation(np.array([np.nan]), seed=0),
        lambda: statistics.clopper_pearson(3, 2),
        lambda: statistics.holm([]),
        lambda: statistics.two_one_sided(np.zeros(9), 0.0),
        lambda: statistics.mcnemar(np.ones(3), np.ones(2)),
        lambda: statistics.smallest_detectable(1, 1.0),
    ],
)
def test_what_makes_no_sense_is_refused(refused: Callable[[], object]) -> None:
    # Where shapes are checked at run time, the checker refuses first, with a TypeError of its own.
    with pytest.raises((ValueError, TypeCheckError), match=" "):
        refused()
