"""A model divided among devices is the model: the same logits, states, repairs and compressed weights.

Without a GPU every part stands on the processor behind accelerate's hooks, and equality is to the last bit; with one,
half of the model stands there and half on the processor, in both orders, so that a tensor in the wrong place raises.
"""

import copy
from functools import partial
from typing import Any

import pytest
import torch

from analysis.comparison import Comparison
from analysis.drift import DRIFT_KINDS, Reference, stream_states
from analysis.metrics.registry import measured_in
from data.errors import InputError
from probes.backends import BACKENDS
from probes.capture import Recorder, parity
from probes.compress import compress
from probes.continuations import score_pairs
from probes.families import family_of
from probes.idp import PromptBank
from probes.inputs import build_inputs
from probes.interventions import content_positions, patched_logits, states_at
from probes.knockout import FORMS, Knockout
from probes.lora import adapted, add_lora
from probes.models import open_model
from probes.prefix_tuning import TunedPrefix, draw_prefix
from probes.prompts import draw_prompt
from probes.selection.attention import Selector
from probes.sharing import share_weights
from probes.sites import sites_of
from probes.spreading import is_spread, place
from probes.tuning import TuningRow, token_loss, tune
from probes.variants import Variant
from tests.compressing import RECIPES, blocks_of_text, spec_of
from tests.oracles import knocked_logits
from tests.patching import KINDS, places_of
from tests.tiny_models import LAYERS, TINY_TYPES, tiny

SPLITS = [("cpu", "cpu"), *([("cuda:0", "cpu"), ("cpu", "cuda:0")] if torch.cuda.is_available() else [])]
every_split = pytest.mark.parametrize("split", SPLITS, ids=[" then ".join(split) for split in SPLITS])
every_type = pytest.mark.parametrize("model_type", TINY_TYPES)
ROWS = [[5, 9, 33, 7, 12, 6], [40, 8, 11, 17], [8, 8, 21, 30, 4]]
TUNING = [TuningRow((5, 6, 7, 40), 3), TuningRow((9, 6, 41), 2)]
PAIRS = [((5, 9, 33), (7, 12)), ((5, 9, 33), (8,)), ((40, 8), (11, 17, 4))]


def equal(split) -> Any:
    """On one kind of processor the same sums in the same order; another kind rounds otherwise."""
    gap = 0 if split == ("cpu", "cpu") else 1e-3

    def check(ours: Any, theirs: Any) -> None:
        ours, theirs = (torch.as_tensor(one).detach().cpu() for one in (ours, theirs))
        torch.testing.assert_close(ours, theirs, rtol=gap, atol=gap)

    return check


def divided(model_type, split) -> Any:
    """A tiny model, its first block on one place and what comes after on the other."""
    model = tiny(model_type).requires_grad_(False)
    blocks = family_of(model).blocks
    late = {f"{blocks}.{layer}" for layer in range(1, LAYERS)} | {family_of(model).final_norm}
    places = dict.fromkeys(late, split[1])
    for name in filter(None, dict(model.named_modules())):
        if not any(f"{name}.".startswith(f"{one}.") or one.startswith(f"{name}.") for one in places):
            places[name] = split[0]
    return place(model, places)


def variants(model) -> dict[str, Variant]:
    held: Any = partial(Variant, **{"model": model, "tokenizer": None})
    prompts = [draw_prompt(model, length, length) for length in (2, 3)]
    lora = add_lora(model, rank=2, targets="all", seed=0)
    moved = [one for one in lora.parameters() if one.requires_grad]
    tune(adapted(lora), moved, TUNING, [], prompt=None, steps=2, batch=2, text_batch=0, learning_rate=0.05, seed=0)
    return {
        "plain": held("plain"),
        "prompt": held("prompt", prompt=prompts[0]),
        "prefix": held("prefix", prefix=TunedPrefix(draw_prefix(model, 2, 0), model)),
        "idp": held("idp", bank=PromptBank(model, prompts, Selector(layers="all"))),
        "idp separate": held("idp", bank=PromptBank(model, prompts, Selector(layers="all", softmax="separate"))),
        "lora": held("lora", model=adapted(lora)),
    }


@every_split
@every_type
def test_logits_copies_and_where_things_stand(model_type, split):
    whole, model = tiny(model_type), divided(model_type, split)
    assert is_spread(model)
    assert not is_spread(whole)
    assert {str(one.device) for one in model.parameters()} == set(split)
    expected = whole(**build_inputs(whole, ROWS).forward_arguments()).logits
    for same in (model, copy.deepcopy(model), share_weights(model)):
        equal(split)(same(**build_inputs(same, ROWS).forward_arguments()).logits, expected)


