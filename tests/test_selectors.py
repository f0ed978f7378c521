"""Selectors: what they read is what they say, order and batch do not matter, and none looks at an answer unlabelled."""

from functools import partial
from typing import get_args

import numpy as np
import pytest
import torch

from analysis.study import Study
from data.errors import InputError
from data.facts import Candidates, Fact, Item
from probes.idp import PromptBank
from probes.outcomes import outcomes
from probes.prompts import draw_prompt
from probes.selection.attention import AttentionSelector, Selector
from probes.selection.base import PromptSelector
from probes.selection.fixed import FixedSelector
from probes.selection.key import KeySelector, mean_embeddings
from probes.selection.mixture import Mean, score_mixture
from probes.selection.outputs import OUTPUT_READINGS, OutputSelector
from probes.selection.random import RandomSelector
from probes.selection.router import PENALTIES, RouterSelector, choose_penalty, fit_logistic
from probes.variants import Variant
from tests.studies import STUDY
from tests.tiny_models import tiny

ROWS = [[5, 9, 33, 7, 12], [40], [8, 8, 21], [60, 3, 17, 18]]
LENGTHS = (2, 5, 3)
SETTINGS = {
    "joint": Selector(),
    "separate": Selector(softmax="separate"),
    "all separate": Selector(layers="all", softmax="separate"),
    "one head of one layer": Selector(layers=(1,), heads=(2,)),
}
assert_equal = partial(torch.testing.assert_close, rtol=1e-5, atol=3e-5)


def bank_of(model, lengths=LENGTHS):
    return [draw_prompt(model, length, seed, "gaussian") for seed, length in enumerate(lengths)]


def selectors_of(model, prompts):
    made: dict[str, PromptSelector] = {
        name: AttentionSelector(model, prompts, settings) for name, settings in SETTINGS.items()
    }
    made |= {name: OutputSelector(model, prompts, name) for name in OUTPUT_READINGS}
    return made | {"key": KeySelector.of_prompts(model, prompts)}


def test_the_order_of_the_bank_does_not_change_the_kept_prompt(model):
    prompts, order = bank_of(model), [2, 0, 1]
    straight, turned = selectors_of(model, prompts), selectors_of(model, [prompts[place] for place in order])
    for name, selector in straight.items():
        ours, theirs = selector.scores(ROWS), turned[name].scores(ROWS)
        assert_equal(theirs, ours[:, order], msg=name)
        assert [order[place] for place in theirs.argmax(dim=1).tolist()] == ours.argmax(dim=1).tolist(), name


def test_a_batch_is_scored_as_its_rows_are(model):
    prompts = bank_of(model)
    learned = RouterSelector.fit(model, ROWS, np.eye(4, 3), "last")
    others = {"router": learned, "random": RandomSelector(3, 0), "fixed": FixedSelector(3, 1)}
    for name, selector in (selectors_of(model, prompts) | others).items():
        one_by_one = torch.cat([selector.scores([row]) for row in ROWS])
        assert_equal(selector.scores(ROWS), one_by_one, msg=name)


def test_a_prompt_alone_before_the_content_is_a_bank_of_one(model):
    """The separate softmax: what a prompt gets does not depend on what else is in the bank."""
    prompts = bank_of(model, (3, 3, 3))
    separate = AttentionSelector(model, prompts, SETTINGS["all separate"]).scores(ROWS)
    for place, prompt in enumerate(prompts):
        alone = AttentionSelector(model, [prompt], Selector(layers="all")).scores(ROWS)
        assert_equal(separate[:, place], alone[:, 0])
    joint = AttentionSelector(model, prompts, Selector(layers="all")).scores(ROWS)
    assert (joint < separate).all()


def test_all_heads_and_layers_are_the_mean_of_each(model):
    prompts = bank_of(model)
    whole = AttentionSelector(model, prompts, Selector(layers="all")).scores(ROWS)
    parts = [
        AttentionSelector(model, prompts, Selector(layers=(layer,), heads=(head,))).scores(ROWS)
        for layer in range(2)
        for head in range(4)
    ]
    assert_equal(torch.stack(parts).mean(dim=0), whole)
    first = AttentionSelector(model, prompts, Selector(layers=(0,)))
    assert_equal(first.scores(ROWS), AttentionSelector(model, prompts, Selector()).scores(ROWS))
    assert first.cost == "first_layer"


@pytest.mark.parametrize("settings", [Selector(layers=(2,)), Selector(heads=(4,)), Selector(layers=())])
def test_layers_and_heads_that_are_not_there_are_refused(settings):
    model = tiny("llama")
    with pytest.raises((InputError, ValueError)):
        AttentionSelector(model, bank_of(model), settings)


