"""Prefix tuning: a prefix of a prompt's own keys is that prompt, tuning lowers the loss, and every reader sees it."""

from functools import partial
from typing import Any

import pytest
import torch
from peft import PrefixTuningConfig, get_peft_model

from data.errors import InputError
from probes.capture import Recorder
from probes.prefix import Prefixes
from probes.prefix_tuning import EncodedPrefix, PrefixShape, TunedPrefix, draw_prefix, flatten
from probes.prompts import draw_prompt
from probes.sharing import share_weights
from probes.sites import Kind, sites_of
from probes.tuning import statement_rows, text_rows, token_loss, tune
from probes.variants import Variant, require_difference
from tests.tiny_models import LAYERS, tiny
from tests.tuning_rows import BUDGET, STATEMENTS

ROWS = [[5, 9, 33, 7, 12], [40], [8, 8, 21]]
LENGTH = 3
assert_equal = partial(torch.testing.assert_close, rtol=1e-5, atol=2e-5)


def variant(model, **held) -> Variant:
    return Variant("prefix", model, None, **held)  # type: ignore[arg-type]


def drawn(model, seed=1):
    """A prefix that no prompt could leave."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(LENGTH, PrefixShape.of(model).per_slot, generator=generator)


def test_an_untuned_prefix_is_the_prompt_of_its_words(model):
    prompt = variant(model, prompt=draw_prompt(model, LENGTH, 4))
    prefix = variant(model, prefix=TunedPrefix(draw_prefix(model, LENGTH, 4), model))
    assert_equal(prefix.logits(ROWS), prompt.logits(ROWS))
    rows = _text(ROWS)
    assert_equal(
        token_loss(model, rows, TunedPrefix(draw_prefix(model, LENGTH, 4), model)),
        token_loss(model, rows, prompt.prompt),
    )


def _text(rows):
    return text_rows([row for row in rows if len(row) > 1])


def test_flattening_and_laying_out_undo_each_other(model):
    flat = drawn(model)
    laid = TunedPrefix(flat, model)
    assert torch.equal(flatten(laid), flat)
    prompt = Prefixes(model, [draw_prompt(model, LENGTH, 2)])
    again = TunedPrefix(flatten(prompt), model)
    for ours, theirs in zip(again.keys + again.values, prompt.keys + prompt.values, strict=True):
        assert torch.equal(ours, theirs)


def test_a_pass_over_inputs_reads_what_the_cache_holds(model):
    """The two ways in which a prefix is read: by scoring as a cache, by capture as the first positions."""
    one = variant(model, prefix=TunedPrefix(drawn(model), model))
    inputs = one.inputs(ROWS)
    with torch.no_grad():
        logits = one.model(**inputs.forward_arguments(), use_cache=False).logits
    assert_equal(logits[:, -1], one.logits(ROWS))
    assert require_difference(one, variant(model), ROWS) > 1e-2
    assert variant(model).logits(ROWS).equal(variant(share_weights(model)).logits(ROWS))  # the parent reads no prefix


@pytest.mark.parametrize("backend", ["hooks", "transformer_lens"])
def test_both_backends_see_the_prefix(model, backend):
    one = variant(model, prefix=TunedPrefix(drawn(model), model))
    inputs = one.inputs(ROWS)
    sites = sites_of(model, (Kind.RESID_PRE, Kind.PATTERN, Kind.RESID_POST))
    recorder = Recorder(one.model, backend=backend)
    recorder.parity(inputs, sites).require()
    logits = recorder.stream(inputs, sites, lambda site, tensor: None)
    assert_equal(logits[:, -1], one.logits(ROWS))


def test_a_prefix_is_what_peft_makes_of_the_same_numbers(model):
    flat = drawn(model)
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=LENGTH)
    theirs = get_peft_model(share_weights(model), config).eval()
    theirs.prompt_encoder["default"].load_prompt_embeddings(flat)  # type: ignore[operator]
    one = variant(model, prefix=TunedPrefix(flat, model))
    for row in ROWS:
        with torch.no_grad():
            expected = theirs(input_ids=torch.tensor([row]), attention_mask=torch.ones(1, len(row))).logits[0, -1]
        assert_equal(one.logits([row])[0], expected)


@pytest.mark.parametrize("width", [None, 16])
def test_the_loss_falls_and_gradients_reach_the_prefix_alone(model, tokenizer, width):
    rows = statement_rows(tokenizer, STATEMENTS)
    if width is None:
        flat = torch.nn.Parameter(draw_prefix(model, LENGTH, 0))
        moved: list[Any] = [flat]
        made: Any = lambda: flat  # noqa: E731
    else:
        made = EncodedPrefix(model, LENGTH, width, 0)
        moved = list(made.parameters())
    log = tune(model, moved, rows, [], prompt=lambda: TunedPrefix(made(), model), **BUDGET)
    assert log[-1].loss < 0.7 * log[0].loss
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(one.grad is not None for one in moved)
    kept = TunedPrefix(made().detach(), model)
    assert token_loss(model, rows, kept).item() < 0.7 * log[0].loss  # what is kept is what was tuned


def test_the_same_seed_gives_the_same_encoder_whatever_the_global_state():
    model, made = tiny("llama"), []
    for noise, seed in ((1, 0), (2, 0), (3, 1)):
        torch.manual_seed(noise)
        made.append(EncodedPrefix(model, LENGTH, 8, seed)())
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_a_slot_holds_keys_and_values_of_every_layer(model):
    cached = model(torch.tensor([[5]]), use_cache=True).past_key_values.layers  # of one token
    assert len(cached) == LAYERS
    assert draw_prefix(model, 5, 0).shape == (5, sum(one.keys.numel() + one.values.numel() for one in cached))
    assert PrefixShape.of(model).heads == cached[0].keys.shape[1]


def test_a_generation_goes_on_behind_the_prefix(model):
    one = variant(model, prefix=TunedPrefix(drawn(model), model))
    row = list(ROWS[0])
    for token in one.generate_rows([row], 3)[0]:
        assert int(one.logits([row])[0].argmax()) == token
        row.append(token)


@pytest.mark.parametrize("length", [0, 64])
def test_a_prefix_without_a_slot_or_without_room_is_refused(length):
    with pytest.raises(InputError, match=r"length of 1 or more|no place for content"):
        draw_prefix(tiny("llama"), length, 0)


def test_another_models_prefix_is_refused():
    with pytest.raises(InputError, match="is not this model's: its 2 layers of 2 key heads, 8 wide, make 64 numbers"):
        TunedPrefix(torch.zeros(2, 65), tiny("llama"))


def test_a_prefix_beside_a_prompt_is_refused():
    model = tiny("llama")
    with pytest.raises(ValueError, match="a prompt and a prefix"):
        variant(model, prompt=draw_prompt(model, 2, 0), prefix=TunedPrefix(drawn(model), model))
