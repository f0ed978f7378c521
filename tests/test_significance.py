"""Tests are uniform where nothing was planted, find what was, and hold their level over a family."""

from collections.abc import Callable

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from scipy import stats

from analysis import intervals, significance
from tests.repeated_draws import only, within_binomial


def test_seeds_that_differ_by_themselves_are_no_finding() -> None:
    """Flips of items alone take three seeds for all there are: they reject this null twice as often as they say."""
    draw, trials = np.random.default_rng(0), 150
    found = {"flips": 0, "paired": 0}
    for _ in range(trials):
        reference = np.repeat((draw.random((1, 200)) < 0.5).astype(float), 3, axis=0)
        chance = 0.5 + draw.normal(0, 0.05, (3, 1))
        ours = (draw.random((3, 200)) < chance).astype(float)
        found["flips"] += significance.paired_permutation((ours - reference).mean(axis=0), seed=0) < 0.05
        found["paired"] += significance.paired_p(ours, reference, seed=0) < 0.05
    assert found["paired"] / trials <= 0.06 < found["flips"] / trials
    one = reference[:1], ours[:1]
    assert significance.paired_p(*one, seed=0) == significance.paired_permutation((one[0] - one[1])[0], seed=0)


def test_permutation_is_uniform_under_the_null_and_small_under_an_effect() -> None:
    rng = np.random.default_rng(5)
    p_values = [significance.paired_permutation(rng.standard_t(4, 40), resamples=500, seed=run) for run in range(300)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert significance.paired_permutation(rng.normal(1, 1, 40), alternative="greater", seed=0) < 0.001
    assert significance.paired_permutation(rng.normal(1, 1, 40), alternative="less", seed=0) > 0.99


def test_permutation_agrees_with_all_sign_flips_and_is_never_zero() -> None:
    differences = np.array([0.3, 0.9, -0.1, 0.4, 0.7, 0.2, 0.5, -0.3])
    exact = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
    ).pvalue
    p = significance.paired_permutation(differences, alternative="greater", resamples=40_000, seed=0)
    assert p == pytest.approx(exact, abs=0.003)
    assert significance.paired_permutation(np.full(30, 1.0), resamples=99, seed=0) == 0.01
    assert significance.paired_permutation(np.zeros(30), resamples=99, seed=0) == 1


def test_max_t_controls_the_family_and_gains_on_bonferroni_when_statistics_agree() -> None:
    rng = np.random.default_rng(6)
    families = [rng.normal(size=(30, 1)) + 0.3 * rng.normal(size=(30, 8)) for _ in range(200)]
    smallest = [significance.max_t(one, resamples=300, seed=run).min() for run, one in enumerate(families)]
    assert within_binomial(sum(p <= 0.05 for p in smallest), 200, 0.05)
    single = [significance.paired_permutation(families[0][:, column], seed=0) for column in range(8)]
    joint = significance.max_t(families[0], seed=0)
    assert (joint >= np.array(single) - 1e-12).all()
    assert joint.min() < 8 * min(single)


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(significance.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize(("mean", "equivalent"), [(0.0, True), (0.09, False), (-0.09, False), (0.5, False)])
def test_equivalence_only_well_inside_the_margin(mean: float, equivalent: bool) -> None:
    draws = np.random.default_rng(7).normal(mean, 0.02, 2000)
    assert significance.two_one_sided(draws, 0.1)[1] is equivalent


def test_equivalence_errs_at_most_at_its_level_on_the_margin() -> None:
    rng = np.random.default_rng(8)
    found = 0
    for run in range(300):
        values = rng.normal(0.3, 1, (1, 60))
        draws = intervals.crossed_sample({"arm": values}, only, resamples=400, seed=run).draws
        found += significance.two_one_sided(draws, 0.3)[1]
    assert found <= stats.binom.ppf(0.999, 300, 0.05)


def test_an_uncertain_margin_makes_equivalence_harder() -> None:
    rng = np.random.default_rng(9)
    draws = rng.normal(0.05, 0.02, 4000)
    sure, unsure = (significance.two_one_sided(draws, margin)[0] for margin in (0.1, rng.normal(0.1, 0.05, 4000)))
    assert sure < unsure


def test_mcnemar_counts_and_tests_the_items_that_differ() -> None:
    first, second = np.array([1, 1, 1, 1, 1, 0, 1]), np.array([0, 0, 0, 0, 0, 1, 1])
    only_first, only_second, p = significance.mcnemar(first, second)
    assert (only_first, only_second) == (5, 1)
    assert p == pytest.approx(stats.binomtest(1, 6).pvalue)


def test_power_agrees_with_simulation_and_with_its_inverse() -> None:
    effect = significance.smallest_detectable(40, 2.0)
    assert significance.power_of(effect, 40, 2.0) == pytest.approx(0.8, abs=1e-4)
    samples = np.random.default_rng(10).normal(effect, 2.0, (2000, 40))
    assert within_binomial((stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05).sum(), 2000, 0.8)


@pytest.mark.parametrize(
    "refused",
    [
        lambda: significance.paired_permutation(np.array([np.nan]), seed=0),
        lambda: significance.holm([]),
        lambda: significance.two_one_sided(np.zeros(9), 0.0),
        lambda: significance.mcnemar(np.ones(3), np.ones(2)),
        lambda: significance.smallest_detectable(1, 1.0),
    ],
)
def test_what_makes_no_sense_is_refused(refused: Callable[[], object]) -> None:
    # Where shapes are checked at run time, the checker refuses first, with a TypeError of its own.
    with pytest.raises((ValueError, TypeCheckError), match=" "):
        refused()