def test_outputs_are_those_of_a_plain_pass_behind_the_prompt(model):
    prompts = bank_of(model, (3, 3, 3))
    read = OutputSelector(model, prompts, "likelihood").readings(ROWS)
    for index, row in enumerate(ROWS):
        for place, prompt in enumerate(prompts):
            embeds = torch.cat([prompt, model.get_input_embeddings()(torch.tensor(row))])[None]
            with torch.no_grad():
                log_probs = model(inputs_embeds=embeds).logits[0].log_softmax(dim=-1)
            told = [log_probs[2 + offset, token] for offset, token in enumerate(row)]
            following = log_probs[-1].exp().sort(descending=True).values
            assert_equal(read["likelihood"][index, place], torch.stack(told).mean())
            assert_equal(read["entropy"][index, place], (following * following.log()).sum())
            assert_equal(read["margin"][index, place], following[0] - following[1])


def test_the_opening_token_of_a_tokenizer_is_not_part_of_the_question():
    model = tiny("llama")
    prompts = bank_of(model, (3, 3))
    opened = [model.config.bos_token_id, 9, 33]
    embeds = torch.cat([prompts[0], model.get_input_embeddings()(torch.tensor(opened))])[None]
    with torch.no_grad():
        log_probs = model(inputs_embeds=embeds).logits[0].log_softmax(dim=-1)
    likelihood = OutputSelector(model, prompts, "likelihood").scores([opened])
    assert_equal(likelihood[0, 0], (log_probs[3, 9] + log_probs[4, 33]) / 2)


def test_random_draws_by_content_alone_and_evenly():
    rows = [[first, second] for first in range(40) for second in range(40)]
    selector = RandomSelector(4, seed=0)
    chosen = selector.scores(rows).argmax(dim=1)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    turned = selector.scores([rows[place] for place in order.tolist()]).argmax(dim=1)
    assert torch.equal(turned, chosen[order])
    counts = torch.bincount(chosen, minlength=4)
    # Six standard deviations of a binomial count of 1600 at a quarter.
    assert (counts - 400).abs().max() < 6 * (1600 * 0.25 * 0.75) ** 0.5
    assert (RandomSelector(4, seed=1).scores(rows).argmax(dim=1) != chosen).any()


def test_the_fixed_prompt_is_the_best_on_tune_facts():
    log_probs = np.array([[-1.0, -2.0, -3.0], [-9.0, -2.0, -3.0]])
    assert FixedSelector.best(log_probs).scores([[1], [2, 3]]).argmax(dim=1).tolist() == [1, 1]


def test_a_key_is_found_by_its_own_tokens():
    model = tiny("llama")
    prompts = [model.get_input_embeddings()(torch.tensor(row)).detach() for row in ROWS]
    assert KeySelector.of_prompts(model, prompts).scores(ROWS).argmax(dim=1).tolist() == [0, 1, 2, 3]
    centres = mean_embeddings(model, ROWS)
    assert KeySelector(model, centres, "euclidean").scores(ROWS).argmax(dim=1).tolist() == [0, 1, 2, 3]


def test_the_logistic_fit_is_at_its_minimum():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 5, generator=generator, dtype=torch.float64)
    classes = torch.randint(3, (60,), generator=generator)
    weights = torch.tensor(fit_logistic(features.numpy(), classes.numpy(), 4, penalty=0.5), requires_grad=True)
    logits = features @ weights[:-1] + weights[-1]
    loss = torch.nn.functional.cross_entropy(logits, classes, reduction="sum")
    loss = loss + 0.25 * (weights[:-1] ** 2).sum() + 0.25 * 1e-4 * (weights[-1] ** 2).sum()
    loss.backward()
    assert weights.grad is not None
    assert weights.grad.abs().max() < 1e-2


@pytest.mark.parametrize("states", ["first", "last"])
def test_the_router_learns_whom_a_planted_word_names(model, states):
    """The right prompt is told by the row's first word; rows of other second and third words are held out."""
    first = [5, 20, 40]
    rows = [[first[place % 3], 6 + place % 13, 7 + place % 17] for place in range(90)]
    right = np.eye(3)[[place % 3 for place in range(90)]]
    router = RouterSelector.fit(model, rows[:60], right[:60], states)
    found = router.scores(rows[60:]).argmax(dim=1).numpy()
    assert (found == right[60:].argmax(axis=1)).mean() > 0.9
    assert router.cost == ("first_layer" if states == "first" else "full_pass")


