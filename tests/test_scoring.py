"""Scoring: log-probabilities are those of one plain forward pass over question and candidate, token by token."""

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from data.facts import Candidates, Fact, Item
from probes.idp import PromptBank
from probes.lora import adapted
from probes.prompts import draw_prompt
from probes.scoring import Score, score
from probes.selection.attention import Selector
from probes.tokens import encode, encode_continuations
from probes.tuning import statement_rows, tune
from probes.variants import Variant
from tests.sequences import shifted_lora
from tests.tiny_models import TINY_TYPES, tiny

# Sums in another order: what equals but for fp32 rounding. A log-probability here is some -10 nats.
FLOOR = 1e-4
assert_equal = partial(torch.testing.assert_close, rtol=0, atol=FLOOR)

# One, two, three and four tokens; `lon` begins `london`, and `lonlin` begins as it does.
CITIES = ("oslo", "london", "berlin", "lon", "berliners", "lonlin", "paris", "berliner")
LIST = Candidates("home", "home", CITIES, (1 / len(CITIES),) * len(CITIES))
PAIRS = (LIST, Candidates("trade", "home", ("works", "home"), (0.5, 0.5)))
QUESTIONS = ("ada lives in", "the home of bruno is", "celia", "dario was born near the town", "edda lives in")
KINDS = ("plain", "prompt", "idp", "lora")


def item_of(question: str, answer: str, candidates: Candidates = LIST) -> Item:
    return Item(Fact("home", question, answer, "facts", "test"), "measure", question, candidates)


ITEMS = tuple(item_of(question, CITIES[place]) for place, question in enumerate(QUESTIONS))


def variant_of(kind: str, model: PreTrainedModel, tokenizer) -> Variant:
    variant = Variant(kind, model, tokenizer)
    if kind == "prompt":
        variant.prompt = draw_prompt(model, 3, seed=2)
    elif kind == "idp":
        variant.bank = PromptBank(model, [draw_prompt(model, length, length) for length in (2, 5, 3)], Selector())
    elif kind == "lora":
        variant.model = adapted(shifted_lora(model))
    return variant


def by_hand(variant: Variant, item: Item) -> list[float]:
    """One full pass per candidate, by Hugging Face alone, then the candidates told apart from longer ones."""
    tails = tails_of(variant.tokenizer, item)
    left: dict[tuple[int, ...], float] = {}
    whole = dict(zip(tails, passes(variant, item), strict=True))
    for tail in sorted(tails, key=len, reverse=True):  # what begins with a candidate ends as it, or as one of these
        left[tail] = np.exp(whole[tail]) - sum(left[other] for other in left if other[: len(tail)] == tail)
    return [float(np.log(left[tail])) for tail in tails]


def tails_of(tokenizer, item: Item) -> list[tuple[int, ...]]:
    """Every candidate's tokens after the question."""
    question = len(encode(tokenizer, item.question))
    return [tuple(encode(tokenizer, f"{item.question} {one}")[question:]) for one in item.candidates.answers]


def passes(variant: Variant, item: Item) -> list[float]:
    """Log-probability of each candidate as it stands; the bank's choice is tested where it is made."""
    results = []
    prompt, first = variant.prompt, 0
    if variant.bank is not None:
        prompt = variant.bank.prompts[int(variant.bank.choose([encode(variant.tokenizer, item.question)])[0])]
        first = variant.bank.longest - len(prompt)
    for answer in item.candidates.answers:
        question = encode(variant.tokenizer, item.question)
        tokens = encode(variant.tokenizer, f"{item.question} {answer}")
        embeds = variant.model.get_input_embeddings()(torch.tensor(tokens))
        embeds = embeds if prompt is None else torch.cat([prompt, embeds])
        positions = torch.arange(first, first + len(embeds))[None]
        with torch.no_grad():
            logits = variant.model(inputs_embeds=embeds[None], position_ids=positions, use_cache=False).logits[0]
        log_probs = logits[-len(tokens) :].double().log_softmax(-1)
        places = range(len(question), len(tokens))
        results.append(sum(float(log_probs[place - 1, tokens[place]]) for place in places))
    return results


@pytest.mark.parametrize("kind", KINDS)
def test_log_probabilities_equal_those_of_whole_passes(model, kind, tokenizer):
    variant = variant_of(kind, model, tokenizer)
    items = [*ITEMS, item_of("fenna", "home", PAIRS[1])]
    for item, found in zip(items, score(variant, items, batch=4), strict=True):
        assert found.item == item
        assert_equal(list(found.log_probs), by_hand(variant, item))


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_of_a_batch_does_not_matter(model, kind, tokenizer):
    variant = variant_of(kind, model, tokenizer)
    one, two, all_at_once = (score(variant, ITEMS, batch=size) for size in (1, 2, 64))
    for first, second, third in zip(one, two, all_at_once, strict=True):
        assert first.item == second.item == third.item
        assert_equal(list(first.log_probs), list(second.log_probs))
        assert_equal(list(first.log_probs), list(third.log_probs))
        assert (first.greedy, first.said, first.chosen) == (third.greedy, third.said, third.chosen)


