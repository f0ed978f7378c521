"""Planted knowledge comes back as bits; habit, luck and false confidence do not."""

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad

from analysis import readout
from analysis.readout import ScoredItems
from tests.oracles import answer_priors

CANDIDATES, RELATIONS = 20, 4
ENTROPY = np.log2(CANDIDATES)


def world(
    seed: int,
    *,
    entities: int = 120,
    known: float = 0.0,
    strength: float = 6.0,
    habit: float = 0.0,
    skew: np.ndarray | None = None,
) -> ScoredItems:
    """Scores of unit noise, raised by `strength` on the right answer of a share of items."""
    rng = np.random.default_rng(seed)
    n = entities * RELATIONS
    answer = rng.choice(CANDIDATES, n, p=skew)
    scores = rng.normal(size=(n, CANDIDATES))
    scores[np.arange(n), answer] += strength * (rng.random(n) < known)
    scores += rng.normal(0, habit, (RELATIONS, CANDIDATES))[np.arange(n) % RELATIONS]
    relation = [f"relation {row % RELATIONS}" for row in range(n)]
    return ScoredItems(scores - 60, answer, relation, [f"entity {row // RELATIONS:03d}" for row in range(n)])


def halves(items: ScoredItems, fitted: int = 40) -> tuple[ScoredItems, ScoredItems]:
    number = np.array([int(name.split()[1]) for name in items.entity])
    return items.where(number < fitted), items.where(number >= fitted)


def mean_bits(items: ScoredItems) -> float:
    fit, score = halves(items)
    return readout.cross_fitted_bits(fit, score, seed=0).mean()


def accuracy(scores: np.ndarray, items: ScoredItems) -> float:
    return (scores.argmax(axis=1) == items.answer).mean()


@pytest.mark.parametrize("seed", range(4))
def test_scores_that_say_nothing_hold_nothing(seed: int) -> None:
    assert abs(mean_bits(world(seed))) < 0.08


def test_perfect_scores_hold_the_whole_entropy() -> None:
    assert ENTROPY - 0.05 < mean_bits(world(0, known=1, strength=40)) <= ENTROPY


def test_bits_rise_with_the_share_known() -> None:
    rising = [mean_bits(world(1, known=share)) for share in (0, 0.2, 0.5, 0.8, 1)]
    assert np.all(np.diff(rising) > 0.2)


def test_sure_and_wrong_is_nothing_not_a_debt() -> None:
    items = world(2)
    wrong = (items.answer + 1 + np.random.default_rng(2).integers(0, CANDIDATES - 1, len(items.answer))) % CANDIDATES
    scores = items.log_probs.copy()
    scores[np.arange(len(wrong)), wrong] += 30
    items = replace(items, log_probs=scores)
    raw = ENTROPY + items.right(readout.log_softmax(scores, axis=1)).mean() / np.log(2)
    assert raw < -15
    # Being sure of a wrong answer rules one candidate in twenty out: .07 bits.
    assert -0.08 < mean_bits(items) < 0.15


@settings(max_examples=12, deadline=None)
@given(factor=st.floats(0.2, 5), seed=st.integers(0, 99))
def test_the_unit_of_the_scores_does_not_matter(factor: float, seed: int) -> None:
    items = world(seed, known=0.6, entities=80)
    scaled = replace(items, log_probs=items.log_probs * factor)
    assert mean_bits(scaled) == pytest.approx(mean_bits(items), abs=0.02)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 99))
def test_a_habit_changes_neither_recalibrated_accuracy_nor_bits(seed: int) -> None:
    items = world(seed, known=0.6, entities=80)
    habit = np.random.default_rng(seed).normal(0, 4, (RELATIONS, CANDIDATES))
    shifted = replace(items, log_probs=items.log_probs + habit[np.arange(len(items.answer)) % RELATIONS])
    (tune, test), (shifted_tune, shifted_test) = halves(items), halves(shifted)
    plain = readout.recalibrate(tune, test)
    np.testing.assert_allclose(readout.recalibrate(shifted_tune, shifted_test), plain, atol=0.05)
    assert mean_bits(shifted) == pytest.approx(mean_bits(items), abs=0.01)


def test_recalibration_returns_what_a_habit_hid() -> None:
    tune, test = halves(world(3, known=1, strength=6, habit=4))
    assert accuracy(test.log_probs, test) < 0.5
    assert accuracy(readout.recalibrate(tune, test), test) > 0.9


@pytest.mark.parametrize("reading", [readout.cross_fitted_bits, readout.vocabulary_bits])
def test_permuted_answers_hold_nothing(reading: Callable[..., np.ndarray]) -> None:
    items = world(4, known=0.8, habit=2)
    rng = np.random.default_rng(4)
    answer = items.answer.copy()
    for rows in items.rows().values():
        answer[rows] = rng.permutation(answer[rows])
    log_probs = readout.log_softmax(items.log_probs, axis=1)
    permuted = replace(items, answer=answer)
    fit, score = halves(replace(permuted, vocabulary=permuted.right(log_probs)))
    assert abs(reading(fit, score, seed=0).mean()) < 0.1


