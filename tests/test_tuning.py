"""Tuning: the loss is the plain one, it falls on a planted task, and only what is tuned moves."""

import re
from functools import partial

import pytest
import torch

from data.errors import InputError
from probes.lora import adapted, add_lora
from probes.prefix_tuning import draw_prefix
from probes.prompts import draw_prompt, load_prompts
from probes.repairs.base import PREFIX, PROMPT, TuningData
from probes.repairs.registry import work_of
from probes.specs.repairs.prefix import PrefixSpec
from probes.specs.repairs.prompt import PromptSpec
from probes.tokens import encode
from probes.tuning import TuningRow, encode_blocks, statement_rows, text_rows, token_loss, tune
from tests.tiny_models import TINY_TYPES, tiny
from tests.tuning_rows import BUDGET, STATEMENTS

assert_equal = partial(torch.testing.assert_close, rtol=1e-5, atol=2e-5)


def tuned_prompt(model, rows, text=(), **changes):
    prompt = torch.nn.Parameter(draw_prompt(model, 4, seed=0))
    log = tune(model, [prompt], rows, list(text), prompt=prompt, **(BUDGET | changes))
    return prompt, log


@pytest.mark.parametrize("length", [0, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_the_loss_at_scored_positions_is_that_of_the_full_logits(model, masked, length, tokenizer):
    rows = statement_rows(tokenizer, STATEMENTS, masked=masked)
    prompt = draw_prompt(model, length, 1) if length else None
    losses = []
    for row in rows:  # one by one, unpadded, by Hugging Face alone
        embeds = model.get_input_embeddings()(torch.tensor(row.tokens))
        embeds = embeds if prompt is None else torch.cat([prompt, embeds])
        log_probs = model(inputs_embeds=embeds[None], use_cache=False).logits[0, length:].log_softmax(-1)
        losses += [-log_probs[place - 1, row.tokens[place]] for place in range(row.scored_from, len(row.tokens))]
    assert_equal(token_loss(model, rows, prompt), torch.stack(losses).mean())


def test_the_gradient_is_that_of_reading_the_prompt_before_every_row(model, tokenizer):
    rows = statement_rows(tokenizer, STATEMENTS)
    once, each = (draw_prompt(model, 3, 1).requires_grad_() for _ in range(2))
    token_loss(model, rows, once).backward()
    losses = []
    for row in rows:
        embeds = torch.cat([each, model.get_input_embeddings()(torch.tensor(row.tokens))])
        log_probs = model(inputs_embeds=embeds[None], use_cache=False).logits[0, 3:].log_softmax(-1)
        losses += [-log_probs[place - 1, row.tokens[place]] for place in range(row.scored_from, len(row.tokens))]
    torch.stack(losses).mean().backward()
    assert_equal(once.grad, each.grad)


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_the_loss_falls_and_gradients_reach_the_prompt_alone(model_type, tokenizer):
    model = tiny(model_type).requires_grad_(False)
    rows = statement_rows(tokenizer, STATEMENTS)
    prompt, log = tuned_prompt(model, rows)
    assert log[-1].loss < 0.7 * log[0].loss
    assert all(parameter.grad is None for parameter in model.parameters())
    assert prompt.grad is not None
    assert (prompt.grad.abs().sum(1) > 0).all()
    assert token_loss(model, rows, prompt).item() < 0.7 * log[0].loss  # what is returned is what was tuned


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "spec",
    [PromptSpec(length=2, learning_rate=1e-3), PrefixSpec(length=2, learning_rate=1e-3)],
    ids=["prompt", "prefix"],
)
def test_small_steps_add_up_in_half_precision(spec, dtype, tokenizer, tmp_path):
    """A step is less than bfloat16 can tell of numbers of this size, thirty are not; float16 loses Adam's squares."""
    model = tiny("llama").to(dtype).requires_grad_(False)
    model.get_input_embeddings().weight *= 40  # words of ordinary size
    budget = {"steps": 30, "batch": 4, "text_batch": 0}
    data = TuningData(statement_rows(tokenizer, STATEMENTS), [], 0, budget)
    work_of(spec).tune(model, spec, data, tmp_path)
    (kept,) = load_prompts(tmp_path / (PROMPT if isinstance(spec, PromptSpec) else PREFIX))
    start = draw_prompt(model, 2, 0) if isinstance(spec, PromptSpec) else draw_prefix(model, 2, 0)
    assert kept.dtype == dtype
    assert bool(kept.isfinite().all())
    large = start.abs() > 0.6
    assert large.sum() >= 5
    assert (kept != start)[large].float().mean() > 0.6
    assert (kept.float() - start.float()).abs().max() <= 30 * 1e-3 + 0.02  # and no further than thirty steps lead


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_lora_learns_a_planted_task_and_only_its_parameters_have_gradients(model_type, tokenizer):
    model = tiny(model_type).requires_grad_(False)
    lora = add_lora(model, rank=4, targets="all", seed=0)
    moved = [one for one in lora.parameters() if one.requires_grad]
    budget = BUDGET | {"learning_rate": 0.02}
    log = tune(adapted(lora), moved, statement_rows(tokenizer, STATEMENTS), [], prompt=None, **budget)
    assert log[-1].loss < 0.3 * log[0].loss
    assert all(one.grad is None for one in model.parameters())
    assert all(one.grad is not None for one in moved)


def test_the_first_step_is_the_loss_before_any_tuning(model, tokenizer):
    rows = statement_rows(tokenizer, STATEMENTS)
    _, log = tuned_prompt(model, rows, steps=1)
    assert log[0].loss == pytest.approx(float(token_loss(model, rows, draw_prompt(model, 4, seed=0))), abs=2e-5)
    assert log[0].tokens == sum(len(row.tokens) for row in rows)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tokenizer):
    model = tiny("llama").requires_grad_(False)
    rows = statement_rows(tokenizer, STATEMENTS)
    changes = {"steps": 5, "batch": 2}
    (first, log), (again, log_again), (other, _) = (
        tuned_prompt(model, rows, **changes, seed=seed) for seed in (3, 3, 4)
    )
    assert first.detach().numpy().tobytes() == again.detach().numpy().tobytes()
    assert log == log_again
    assert not torch.equal(first, other)


