"""Knocking out all of a prompt leaves the model without it; both forms obey the softmax's own algebra."""

from functools import partial

import pytest
import torch
from scipy import stats

from data.atlas import load_world
from data.errors import InputError
from probes.capture import CaptureError, Recorder
from probes.inputs import build_inputs
from probes.interventions import Place, changing, output_projection
from probes.knockout import FORMS, Knockout, knocked_out, placebo_keys, prompt_keys, windows
from probes.lora import adapted, add_lora
from probes.models import open_model
from probes.prompts import draw_prompt
from probes.sites import Kind, Site
from probes.states import encode_questions
from probes.tuning import statement_rows, tune
from probes.variants import Variant
from tests.oracles import knocked_logits
from tests.tiny_models import HEADS, LAYERS, tiny

FACTS = load_world().facts
ROWS = [[5, 9, 33, 7, 12, 6], [40, 8, 11, 17], [8, 8, 21, 30, 4]]
EVERY = tuple(range(LAYERS))
LENGTH = 3


def prompted(model) -> Variant:
    return Variant("tiny", model, None, prompt=draw_prompt(model, LENGTH, 0))  # type: ignore[arg-type]


def read(model, inputs, kind: Kind, layer: int = 0) -> torch.Tensor:
    held: dict[Site, torch.Tensor] = {}
    with Recorder(model, backend="hooks") as recorder:
        recorder.stream(inputs, [Site(layer, kind)], lambda site, tensor: held.update({site: tensor.clone()}))
    return held[Site(layer, kind)]


def heads_of(model, inputs) -> torch.Tensor:
    """What the heads of layer 0 give before projection: batch x head x position x width."""
    held: dict[int, torch.Tensor] = {}

    def keep(head: int, tensor: torch.Tensor) -> None:
        held[head] = tensor.clone()

    with changing(model, {Place(Site(0, Kind.ATTN_OUT), head): partial(keep, head) for head in range(HEADS)}):
        model(**inputs.forward_arguments(), use_cache=False)
    return torch.stack([held[head] for head in range(HEADS)], dim=1)


def test_without_the_prompts_keys_in_any_layer_the_model_reads_as_if_there_were_no_prompt(model):
    bare = build_inputs(model, ROWS, content_start=LENGTH)
    expected = model(**bare.forward_arguments(), use_cache=False).logits[:, -1]
    found = knocked_logits(prompted(model), ROWS, Knockout(EVERY))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("heads", [None, (1,), (0, 3)])
def test_renormalised_is_zeroed_over_the_weight_that_is_left(model, heads):
    inputs = prompted(model).inputs(ROWS)
    keys, real = prompt_keys(inputs), inputs.content
    pattern, plain = read(model, inputs, Kind.PATTERN), heads_of(model, inputs)
    left = 1 - (pattern * keys[:, None, None, :]).sum(-1, keepdim=True)
    with knocked_out(model, inputs, keys, Knockout((0,), "renormalised", heads)):
        renormalised = heads_of(model, inputs)
    with knocked_out(model, inputs, keys, Knockout((0,), "zeroed", heads)):
        zeroed = read(model, inputs, Kind.ATTN_OUT)
    expected = plain.clone()
    for head in range(HEADS):
        if heads is None or head in heads:
            expected[:, head] = renormalised[:, head] * left[:, head]
        else:
            assert torch.equal(renormalised[:, head], plain[:, head])
    projected = output_projection(model, 0)(expected.transpose(1, 2).flatten(2))
    torch.testing.assert_close(zeroed[real], projected[real], rtol=1e-4, atol=1e-4)
    assert (zeroed - read(model, inputs, Kind.ATTN_OUT))[real].abs().max() > 1e-2


@pytest.mark.parametrize("form", FORMS)
def test_what_the_prompts_own_positions_hold_is_untouched(model, form):
    inputs = prompted(model).inputs(ROWS)
    keys = prompt_keys(inputs)
    before = read(model, inputs, Kind.RESID_POST, LAYERS - 1)
    with knocked_out(model, inputs, keys, Knockout(EVERY, form)):
        after = read(model, inputs, Kind.RESID_POST, LAYERS - 1)
    assert torch.equal(before[keys], after[keys])
    assert (before[inputs.content] - after[inputs.content]).abs().max() > 1e-2


@pytest.mark.parametrize("form", FORMS)
def test_an_adapted_model_is_knocked_out_with_its_adapter(model, form):
    lora = adapted(add_lora(model, rank=2, targets="all", seed=0))
    # An untouched adapter adds nothing, so that the parent's own result must come out.
    expected = knocked_logits(prompted(model), ROWS, Knockout((1,), form))
    assert torch.equal(knocked_logits(prompted(lora), ROWS, Knockout((1,), form)), expected)


def hooks_in(model) -> int:
    return sum(len(one._forward_pre_hooks) + len(one._forward_hooks) for one in model.modules())