def test_a_counted_prior_keeps_a_skew_from_counting_as_knowledge() -> None:
    zipf = 1 / np.arange(1, CANDIDATES + 1)
    items = world(5, skew=zipf / zipf.sum(), entities=400)
    assert mean_bits(items) > 0.2
    assert abs(mean_bits(replace(items, priors=answer_priors(items)))) < 0.12


def test_no_entity_is_scored_by_a_readout_that_saw_its_answer() -> None:
    fit, _ = halves(world(6, known=0.5))
    own = np.array(fit.entity) == fit.entity[0]
    changed = replace(fit, answer=np.where(own, (fit.answer + 7) % CANDIDATES, fit.answer))
    before, after = (readout.cross_fitted_log_probs(items, items, seed=1) for items in (fit, changed))
    np.testing.assert_array_equal(before[own], after[own])
    assert (before[~own] != after[~own]).any()


def test_new_entities_are_scored_by_the_whole_fit() -> None:
    fit, score = halves(world(7, known=0.5))
    expected = readout.calibrated_log_probs(readout.fit_readout(fit), score)
    np.testing.assert_array_equal(readout.cross_fitted_log_probs(fit, score, seed=0), expected)


def test_probabilities_sum_to_one_and_padding_changes_nothing() -> None:
    items = world(8, known=0.5, entities=40)
    padded = replace(items, log_probs=np.pad(items.log_probs, ((0, 0), (0, 3)), constant_values=-np.inf))
    plain, wide = (readout.calibrated_log_probs(readout.fit_readout(one), one) for one in (items, padded))
    np.testing.assert_allclose(np.exp(wide).sum(axis=1), 1)
    np.testing.assert_allclose(wide[:, :CANDIDATES], plain, atol=0.01)
    assert np.isneginf(wide[:, CANDIDATES:]).all()


def test_chance_alone_is_exactly_no_bits() -> None:
    items = world(9, entities=5)
    nothing = replace(readout.fit_readout(items), chance=1.0)
    np.testing.assert_allclose(readout.bits(readout.calibrated_log_probs(nothing, items), items), 0, atol=1e-12)


def test_the_gradient_is_the_slope() -> None:
    rng = np.random.default_rng(0)
    right = np.eye(5)[rng.integers(0, 5, 12)]
    members = np.repeat(np.eye(2), 6, axis=1)
    loss = readout.Loss(rng.normal(size=(12, 5)), right, rng.dirichlet(np.ones(5), 12), members, 0.5)
    at = np.array([0.3, 0.4, *rng.normal(size=10)])
    assert check_grad(lambda x: loss(x)[0], lambda x: loss(x)[1], at) < 1e-5


def test_the_vocabulary_reading_recovers_a_planted_share() -> None:
    rng = np.random.default_rng(0)
    items = world(10)
    known = rng.random(len(items.answer)) < 0.5
    fit, score = halves(replace(items, vocabulary=np.log(np.where(known, 0.9, 1e-9))))
    expected = ENTROPY + np.mean(np.log2(np.where(rng.random(10**5) < 0.5, 0.475, 0.025)))
    assert readout.vocabulary_bits(fit, score, seed=0).mean() == pytest.approx(expected, abs=0.3)
    with pytest.raises(ValueError, match="full vocabulary"):
        readout.vocabulary_bits(*halves(items), seed=0)


def test_eighty_items_are_fitted_in_tens_of_milliseconds() -> None:
    fit = world(11, known=0.5, entities=20)
    readout.fit_readout(fit)
    start = perf_counter()
    for _ in range(5):
        readout.fit_readout(fit)
    assert (perf_counter() - start) / 5 < 0.2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"log_probs": np.full((8, 3), np.nan)}, "NaN"),
        ({"answer": np.full(8, 3)}, "not among"),
        ({"entity": ["one"]}, "one length"),
        ({"priors": {"r": np.array([0.5, 0.5, 0.5])}}, "sum to 1"),
        ({"priors": {}}, "nothing was fitted"),
        ({"log_probs": np.where(np.eye(8, 3) > 0, -np.inf, 0.0)}, "different candidates"),
    ],
)
def test_bad_items_get_a_sentence(change: dict[str, Any], sentence: str) -> None:
    items = ScoredItems(np.zeros((8, 3)), np.zeros(8, dtype=int), ["r"] * 8, list("abcdefgh"))
    with pytest.raises(ValueError, match=sentence):
        replace(items, **change)


def test_one_entity_cannot_be_cross_fitted() -> None:
    items = ScoredItems(np.zeros((2, 3)), np.zeros(2, dtype=int), ["r", "r"], ["a", "a"])
    with pytest.raises(ValueError, match="two entities"):
        readout.cross_fitted_bits(items, items, seed=0)
