"""Capture: what the backends hand over is what Hugging Face computes, and a backend that lies is caught."""

import copy
import weakref
from dataclasses import replace
from types import MethodType

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from data.errors import InputError
from probes.backends import BACKENDS, HookBackend
from probes.capture import CaptureError, Gap, Recorder, parity, stream
from probes.families import family_of
from probes.sharing import share_weights
from probes.sites import Kind, Site, sites_of
from tests.sequences import (
    Sequences,
    assert_equal,
    captured,
    every_backend,
    every_model,
    every_type,
    requires_logits_where_wanted,
    sequences,
    with_lora,
)
from tests.tiny_models import tiny

# --- Equal to Hugging Face -------------------------------------------------------------------------


@every_backend
@every_model
def test_parity_with_hugging_face_under_left_padding(model_type, overrides, backend):
    model = tiny(model_type, **overrides)
    result = parity(model, sequences(model), sites_of(model, Kind), backend=backend).require()
    assert result.passed
    assert set(result.sites) == set(sites_of(model, Kind))
    assert set(result.referee) == set(sites_of(model, ["resid_pre", "resid_post", "pattern"]))
    assert result.max_abs_logits == result.logits.max_abs < 1e-4
    assert set(result.max_abs) == set(result.sites)


@every_backend
@every_type
def test_parity_in_half_precision_has_its_own_tolerance(model_type, backend):
    model = tiny(model_type).bfloat16()
    result = parity(model, sequences(model), sites_of(model, Kind), backend=backend).require()
    assert result.tolerance > 1e-3


@every_backend
@every_type
def test_positions_and_mask_are_honoured(model_type, backend):
    """Shifted positions give Hugging Face's logits for shifted positions, and these are others."""
    model = tiny(model_type)
    inputs = sequences(model, pads=(2, 4))
    stretched = replace(inputs, position_ids=inputs.position_ids * 3)
    shown = replace(inputs, attention_mask=torch.ones_like(inputs.attention_mask))
    plain = stream(model, inputs, [], lambda *_: None, backend=backend)[inputs.content]
    for changed in (stretched, shown):
        parity(model, changed, sites_of(model, Kind), backend=backend).require()
        logits = stream(model, changed, [], lambda *_: None, backend=backend)[inputs.content]
        assert (logits - plain).abs().max() > 1e-3


@every_backend
@every_type
def test_padded_batch_equals_one_by_one_without_padding(model_type, backend):
    model = tiny(model_type)
    inputs = sequences(model)
    together = captured(model, inputs, backend=backend)
    for row, mask in enumerate(inputs.content):
        alone = Sequences(
            embeds=inputs.embeds[row, mask][None],
            attention_mask=inputs.attention_mask[row, mask][None],
            position_ids=torch.arange(int(mask.sum()))[None],
            content=mask[mask][None],
        )
        for site, tensor in captured(model, alone, backend=backend).items():
            padded = together[site][row]
            padded = padded[:, mask][:, :, mask] if site.kind == Kind.PATTERN else padded[mask]
            assert_equal(padded, tensor[0])


@every_backend
@every_type
def test_lora_injected_in_place_is_captured(model_type, backend):
    dense = tiny(model_type)
    model = with_lora(tiny(model_type))
    inputs = sequences(model)
    parity(model, inputs, sites_of(model, Kind), backend=backend).require()
    plain, adapted = captured(dense, inputs, backend=backend), captured(model, inputs, backend=backend)
    moved = [site for site in plain if Gap.between(adapted[site], plain[site]).max_abs > 1e-2]
    assert set(moved) == set(plain) - {Site(0, Kind.RESID_PRE)}


@every_type
def test_disabled_lora_is_not_captured(model_type):
    dense, model = tiny(model_type), with_lora(tiny(model_type))
    for module in model.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            module.enable_adapters(False)
    plain, off = (captured(each, sequences(dense), backend="transformer_lens") for each in (dense, model))
    for site in plain:
        assert_equal(off[site], plain[site])


@every_type
@pytest.mark.parametrize("part", ["attention", "mlp", "between"])
def test_a_block_without_a_part_that_the_table_names_is_refused(model_type, part):
    model = tiny(model_type, **({"use_parallel_residual": False} if model_type == "gpt_neox" else {}))
    name = getattr(family_of(model), part)
    delattr(family_of(model).blocks_of(model)[1], name)
    for backend in BACKENDS:
        with pytest.raises(InputError, match=f"^Block 1 of this {model_type} model has no '{name}"):
            Recorder(model, backend=backend)


# --- Nothing is touched, nothing is kept ------------------------------------------------------------


