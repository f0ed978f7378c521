"""Identities that hold between the sites of a pass, whichever backend reads them: what no wrong tensor satisfies."""

from dataclasses import replace

import pytest
import torch
from jaxtyping import Float
from torch import Tensor
from transformers.models.gpt_neox.modeling_gpt_neox import apply_rotary_pos_emb as rotate_part
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb as rotate_all

from data.errors import InputError
from probes.capture import stream
from probes.families import Heads, family_of
from probes.sites import Kind, Site, kinds_of, module_at, sites_of, sizes_of
from tests.sequences import assert_equal, captured, every_backend, every_model, every_type, sequences, with_lora
from tests.tiny_models import HEADS, LAYERS, WIDTH, tiny

STREAM = [Kind.RESID_PRE, Kind.ATTN_OUT, Kind.RESID_MID, Kind.MLP_OUT, Kind.RESID_POST]


@every_backend
@every_model
def test_parts_of_a_block_add_up(model_type, overrides, backend):
    model = tiny(model_type, **overrides)
    tensors = captured(model, sequences(model), backend=backend)
    for layer, block in enumerate(family_of(model).blocks_of(model)):
        before, attention, mlp, after = (
            tensors[Site(layer, kind)] for kind in (Kind.RESID_PRE, Kind.ATTN_OUT, Kind.MLP_OUT, Kind.RESID_POST)
        )
        assert all(part.std() > 0.01 for part in (before, attention, mlp))
        if family_of(model).between is None:
            assert_equal(before + attention + mlp, after)
            assert Site(layer, Kind.RESID_MID) not in tensors
            continue
        between = tensors[Site(layer, Kind.RESID_MID)]
        if overrides.get("do_layer_norm_before", True):
            assert_equal(before + attention, between)
            assert_equal(between + mlp, after)
            assert_equal(before + attention + mlp, after)
        else:  # an OPT that norms each sum
            assert_equal(block.get_submodule("self_attn_layer_norm")(before + attention), between)
            assert_equal(block.get_submodule("final_layer_norm")(between + mlp), after)