def test_a_penalty_is_chosen_by_rows_that_share_no_group():
    """Who is asked about tells the right prompt and nothing else does: of use only where the same one was seen."""
    rng = np.random.default_rng(0)
    who = np.arange(80) % 40
    features = np.eye(40)[who] + 0.01 * rng.normal(size=(80, 40))
    log_probs = np.eye(4)[rng.integers(4, size=40)[who]]
    rows = np.arange(80)[:, None]
    assert choose_penalty(features, log_probs, rows // 40)[1] > 0.95
    assert choose_penalty(features, log_probs, who[:, None] % 5)[1] < 0.5
    # Nothing to be learned: no penalty is better than another, and the largest is taken.
    assert choose_penalty(np.ones((80, 4)), log_probs, rows % 5)[0] == max(PENALTIES)
    assert choose_penalty(features, log_probs, np.zeros((80, 1), dtype=int)) == (max(PENALTIES), float("-inf"))


def test_what_all_questions_share_does_not_part_them(model):
    rows = [[5 + place % 3, 6 + place % 13] for place in range(30)]
    right = np.eye(3)[[place % 3 for place in range(30)]]
    same = np.zeros((30, 1), dtype=int)
    one, two = RouterSelector.fit(model, rows, right), RouterSelector.fit(model, rows, right, groups=same)
    assert (one.pooling, one.penalty) == (two.pooling, two.penalty)
    assert torch.equal(one.scores(rows), two.scores(rows))


def test_a_study_may_compute_the_oracle_and_never_report_it():
    oracle = {"kind": "idp", "lengths": [2, 2], "learning_rate": 0.03, "selector": "oracle"}
    changed = STUDY.model_dump() | {"repairs": [*STUDY.model_dump()["repairs"], oracle]}
    assert Study.model_validate(changed).repairs[-1].name == "idp-2x2-oracle"
    with pytest.raises(ValueError, match="idp-2x2-oracle looks at the answers"):
        Study.model_validate(changed | {"reported": ["prompt-2", "idp-2x2-oracle"]})


@pytest.fixture
def items():
    answers = Candidates("home", "home", ("oslo", "london", "berliners"), (0.3, 0.3, 0.4))
    people = zip(("ada", "bruno", "celia dario"), answers.answers, strict=True)
    return [
        Item(Fact("home", subject, answer, "facts", "test"), "measure", f"{subject} lives in", answers)
        for subject, answer in people
    ]


def test_the_mixture_is_the_mean_of_its_members(model, tokenizer, items):
    asked = outcomes(model, tokenizer, bank_of(model), items)
    mixed = score_mixture(asked.members, asked.singles, items)
    for place, one in enumerate(mixed):
        by_hand = np.mean([np.exp(single[place].log_probs) for single in asked.singles], axis=0)
        np.testing.assert_allclose(np.exp(one.log_probs), by_hand, rtol=1e-5)
    for one, row in zip(mixed, asked.rows, strict=True):
        following = torch.stack([member.logits([row])[0].softmax(dim=-1) for member in asked.members]).mean(dim=0)
        assert one.said == tokenizer.decode([int(following.argmax())]).strip()


@pytest.mark.parametrize("mean", get_args(Mean))
def test_one_prompt_many_times_is_that_prompt(model, tokenizer, items, mean):
    prompt = draw_prompt(model, 3, 0)
    asked = outcomes(model, tokenizer, [prompt, prompt, prompt], items)
    mixed = score_mixture(asked.members, asked.singles, items, batch=2, mean=mean)
    for ours, theirs in zip(mixed, asked.singles[0], strict=True):
        np.testing.assert_allclose(ours.log_probs, theirs.log_probs, atol=1e-5)
        assert (ours.greedy, ours.said) == (theirs.greedy, theirs.said)


def test_the_ensemble_is_the_mean_of_logs_and_never_above_the_mixture(model, tokenizer, items):
    asked = outcomes(model, tokenizer, bank_of(model), items)
    mixed = score_mixture(asked.members, asked.singles, items)
    ensemble = score_mixture(asked.members, asked.singles, items, mean="log_probabilities")
    for place, (one, other) in enumerate(zip(ensemble, mixed, strict=True)):
        by_hand = np.mean([single[place].log_probs for single in asked.singles], axis=0)
        np.testing.assert_allclose(one.log_probs, by_hand, rtol=1e-5)
        assert (np.array(one.log_probs) < other.log_probs).all()  # Jensen's inequality
    for one, row in zip(ensemble, asked.rows, strict=True):
        following = torch.stack([member.logits([row])[0].log_softmax(dim=-1) for member in asked.members]).mean(dim=0)
        assert one.said == tokenizer.decode([int(following.argmax())]).strip()


def test_what_a_choice_says_is_looked_up_among_the_members(model, tokenizer, items):
    """The selector comparison costs nothing per selector because of this."""
    from probes.scoring import score

    prompts = bank_of(model)
    asked = outcomes(model, tokenizer, prompts, items)
    chosen = Variant("idp", model, tokenizer, bank=PromptBank(model, prompts, RandomSelector(3, 0)))
    for place, one in enumerate(score(chosen, items)):
        assert one.chosen is not None
        assert one.log_prob == pytest.approx(asked.log_probs[place, one.chosen], abs=1e-4)


def test_a_bank_that_does_not_go_together_is_refused(model):
    width = bank_of(model)[0].shape[1]
    with pytest.raises(InputError, match="widths"):
        PromptBank(model, [torch.zeros(2, width), torch.zeros(2, width + 1)], Selector())
    with pytest.raises(InputError, match="another's"):
        PromptBank(model, [torch.zeros(2, width + 1)], Selector())
    with pytest.raises(InputError, match=r"prompt 1 of the bank has 64 tokens"):
        PromptBank(model, [torch.zeros(2, width), torch.zeros(64, width)], Selector())
    with pytest.raises(InputError, match="without a prompt"):
        PromptBank(model, [], Selector())