@every_backend
@every_type
@pytest.mark.parametrize("lora", [False, True], ids=["dense", "lora"])
def test_the_callers_model_stays_as_it_is(model_type, backend, lora):
    model = with_lora(tiny(model_type)) if lora else tiny(model_type)
    inputs = sequences(model)
    keywords = {"inputs_embeds": inputs.embeds, "attention_mask": inputs.attention_mask}

    def state():
        modules = [
            (name, type(part), len(part._forward_hooks), len(part._forward_pre_hooks))
            for name, part in model.named_modules()
        ]
        return modules, copy.deepcopy(model.state_dict()), str(model.config), model(**keywords).logits

    with torch.no_grad():
        before = state()
        parity(model, inputs, sites_of(model, Kind), backend=backend)
        after = state()
    assert before[0] == after[0]
    assert before[2] == after[2]
    assert all(torch.equal(before[1][name], tensor) for name, tensor in after[1].items())
    assert torch.equal(before[3], after[3])


@every_type
def test_a_shared_copy_owns_its_modules_and_no_tensor(model_type):
    model = with_lora(tiny(model_type))
    twin = share_weights(model)
    ours, theirs = (dict([*each.named_parameters(), *each.named_buffers()]) for each in (model, twin))
    assert {name: tensor.data_ptr() for name, tensor in ours.items()} == {
        name: tensor.data_ptr() for name, tensor in theirs.items()
    }
    assert not set(map(id, model.modules())) & set(map(id, twin.modules()))
    assert twin.config is not model.config
    tied = model.config.tie_word_embeddings
    assert (twin.get_input_embeddings().weight is twin.get_output_embeddings().weight) == tied


@every_backend
def test_hooks_are_removed_when_a_reducer_fails(backend):
    model = tiny("llama")
    inputs = sequences(model)

    def fail(site, tensor):
        raise ZeroDivisionError

    with Recorder(model, backend=backend) as recorder:
        with pytest.raises(ZeroDivisionError):
            recorder.stream(inputs, sites_of(model, Kind), fail)
        recorder.stream(inputs, [], fail)  # a hook left behind would fail again
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


@every_backend
@every_type
def test_patterns_are_not_kept(model_type, backend):
    """When a layer's pattern comes, those of the layers before it are gone."""
    model = tiny(model_type, num_hidden_layers=4)
    alive: dict[int, weakref.ref] = {}

    def reduce(site, tensor):
        assert not [layer for layer, pattern in alive.items() if pattern() is not None]
        alive[site.layer] = weakref.ref(tensor)

    stream(model, sequences(model), sites_of(model, [Kind.PATTERN]), reduce, backend=backend)
    assert sorted(alive) == [0, 1, 2, 3]


@every_backend
@every_type
def test_logits_only_where_wanted(model_type, backend):
    requires_logits_where_wanted(tiny(model_type), backend)


# --- Faults are caught --------------------------------------------------------------------------------


class Silent(HookBackend):
    def run(self, inputs, sites, fire, logits_at):
        return super().run(inputs, [site for site in sites if site.layer], fire, logits_at)


class Doubled(HookBackend):
    def run(self, inputs, sites, fire, logits_at):
        return super().run(inputs, [*sites, *sites[:1]], fire, logits_at)


class Flat(HookBackend):
    def run(self, inputs, sites, fire, logits_at):
        return super().run(inputs, sites, lambda site, tensor: fire(site, tensor[0]), logits_at)


class Shifted(HookBackend):
    """Hands over the site after the one that was asked for, as an alias to the wrong hook would."""

    def run(self, inputs, sites, fire, logits_at):
        wrong = {Kind.MLP_OUT: Kind.ATTN_OUT}
        names = {Site(site.layer, wrong.get(site.kind, site.kind)): site for site in sites}
        return super().run(inputs, list(names), lambda site, tensor: fire(names[site], tensor), logits_at)


class Headless(HookBackend):
    def run(self, inputs, sites, fire, logits_at):
        return super().run(inputs, sites, fire, logits_at) * (1 + 1e-3)


class NotANumber(HookBackend):
    def run(self, inputs, sites, fire, logits_at):
        return super().run(inputs, sites, lambda site, tensor: fire(site, tensor * torch.nan), logits_at)


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (Silent, "0.resid_pre fired 0 times .* expected 1"),
        (Doubled, "0.resid_pre fired 2 times .* expected 1"),
        (Flat, r"0.resid_pre .* shape \(9, 32\), expected \(3, 9, 32\)"),
    ],
)
def test_a_site_that_does_not_fire_once_with_its_axes_stops(monkeypatch, backend, message):
    monkeypatch.setitem(BACKENDS, "broken", backend)
    model = tiny("llama")
    seen = []
    with pytest.raises(CaptureError, match=message):
        stream(
            model,
            sequences(model),
            sites_of(model, ["resid_pre"]),
            lambda *a: seen.append(a),
            backend="broken",
        )
    assert len({site for site, _ in seen}) == len(seen)


