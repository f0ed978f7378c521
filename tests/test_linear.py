"""Linear probes find a code that was planted, find nothing where nothing is, and are the optimum they claim to be."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from data.atlas import load_world
from data.errors import InputError
from data.facts import Fact
from probes.linear import WAYS, Alignment, LinearProbe, control_labels
from probes.models import open_model
from probes.states import encode_questions, last_states
from probes.variants import Variant
from tests.oracles import read_linear

FACTS = load_world().facts
ANSWERS = ("oslo", "turin", "paris", "lima")
LAYERS, WIDTH, PEOPLE = 2, 24, 200
CHANCE = 1 / len(ANSWERS)


def people(seed: int = 0) -> list[Fact]:
    draw = np.random.default_rng(seed)
    splits = ["tune"] * 80 + ["calibrate"] * 40 + ["test"] * 80
    return [
        Fact("home", f"person {place}", str(draw.choice(ANSWERS)), "open", split)  # type: ignore[arg-type]
        for place, split in enumerate(splits)
    ]


def planted(facts: list[Fact], strength: float, seed: int = 0) -> np.ndarray:
    """Noise, with one direction per answer added in layer 1 alone."""
    draw = np.random.default_rng(seed)
    states = draw.normal(size=(LAYERS, len(facts), WIDTH))
    directions = dict(zip(ANSWERS, np.linalg.qr(draw.normal(size=(WIDTH, WIDTH)))[0], strict=False))
    states[1] += strength * np.stack([directions[fact.answer] for fact in facts])
    return states


def within_chance(hits: int, n: int, chance: float) -> bool:
    """Whether guessing would hit so often in 99.99 % of runs."""
    low, high = stats.binom.interval(0.9999, n, chance)
    return low <= hits <= high


@pytest.mark.parametrize("way", WAYS)
def test_a_planted_code_is_read_where_it_was_planted_and_nowhere_else(way):
    facts = people()
    dense = planted(facts, 6)
    read = read_linear(dense, dense, facts, way=way)
    assert [facts[place].split for place in read.places] == ["test"] * 80
    assert read.accuracy[1] > 0.95
    assert within_chance(read.correct[0].sum(), 80, CHANCE)
    assert within_chance(read.control.sum() // 3, 2 * 80, CHANCE)
    np.testing.assert_allclose(read.selectivity, read.accuracy - read.control.mean(axis=(0, 2)))


def test_a_rotated_model_is_lost_to_the_frozen_probe_and_found_by_the_aligned_one():
    facts = people()
    dense = planted(facts, 6)
    draw = np.random.default_rng(1)
    rotation = np.linalg.qr(draw.normal(size=(WIDTH, WIDTH)))[0]
    moved = dense @ rotation + draw.normal(size=WIDTH)
    own = read_linear(dense, dense, facts, way="frozen")
    readings = {way: read_linear(dense, moved, facts, way=way) for way in WAYS}
    assert readings["frozen"].accuracy[1] < 0.5
    assert readings["refitted"].accuracy[1] > 0.95
    assert (readings["aligned"].correct == own.correct).all()
    assert (readings["aligned"].control == own.control).all()


def test_what_a_variant_lost_no_way_of_reading_brings_back():
    facts = people()
    for way in WAYS:
        read = read_linear(planted(facts, 6), planted(facts, 0, seed=5), facts, way=way)
        assert within_chance(read.correct[1].sum(), 80, CHANCE)


def test_refitting_never_looks_at_the_dense_model():
    facts = people()
    states = planted(facts, 6)
    alone = read_linear(np.full_like(states, np.nan), states, facts, way="refitted")
    assert (alone.correct == read_linear(states, states, facts, way="frozen").correct).all()


def test_test_people_do_not_move_the_fit():
    facts = people()
    dense, moved = planted(facts, 6), planted(facts, 6)
    read = np.array([fact.split == "test" for fact in facts])
    half = np.flatnonzero(read)[:40]
    moved[:, half] += 100  # they are read otherwise, and nobody else is
    for way in WAYS:
        first, second = (read_linear(dense, states, facts, way=way) for states in (dense, moved))
        assert (first.correct[:, 40:] == second.correct[:, 40:]).all()


def test_the_rotation_is_found_exactly_where_there_is_one():
    draw = np.random.default_rng(2)
    states = draw.normal(size=(60, 8))
    rotation = np.linalg.qr(draw.normal(size=(8, 8)))[0]
    alignment = Alignment.fit(states, states @ rotation + 3)
    np.testing.assert_allclose(alignment.rotation, rotation, atol=1e-10)
    fresh = draw.normal(size=(5, 8))
    np.testing.assert_allclose(alignment(fresh), fresh @ rotation + 3, atol=1e-10)


@pytest.mark.parametrize(("items", "width"), [(120, 10), (30, 80)])
def test_the_probe_is_the_optimum_of_the_penalised_loss(items, width):
    draw = np.random.default_rng(3)
    states = draw.normal(size=(items, width)) * draw.uniform(0.1, 10, size=width) + 5
    labels = [str(draw.choice(ANSWERS)) for _ in range(items)]
    probe = LinearProbe.fit(states, labels, strength=0.5)
    mean, deviation = states.mean(axis=0), states.std(axis=0)
    weights = torch.tensor(probe.weights * deviation[:, None], requires_grad=True)
    bias = torch.tensor(probe.bias + mean @ probe.weights, requires_grad=True)
    targets = torch.tensor([probe.answers.index(label) for label in labels])
    logits = torch.tensor((states - mean) / deviation) @ weights + bias
    loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum") + 0.25 * (weights**2).sum()
    loss.backward()
    assert weights.grad is not None
    assert bias.grad is not None
    assert max(weights.grad.abs().max(), bias.grad.abs().max()) < 0.02  # the problem is convex: no other optimum


def test_units_of_a_feature_and_features_that_do_not_vary_change_nothing():
    facts = people()
    states = planted(facts, 3)[1]
    labels = [fact.answer for fact in facts]
    plain = LinearProbe.fit(states, labels, strength=1.0).predict(states)
    scaled = np.column_stack([states * np.logspace(-3, 3, WIDTH), np.full(len(states), 7.0)])
    assert LinearProbe.fit(scaled, labels, strength=1.0).predict(scaled) == plain


def test_control_labels_are_the_relations_own_answers_dealt_anew_one_per_person():
    facts = [*FACTS.select(["open"]), *FACTS.select(["open"])[:40]]  # some people are asked twice
    first, again, other = (control_labels(facts, seed) for seed in (0, 0, 1))
    assert first == again != other
    for relation, side in itertools.product(FACTS.relations, (True, False)):
        there = [place for place, one in enumerate(facts) if (one.relation, one.split == "test") == (relation, side)]
        dealt = {facts[place].subject: first[place] for place in there}
        assert all(dealt[facts[place].subject] == first[place] for place in there)
        truth = {facts[place].subject: facts[place].answer for place in there}
        assert Counter(dealt.values()) == Counter(truth.values())
        assert sum(dealt[name] == truth[name] for name in truth) < 0.3 * len(truth)


def test_an_answer_that_no_fitted_person_has_is_not_asked_for():
    facts = people()
    alone = [Fact("home", f"hermit {place}", f"hut {place}", "open", "test") for place in range(5)]
    states = planted(facts, 6)
    more = np.concatenate([states, np.zeros((LAYERS, 5, WIDTH))], axis=1)
    first = read_linear(states, states, facts, way="frozen")
    second = read_linear(more, more, [*facts, *alone], way="frozen")
    assert (first.places == second.places).all()
    assert (first.correct == second.correct).all()


def test_what_makes_a_probe_meaningless_is_refused():
    facts = people()
    states = planted(facts, 1)
    everybody = [Fact(fact.relation, fact.subject, fact.answer, "open", "tune") for fact in facts]
    with pytest.raises(InputError, match="others to be read"):
        read_linear(states, states, everybody, way="frozen")
    hermits = [Fact("home", fact.subject, fact.subject, "open", fact.split) for fact in facts]
    with pytest.raises(InputError, match="who share answers"):
        read_linear(states, states, hermits, way="frozen")
    twice = [*facts[:-1], Fact("home", facts[0].subject, facts[0].answer, "open", "test")]
    with pytest.raises(ValueError, match="both fitted on and read"):
        read_linear(states, states, twice, way="frozen")
    same = [Fact("home", fact.subject, "oslo", "open", fact.split) for fact in facts]
    with pytest.raises(InputError, match="a probe of 1 answers"):
        read_linear(states, states, same, way="frozen")
    with pytest.raises(ValueError, match="has two answers"):
        control_labels([facts[0], Fact("home", facts[0].subject, "rome", "open", "tune")], 0)


@pytest.fixture(scope="module")
def readings():
    opened = open_model("atlas", dtype="float32", device="cpu")
    dense = Variant("dense", opened.model, opened.tokenizer)
    found = {}
    for group in ("open", "never"):
        facts = FACTS.select([group])
        questions = encode_questions(opened.tokenizer, FACTS.items(facts, "measure"))
        states = last_states(dense, [question.tokens for question in questions]).residual.numpy()
        chances = {one.relation: one.chance for one in FACTS.lists}
        read = read_linear(states, states, facts, way="refitted")
        found[group] = read, float(np.mean([chances[facts[place].relation] for place in read.places]))
    return found


def test_open_people_are_read_at_the_last_layer_and_never_people_at_none(readings):
    known, _ = readings["open"]
    assert known.accuracy[-1] > 0.8
    assert known.selectivity[-1] > 0.7
    nothing, chance = readings["never"]
    layers, people = nothing.correct.shape
    assert all(within_chance(nothing.correct[layer].sum(), people, chance) for layer in range(layers))


def test_control_labels_of_real_states_stay_at_chance(readings):
    for read, chance in readings.values():
        assert within_chance(read.control[0].sum() // read.control.shape[1], read.control.shape[2], chance)