@every_split
@every_type
def test_every_variant_reads_scores_and_continues_as_on_one_device(model_type, split):
    check = equal(split)
    whole, model = variants(tiny(model_type).requires_grad_(False)), variants(divided(model_type, split))
    for name, variant in model.items():
        check(variant.logits(ROWS), whole[name].logits(ROWS))
        assert variant.generate_rows(ROWS, 3) == whole[name].generate_rows(ROWS, 3)
        found, expected = score_pairs(variant, PAIRS, batch=2), score_pairs(whole[name], PAIRS, batch=2)
        check([one.log_prob for one in found], [one.log_prob for one in expected])


@every_split
@every_type
def test_the_gradient_of_a_prompt_is_that_of_one_device(model_type, split):
    grads = []
    for model in (tiny(model_type).requires_grad_(False), divided(model_type, split)):
        prompt = draw_prompt(model, 3, 0).requires_grad_()
        token_loss(model, TUNING, prompt).backward()
        grads.append(prompt.grad)
    equal(split)(grads[1], grads[0])


@every_split
@every_type
@pytest.mark.parametrize("backend", list(BACKENDS))
def test_backends_agree_and_drift_is_that_of_one_device(model_type, backend, split):
    whole, model = tiny(model_type).requires_grad_(False), divided(model_type, split)
    sites = sites_of(model, DRIFT_KINDS)
    parity(model, build_inputs(model, ROWS), sites, backend=backend).require()
    found = []
    for one in (whole, model):
        moved = Variant("prompt", one, None, prompt=draw_prompt(one, 2, 1))  # type: ignore[arg-type]
        recorder = Recorder(one, backend=backend)
        references = {"dense": Reference.record(recorder, build_inputs(one, ROWS), sites)}
        comparison = Comparison(references, moved.inputs(ROWS), measured_in(("basic", "robust", "geometry", "heads")))
        stream_states(recorder, comparison.inputs, sites, comparison)
        found.append(comparison.residual | comparison.attention)
    assert found[0].keys() == found[1].keys()
    for key, values in found[1].items():
        equal(split)(values, found[0][key])


@every_split
@every_type
def test_patches_and_knockouts_are_those_of_one_device(model_type, split):
    found = []
    for model in (tiny(model_type).requires_grad_(False), divided(model_type, split)):
        other = Variant("plain", model, None)  # type: ignore[arg-type]
        prompted = Variant("prompt", model, None, prompt=draw_prompt(model, 2, 0))  # type: ignore[arg-type]
        states, _ = states_at(other, ROWS, places_of(model))
        patched = [patched_logits(prompted, ROWS, {place: states[place]}, content_positions(ROWS)) for place in states]
        cut = [
            knocked_logits(prompted, ROWS, Knockout(layers=tuple(range(LAYERS)), heads=(0,), form=form))
            for form in FORMS
        ]
        found.append(torch.stack([one.cpu() for one in (*patched, *cut)]))
    assert len(found[0]) > len(KINDS)
    equal(split)(found[1], found[0])


@every_split
@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
@pytest.mark.parametrize("recipe", ["gptq-3bit-g32", "sparsegpt-50%", "wanda-70%", "sparsegpt-2:4+gptq-4bit-g32"])
def test_a_divided_model_is_compressed_to_the_same_weights_where_it_stands(recipe, model_type, split, tokenizer):
    spec = spec_of(**RECIPES[recipe])
    models = [tiny(model_type).requires_grad_(False), divided(model_type, split)]
    whole, model = (compress(one, tokenizer, spec, blocks_of_text(), seed=0).model for one in models)
    assert [one.device for one in model.parameters()] == [one.device for one in models[1].parameters()]
    assert is_spread(model)
    for name, weight in whole.state_dict().items():
        mine = model.state_dict()[name].cpu()
        if split == ("cpu", "cpu"):
            assert torch.equal(mine, weight), name
        else:
            # A rounding can tip a weight from one level to the next, or over the threshold.
            assert (mine - weight).abs().gt(1e-4).float().mean() < 0.05, name


def test_auto_needs_a_gpu_and_on_one_is_that_gpu(monkeypatch):
    if torch.cuda.is_available():
        model = open_model("atlas", dtype="float32", device="auto").model
        assert {one.device.type for one in model.parameters()} == {"cuda"}
    else:
        with pytest.raises(InputError, match="no usable GPU"):
            open_model("atlas", dtype="float32", device="auto")