@pytest.mark.parametrize("form", FORMS)
def test_everything_is_as_before_afterwards_even_after_an_error(model, form):
    variant = prompted(model)
    inputs = variant.inputs(ROWS)
    before, hooks = variant.logits(ROWS), hooks_in(model)
    with pytest.raises(ZeroDivisionError), knocked_out(model, inputs, prompt_keys(inputs), Knockout(EVERY, form)):
        _ = 1 / 0
    knocked_logits(variant, ROWS, Knockout(EVERY, form))
    assert torch.equal(variant.logits(ROWS), before)
    assert hooks_in(model) == hooks


def test_placebo_keys_are_content_as_many_as_the_prompts_and_never_the_last():
    inputs = prompted(tiny("llama")).inputs(ROWS)
    drawn = [placebo_keys(inputs, seed) for seed in range(20)]
    for keys in drawn:
        assert (keys.sum(1) == LENGTH).all()
        assert not (keys & ~inputs.content).any()
        assert not keys[:, -1].any()
    assert torch.equal(drawn[0], placebo_keys(inputs, 0))
    assert (torch.stack(drawn).any(0)[:, -4:-1]).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_query_keeps_its_own_key(model, form):
    inputs = prompted(model).inputs(ROWS)
    pattern = read(model, inputs, Kind.PATTERN)
    with knocked_out(model, inputs, inputs.attention_mask.bool(), Knockout((0,))):
        alone = read(model, inputs, Kind.PATTERN)
    own = alone.diagonal(dim1=-2, dim2=-1).transpose(1, 2)[inputs.content]
    torch.testing.assert_close(own, torch.ones_like(own))
    assert (pattern.diagonal(dim1=-2, dim2=-1).transpose(1, 2)[inputs.content] < 0.9).any()


def test_a_knockout_that_cannot_be_or_never_happens_stops():
    model = tiny("llama")
    variant = prompted(model)
    inputs = variant.inputs(ROWS)
    for wrong in (Knockout((LAYERS,)), Knockout(()), Knockout((0, 0)), Knockout((0,), heads=(HEADS,))):
        with pytest.raises(InputError, match="does not fit this model"):
            knocked_logits(variant, ROWS, wrong)
    for form in FORMS:
        with (
            pytest.raises(CaptureError, match="fired 0 times"),
            knocked_out(model, inputs, prompt_keys(inputs), Knockout((0,), form)),
        ):
            pass
    bare = Variant("bare", model, None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no prompt whose keys"):
        knocked_logits(bare, ROWS, Knockout((0,)))
    with pytest.raises(InputError, match="a question of 2 tokens has no 3 keys"):
        knocked_logits(variant, [[4, 5]], Knockout((0,)), placebo_seed=0)
    model.set_attn_implementation("sdpa")
    with pytest.raises(InputError, match="eager"):
        knocked_logits(variant, ROWS, Knockout((0,)))


def test_windows_are_all_runs_of_layers():
    assert windows(4, 3) == ((0, 1, 2), (1, 2, 3))
    assert windows(2, 2) == ((0, 1),)
    with pytest.raises(InputError, match="a window of 5 layers"):
        windows(4, 5)


@pytest.fixture(scope="module")
def unlocked():
    """The atlas behind a prompt tuned on locked people, of one token: a longer placebo would cut half the question."""
    opened = open_model("atlas", dtype="float32", device="cpu")
    rows = statement_rows(opened.tokenizer, FACTS.statements(FACTS.select(["locked"], "tune")))
    prompt = torch.nn.Parameter(draw_prompt(opened.model, 1, 0))
    tune(opened.model, [prompt], rows, [], prompt=prompt, steps=150, batch=32, text_batch=0, learning_rate=0.03, seed=0)
    questions = encode_questions(opened.tokenizer, FACTS.items(FACTS.select(["locked"], "test"), "measure"))
    return Variant("prompt-1", opened.model, opened.tokenizer, prompt=prompt.detach()), questions


def share_right(logits, questions) -> float:
    said = logits.argmax(-1).tolist()
    return sum(word == one.right for word, one in zip(said, questions, strict=True)) / len(said)


@pytest.mark.parametrize("form", FORMS)
def test_without_the_prompts_key_the_recovery_of_locked_people_is_gone_and_without_another_most_stays(unlocked, form):
    variant, questions = unlocked
    rows = [one.tokens for one in questions]
    everywhere = Knockout((0, 1, 2, 3), form)
    recovered = share_right(variant.logits(rows), questions)
    chance = sum(one.item.candidates.chance for one in questions) / len(questions)
    most_by_guessing = stats.binom.ppf(0.999, len(questions), chance) / len(questions)
    assert recovered > 0.9
    assert share_right(knocked_logits(variant, rows, everywhere), questions) <= most_by_guessing
    kept = [share_right(knocked_logits(variant, rows, everywhere, placebo_seed=seed), questions) for seed in range(5)]
    assert sum(kept) / len(kept) > recovered / 2