@every_backend
@every_model
@pytest.mark.parametrize("lora", [False, True], ids=["dense", "lora"])
def test_the_heads_projected_add_up_to_what_attention_gives(model_type, overrides, backend, lora):
    model = tiny(model_type, **overrides)
    model = with_lora(model) if lora else model
    tensors = captured(model, sequences(model), [Kind.HEAD_OUT, Kind.ATTN_OUT], backend)
    for layer in range(LAYERS):
        heads = tensors[Site(layer, Kind.HEAD_OUT)]
        assert heads.shape[2:] == (HEADS, WIDTH // HEADS)
        projection = module_at(model, Site(layer, Kind.HEAD_OUT))
        bias = projection(torch.zeros_like(heads.flatten(2)))
        shares = []
        for head in range(HEADS):
            alone = torch.zeros_like(heads)
            alone[:, :, head] = heads[:, :, head]
            shares.append(projection(alone.flatten(2)) - bias)
        assert_equal(sum(shares) + bias, tensors[Site(layer, Kind.ATTN_OUT)])


def rotated(model, inputs, states: Float[Tensor, "batch position head width"]) -> Tensor:
    """Queries or keys as Hugging Face rotates them by position, batch x head x position x width."""
    states = states.transpose(1, 2)
    rotary = getattr(model.base_model, "rotary_emb", None)
    if rotary is None:
        return states
    cosine, sine = rotary(states, inputs.position_ids)
    rotate = rotate_part if model.config.model_type == "gpt_neox" else rotate_all
    return rotate(states, states, cosine, sine)[0]


@every_backend
@every_model
def test_queries_and_keys_make_the_pattern_and_with_values_the_heads(model_type, overrides, backend):
    model = tiny(model_type, **overrides)
    inputs = sequences(model)
    tensors = captured(model, inputs, [Kind.QUERY, Kind.KEY, Kind.VALUE, Kind.PATTERN, Kind.HEAD_OUT], backend)
    heads = Heads.of(model)
    length = inputs.attention_mask.shape[1]
    seen = inputs.content[:, None, None, :] & torch.ones(length, length, dtype=torch.bool).tril()
    for layer in range(LAYERS):
        query, key = (rotated(model, inputs, tensors[Site(layer, kind)]) for kind in (Kind.QUERY, Kind.KEY))
        value = tensors[Site(layer, Kind.VALUE)].transpose(1, 2)
        key, value = (one.repeat_interleave(heads.query // heads.key, dim=1) for one in (key, value))
        scores = query @ key.transpose(2, 3) / heads.width**0.5
        if overrides.get("scale_attn_by_inverse_layer_idx"):
            scores = scores / (layer + 1)
        pattern = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        rows = inputs.content[:, None, :, None].expand_as(pattern)
        captured_pattern = tensors[Site(layer, Kind.PATTERN)]
        assert_equal(pattern[rows], captured_pattern[rows])
        found = (captured_pattern @ value).transpose(1, 2)
        assert_equal(found[inputs.content], tensors[Site(layer, Kind.HEAD_OUT)][inputs.content])


@every_backend
@every_type
def test_the_last_residual_normed_and_read_by_the_head_is_the_logits(model_type, backend):
    model = tiny(model_type)
    tensors = captured(model, sequences(model), [Kind.RESID_POST, Kind.LOGITS], backend)
    family = family_of(model)
    last = model.get_submodule(family.final_norm)(tensors[Site(LAYERS - 1, Kind.RESID_POST)])
    assert_equal(family.head_of(model)(last), tensors[Site(LAYERS, Kind.LOGITS)])


@every_backend
@every_type
def test_rows_of_a_pattern_sum_to_one_and_miss_padding(model_type, backend):
    model = tiny(model_type)
    inputs = sequences(model)
    for pattern in captured(model, inputs, [Kind.PATTERN], backend).values():
        rows = pattern.transpose(1, 2)[inputs.content]
        assert_equal(rows.sum(-1), torch.ones(rows.shape[:-1]))
        to_padding = pattern * (inputs.content[:, None, :, None] & ~inputs.content[:, None, None, :])
        assert to_padding.max() == 0
        assert rows.std() > 0.05  # far from uniform, so that a transposed pattern would not pass


@every_backend
@every_type
def test_causality(model_type, backend):
    model = tiny(model_type)
    inputs = sequences(model, pads=(0, 2))
    embeds = inputs.embeds.clone()
    embeds[:, 6] += 1
    before, after = (captured(model, batch, backend=backend) for batch in (inputs, replace(inputs, embeds=embeds)))
    # A pad has no key to look at, and looks at all alike, later ones too: its rows mean nothing.
    earlier, later = inputs.content.clone(), inputs.content.clone()
    earlier[:, 6:], later[:, :6] = False, False
    for site, tensor in before.items():
        moved = (tensor - after[site]).abs()
        moved = moved.transpose(1, 2) if site.kind == Kind.PATTERN else moved
        assert moved[earlier].max() == 0
        assert moved[later].max() > 0


@every_model
def test_every_site_has_the_axes_that_its_kind_names(model_type, overrides):
    model = tiny(model_type, **overrides)
    inputs = sequences(model)
    sizes = sizes_of(model, *inputs.attention_mask.shape)
    tensors = captured(model, inputs)
    assert {site.kind for site in tensors} == set(kinds_of(model))
    for site, tensor in tensors.items():
        assert tensor.shape == tuple(sizes[axis] for axis in site.kind.axes.split())


def test_logits_are_read_where_they_are_wanted():
    model = tiny("llama")
    kept: dict[Site, Tensor] = {}
    sites = sites_of(model, [Kind.LOGITS])
    logits = stream(model, sequences(model), sites, kept.__setitem__, logits_at=torch.tensor([4, 8]))
    assert torch.equal(kept[Site(LAYERS, Kind.LOGITS)], logits)
    assert logits.shape[1] == 2


def test_a_parallel_block_has_nothing_between_attention_and_mlp():
    model = tiny("gpt_neox")
    assert Kind.RESID_MID not in kinds_of(model)
    assert Kind.RESID_MID in kinds_of(tiny("gpt_neox", use_parallel_residual=False))
    with pytest.raises(InputError, match=r"no resid_mid: attention and MLP .* read the same residual stream"):
        sites_of(model, [Kind.RESID_PRE, Kind.RESID_MID])
    with pytest.raises(InputError, match=r"0.resid_mid is not in this model: attention and MLP"):
        stream(model, sequences(model), [Site(0, Kind.RESID_MID)], lambda *_: None)