@pytest.mark.parametrize("backend", ["nnsight", "hooks"])
@pytest.mark.parametrize("times", [0, 2])
def test_a_module_that_runs_never_or_twice_stops(backend, times):
    model = tiny("llama")
    block = model.model.layers[1]

    def forward(self, states, **keywords):
        for _ in range(times):
            self.mlp(states)
        return states

    block.forward = MethodType(forward, block)
    with pytest.raises(CaptureError, match=f"^1.mlp_out fired {times} times in one pass of {backend}, expected 1"):
        stream(model, sequences(model), sites_of(model, [Kind.MLP_OUT]), lambda *_: None, backend=backend)


@pytest.mark.parametrize(
    ("backend", "place"), [(Shifted, "[01].mlp_out"), (Headless, "logits"), (NotANumber, "0.mlp_out")]
)
def test_a_lying_backend_does_not_pass_the_gate(monkeypatch, backend, place):
    monkeypatch.setitem(BACKENDS, "broken", backend)
    model = tiny("llama")
    result = parity(model, sequences(model), sites_of(model, ["mlp_out", "resid_post"]), backend="broken")
    assert not result.passed
    with pytest.raises(RuntimeError, match=f"^broken differs from Hugging Face by .* at {place} "):
        result.require()


def test_a_lying_referee_does_not_pass_the_gate(monkeypatch):
    """Both backends read the same wrong tensor: only what Hugging Face reports gives it away."""
    monkeypatch.setitem(BACKENDS, "hooks", NotQuite)
    model = tiny("llama")
    result = parity(model, sequences(model), sites_of(model, ["resid_post"]), backend="hooks")
    assert max(gap.max_abs for gap in result.sites.values()) == 0
    with pytest.raises(RuntimeError, match="referee's"):
        result.require()


class NotQuite(HookBackend):
    def run(self, inputs, sites, fire, logits_at):
        return super().run(inputs, sites, lambda site, tensor: fire(site, tensor * 1.001), logits_at)


@pytest.mark.parametrize("model_type", ["gpt2", "gpt_neox"])
@pytest.mark.parametrize("lora", [False, True], ids=["dense", "lora"])
def test_weights_changed_after_the_bridge_split_them_stop(model_type, lora):
    model = with_lora(tiny(model_type)) if lora else tiny(model_type)
    inputs = sequences(model)
    with Recorder(model) as recorder:
        recorder.stream(inputs, [], lambda *_: None)
        with torch.no_grad():
            fused = [weight for name, weight in model.named_parameters() if family_of(model).value in name]
            fused[-1].mul_(2)
        with pytest.raises(RuntimeError, match="new Recorder"):
            recorder.stream(inputs, [], lambda *_: None)
    parity(model, inputs, sites_of(model, Kind)).require()


def test_patterns_need_eager_attention():
    model = tiny("llama")
    model.set_attn_implementation("sdpa")
    inputs = sequences(model)
    for backend in BACKENDS:
        with pytest.raises(InputError, match="eager attention and this model uses 'sdpa'"):
            stream(model, inputs, sites_of(model, ["pattern"]), lambda *_: None, backend=backend)
    stream(model, inputs, sites_of(model, ["resid_post"]), lambda *_: None, backend="hooks")


def test_bad_requests_get_a_sentence():
    model = tiny("llama")
    inputs = sequences(model)
    with pytest.raises(InputError, match="No capture backend 'nnsigth'"):
        stream(model, inputs, [], lambda *_: None, backend="nnsigth")
    with pytest.raises(InputError, match=r"2.resid_pre is not in this model: its layers are 0 to 1"):
        stream(model, inputs, [Site(2, Kind.RESID_PRE)], lambda *_: None)
    with pytest.raises(InputError, match="training mode"):
        stream(model.train(), inputs, [], lambda *_: None)
    with pytest.raises(InputError, match="cannot bridge a GPTNeoXForCausalLM"):
        Recorder(tiny("gpt_neox", attention_bias=False))


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_sites_sort_as_they_appear_in_a_pass(data):
    model = tiny("llama")
    sites = data.draw(st.lists(st.sampled_from(sites_of(model, Kind)), unique=True))
    seen: dict[str, list[Site]] = {backend: [] for backend in BACKENDS}
    for backend, found in seen.items():
        shown: dict[Site, Tensor] = {}
        stream(model, sequences(model), sites, shown.__setitem__, backend=backend)
        found.extend(shown)
    assert seen["transformer_lens"] == sorted(sites)
    # Hugging Face's attention hands its pattern over when it ends, after the heads' results.
    assert seen["nnsight"] == seen["hooks"]
    others = [site for site in sites if site.kind is not Kind.PATTERN]
    assert [site for site in seen["hooks"] if site.kind is not Kind.PATTERN] == sorted(others)
    assert [site.layer for site in seen["hooks"]] == sorted(site.layer for site in sites)
