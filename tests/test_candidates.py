"""Every candidate can win and can be told apart, whatever its tokens: the rule by hand, and any list by arithmetic."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from data.errors import InputError
from data.facts import Candidates
from probes.candidates import exclusive, longer_of, said_whole
from probes.scoring import score
from probes.selection.mixture import score_mixture
from probes.states import encode_questions
from probes.variants import Variant
from tests.asking import ANSWERS, asked
from tests.tiny_models import tiny

WORDS = ["<unk>", "where", "is", "it", "york", "city", "hall", "oslo", "paris", "lima"]


def words(*names, lower=False):
    """A tokenizer of whole words."""
    pieces = Tokenizer(models.WordLevel({name: place for place, name in enumerate(names)}, unk_token="<unk>"))
    pieces.pre_tokenizer = pre_tokenizers.Whitespace()
    if lower:
        pieces.normalizer = normalizers.Lowercase()
    return PreTrainedTokenizerFast(tokenizer_object=pieces, unk_token="<unk>")


def chain(city: float, hall: float) -> Variant:
    """A model whose next word depends on the last alone, by a table that is written down here.

    After "it": york .6, oslo .3, paris .1; after york: city, or lima; after city: hall, or lima.
    """
    told = {
        "it": {"york": 0.6, "oslo": 0.3, "paris": 0.1},
        "york": {"city": city, "lima": 1 - city},
        "city": {"hall": hall, "lima": 1 - hall},
    }
    place = {word: number for number, word in enumerate(WORDS)}
    width = 16
    shape: dict[str, Any] = {
        "vocab_size": len(WORDS),
        "hidden_size": width,
        "intermediate_size": width,
        "num_hidden_layers": 1,
    }
    model = (
        LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=4, rms_norm_eps=1e-12)).eval().requires_grad_(False)
    )
    for weight in model.parameters():  # its one block adds nothing, and the norm leaves sqrt(width) times the word
        weight.fill_(1.0 if weight.ndim == 1 else 0.0)
    model.model.embed_tokens.weight[:, : len(WORDS)] = torch.eye(len(WORDS))
    table = torch.full((len(WORDS), len(WORDS)), 1e-9)
    for before, after in told.items():
        for word, share in after.items():
            table[place[before], place[word]] = share
    model.lm_head.weight[:, : len(WORDS)] = table.log().T / width**0.5
    return Variant("chain", model, words(*WORDS))


@pytest.mark.parametrize(
    ("city", "hall", "said"), [(0.9, 0.1, "york city"), (0.9, 0.9, "york city hall"), (0.3, 0.9, "york")]
)
def test_a_longer_answer_is_said_by_a_model_that_knows_it(city, hall, said):
    variant = chain(city, hall)
    (found,) = score(variant, [asked(said)])
    by_hand = [0.6 * (1 - city), 0.6 * city * (1 - hall), 0.6 * city * hall, 0.3, 0.1]
    assert np.exp(found.log_probs) == pytest.approx(by_hand, rel=1e-4)
    assert (found.predicted, found.rule) == (said, "without_longer")
    wins = {answer: score(variant, [asked(answer)])[0].greedy for answer in ANSWERS}
    assert wins == {answer: answer == said for answer in ANSWERS}
    assert found.log_prob == pytest.approx(math.log(by_hand[ANSWERS.index(said)]), abs=1e-4)


def test_a_list_without_such_answers_is_scored_as_it_stands():
    plain = Candidates("place", "place", ("york", "oslo", "paris"), (1 / 3,) * 3)
    (found,) = score(chain(0.9, 0.1), [asked("york", plain)])
    assert np.exp(found.log_probs) == pytest.approx([0.6, 0.3, 0.1], rel=1e-4)
    assert (found.rule, found.greedy, found.predicted) == ("whole", True, "york")


@pytest.mark.parametrize("mean", ["probabilities", "log_probabilities"])
def test_a_mixture_of_prompts_follows_the_same_rule(mean):
    members = [chain(0.9, 0.1), chain(0.7, 0.2)]
    items = [asked(answer) for answer in ANSWERS]
    singles = [score(member, items) for member in members]
    found = score_mixture(members, singles, items, mean=mean)
    assert {one.predicted for one in found} == {"york city"}
    assert [one.greedy for one in found] == [answer == "york city" for answer in ANSWERS]
    assert {one.rule for one in found} == {"without_longer"}


tail = st.lists(st.integers(0, 3), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(st.lists(tail, min_size=1, max_size=7, unique_by=tuple), st.integers(0, 2**32 - 1))
def test_shares_of_any_list_exclude_each_other_and_every_candidate_can_win(tails, seed):
    draw = np.random.default_rng(seed)
    shares: dict[tuple[int, ...], np.ndarray] = {}

    def whole(tokens):
        """Probability of a tail under a random tree of next tokens, of which some goes elsewhere at every step."""
        total = 1.0
        for place, token in enumerate(tokens):
            total *= shares.setdefault(tuple(tokens[:place]), draw.dirichlet([1.0] * 5))[token]
        return total

    log_probs = [math.log(whole(tokens)) for tokens in tails]
    found = np.exp(exclusive(log_probs, tails))
    for own, mine in zip(tails, found, strict=True):  # what begins with it ends as it, or as one of those that go on
        inside = [share for other, share in zip(tails, found, strict=True) if other[: len(own)] == own]
        assert sum(inside) == pytest.approx(whole(own), rel=1e-5)
        assert mine > 0
    for place, tokens in enumerate(tails):  # a model that is sure of it says it
        sure = [0.0 if tokens[: len(one)] == one else -20.0 for one in tails]
        assert int(np.argmax(exclusive(sure, tails))) == place
        assert said_whole([tokens[: len(one)] == one for one in tails], tails)[place]


@settings(max_examples=300, deadline=None)
@given(st.lists(tail, min_size=1, max_size=7, unique_by=tuple))
def test_longer_ones_are_the_next_in_every_line(tails):
    for own, places in zip(tails, longer_of(tails), strict=True):
        after = [one for one in tails if len(one) > len(own) and one[: len(own)] == own]
        nearest = [one for one in after if not any(one[: len(two)] == two for two in after if two != one)]
        assert [tails[place] for place in places] == nearest


@pytest.mark.parametrize(
    ("tokenizer", "answers"),
    [
        (words("<unk>", "where", "is", "it"), ("Lima", "Rome", "Oslo")),  # words that it does not know
        (words(*WORDS, lower=True), ("Oslo", "paris", "oslo")),  # words that it writes alike
    ],
)
def test_answers_in_the_same_tokens_are_refused_with_the_words(tokenizer, answers):
    alike = Candidates("place", "place", answers, (1 / 3,) * 3)
    model = tiny("llama")
    for ask in (
        lambda items: score(Variant("v", model, tokenizer), items),
        lambda items: encode_questions(tokenizer, items),
    ):
        with pytest.raises(
            InputError, match=f"answers '{answers[0]}' and '{answers[-1 if 'oslo' in answers else 1]}' alike"
        ):
            ask([asked(answers[0], alike)])


def test_subjects_in_the_same_tokens_are_refused_with_the_words():
    two = [asked("oslo", subject=name, question=f"where is {name}") for name in ("Ada", "Bo")]
    with pytest.raises(InputError, match="questions about 'Ada' and 'Bo' alike"):
        score(chain(0.5, 0.5), two)
    known = [replace(one, question=f"where is {name}") for one, name in zip(two, ("it", "lima"), strict=True)]
    assert len(score(chain(0.5, 0.5), known)) == 2