def test_what_does_not_repair_scores_as_its_parent_and_what_does_not_is_seen(model, tokenizer):
    plain = score(variant_of("plain", model, tokenizer), ITEMS)
    for kind in KINDS[1:]:
        moved = score(variant_of(kind, model, tokenizer), ITEMS)
        assert max(abs(one.log_prob - other.log_prob) for one, other in zip(plain, moved, strict=True)) > 0.01


def test_single_token_candidates_over_the_vocabulary_are_the_next_tokens_distribution(model, tokenizer):
    words = [word for word, _ in sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])]
    plain = [word for word in words if not word.startswith("##")]
    item = item_of("ada lives in", plain[0], Candidates("all", "home", tuple(plain), (1 / len(plain),) * len(plain)))
    variant = variant_of("prompt", model, tokenizer)
    (found,) = score(variant, [item])
    expected = variant.logits([encode(tokenizer, "ada lives in")])[0].log_softmax(-1)
    assert_equal(torch.tensor(found.log_probs), expected[tokenizer.convert_tokens_to_ids(plain)])


def test_idp_reports_the_choice_it_scored_with(model, tokenizer):
    variant = variant_of("idp", model, tokenizer)
    bank = variant.bank
    assert bank is not None
    for item, found in zip(ITEMS, score(variant, ITEMS), strict=True):
        scores = bank.scores([encode(tokenizer, item.question)])[0]
        assert found.chosen == int(scores.argmax())
        assert_equal(torch.tensor(found.selector_scores), scores)
        plain = replace(variant, bank=None, prompt=bank.prompts[found.chosen])
        if len(bank.prompts[found.chosen]) == bank.longest:  # nothing but the prompt differs, positions included
            assert_equal(list(found.log_probs), list(score(plain, [item])[0].log_probs))
    assert all(one.chosen is None for one in score(variant_of("plain", model, tokenizer), ITEMS))


def test_the_prediction_is_the_best_candidate_and_log_prob_the_right_ones():
    found = Score(item_of("ada", "berlin"), (-3.0, -1.5, -2.0, -4.0, -9.0, -9.0, -1.6, -7.0), False, "oslo")
    assert (found.predicted, found.log_prob) == ("london", -2.0)


TAUGHT = (("ada lives in", "london"), ("the home of bruno is", "berliners"), ("celia", "oslo"), ("dario", "berlin"))


@cache
def taught(model_type: str, tokenizer) -> PreTrainedModel:
    """A tiny model that knows four planted statements by heart."""
    model = tiny(model_type)
    tune(
        model,
        list(model.parameters()),
        statement_rows(tokenizer, [*TAUGHT[:-1], ("dario", "berlin is")]),  # and not `berliners`
        [],
        prompt=None,
        steps=40,
        batch=4,
        text_batch=0,
        learning_rate=1e-2,
        seed=0,
    )
    return model.requires_grad_(False)


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_greedy_is_what_generate_says(model_type, tokenizer):
    variant = Variant("taught", taught(model_type, tokenizer), tokenizer)
    right = [item_of(question, answer) for question, answer in TAUGHT]
    # The right first token with a wrong second one, one token too many, a wrong first token.
    wrong = [item_of("ada lives in", "lonlin"), item_of("dario", "lon"), item_of("celia", "paris")]
    for found in score(variant, [*right, *wrong, *ITEMS]):
        ((question, answer),) = encode_continuations(tokenizer, [(found.item.question, found.item.fact.answer)])
        said = variant.generate_rows([question], len(answer))[0]
        on = tuple(variant.generate_rows([question], 4)[0])
        longer = [tail for tail in tails_of(tokenizer, found.item) if len(tail) > len(answer)]
        assert found.greedy == (said == answer and not any(on[: len(tail)] == tail for tail in longer))
        assert found.said == tokenizer.decode(said[:1]).strip()
    assert [one.greedy for one in score(variant, right)] == [True] * 4
    assert [one.predicted for one in score(variant, right) if one.item.question == "dario"] == ["berlin"]
    assert not any(one.greedy for one in score(variant, wrong))


def test_every_item_of_a_long_list_comes_back_in_its_place(tokenizer):
    variant = Variant("dense", tiny("llama"), tokenizer)
    words = "the home of bruno is near oslo".split()
    items = [item_of(" ".join(words[: 1 + place % 7]), CITIES[place % 8]) for place in range(40)]
    found = score(variant, items, batch=7)
    assert [one.item for one in found] == items
    # The same question has the same answers wherever it stood.
    assert_equal(list(found[0].log_probs), list(found[35].log_probs))
    assert abs(found[0].log_probs[0] - found[1].log_probs[0]) > 1e-3


def test_nothing_to_score_is_nothing(tokenizer):
    assert score(Variant("dense", tiny("llama"), tokenizer), []) == []