def test_the_global_random_state_does_not_matter(tokenizer):
    model = tiny("llama").requires_grad_(False)
    results = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        results.append(tuned_prompt(model, statement_rows(tokenizer, STATEMENTS), steps=3)[0])
    assert torch.equal(*results)


def test_text_and_facts_each_weigh_a_half(model, tokenizer):
    facts = statement_rows(tokenizer, STATEMENTS)
    text = text_rows([[5, 9, 33, 7], [40, 8, 12, 21]])
    _, log = tuned_prompt(model, facts, text, steps=1, text_batch=2)
    start = draw_prompt(model, 4, seed=0)
    halves = (float(token_loss(model, facts, start)) + float(token_loss(model, text, start))) / 2
    assert log[0].loss == pytest.approx(halves, abs=2e-5)
    _, alone = tuned_prompt(model, [], text, steps=1, text_batch=2)
    assert alone[0].loss == pytest.approx(float(token_loss(model, text, start)), abs=2e-5)


def test_every_row_is_read_once_before_any_is_read_again():
    model = tiny("llama").requires_grad_(False)
    rows = [TuningRow(tuple(range(4, 5 + length)), 1) for length in range(1, 10)]  # known by their lengths
    _, log = tuned_prompt(model, rows, steps=6, batch=3)
    whole = sum(len(row.tokens) for row in rows)
    assert [sum(step.tokens for step in log[first : first + 3]) for first in (0, 3)] == [whole, whole]


def test_answers_are_scored_and_masked_rows_hold_none_of_them(tokenizer):
    rows = statement_rows(tokenizer, STATEMENTS)
    masked = statement_rows(tokenizer, STATEMENTS, masked=True)
    by_question = {tuple(encode(tokenizer, question)): encode(tokenizer, answer) for question, answer in STATEMENTS}
    for row in rows:
        assert list(row.tokens[row.scored_from :]) == by_question[row.tokens[: row.scored_from]]
    answers = {token for answer in by_question.values() for token in answer}
    assert not answers & {token for row in masked for token in row.tokens}
    # "celia" alone has nothing before its only token, so nothing of it could be scored.
    assert {row.tokens for row in masked} == {question for question in by_question if len(question) > 1}
    assert all(row.scored_from == 1 for row in masked)
    assert statement_rows(tokenizer, []) == []


def test_a_loss_that_is_no_number_is_refused():
    model = tiny("llama").requires_grad_(False)
    model.lm_head.weight[7, 0] = float("nan")
    with pytest.raises(InputError, match=re.escape("diverged at step 0 (loss nan): lower learning_rate (now 0.1)")):
        tuned_prompt(model, [TuningRow((5, 6, 7), 1)])


def test_divergence_on_the_way_is_refused_at_its_step():
    model = tiny("llama").requires_grad_(False)
    with pytest.raises(InputError, match="diverged at step 1 "):
        tuned_prompt(model, [TuningRow((5, 6, 7), 1)], learning_rate=float("inf"))


def test_nothing_to_read_is_refused():
    with pytest.raises(InputError, match="no tuning text"):
        tuned_prompt(tiny("llama"), [])


def test_progress_is_reported_step_by_step():
    model, told = tiny("llama").requires_grad_(False), []
    tuned_prompt(model, [TuningRow((5, 6), 1)], steps=3, on_step=lambda *step: told.append(step))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_blocks_are_the_running_text_cut_without_loss(tokenizer):
    texts = ["ada lives in london", "bruno works near oslo by the home of celia", "edda is born"]
    running = [token for text in texts for token in encode(tokenizer, text)]
    blocks = encode_blocks(tokenizer, texts, 4)
    assert all(len(block) == 4 for block in blocks)
    assert [token for block in blocks for token in block] == running[: len(blocks) * 4]
    assert len(running) - len(blocks) * 4 < 4
    with pytest.raises(InputError, match=rf"holds {len(running)} tokens, less than one block of 99"):
        encode_blocks(tokenizer, texts, 99)
