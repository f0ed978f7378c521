"""Ready checkpoints beside the dense model: what changed outside the linear layers is taken along and named."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis import opening, work_compressed
from data.errors import InputError
from probes.families import family_of
from probes.likeness import look_checkpoint, take
from probes.models import locate, look, open_model
from probes.reinjection import reinject
from tests.gguf_making import ROWS, write_gguf
from tests.tiny_models import TINY_TYPES, tiny

IDS = torch.tensor([[5, 9, 33, 7, 12]])


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def folded(model, spread=1.0):
    """A Llama whose norms are divided, channel by channel, by what the layers behind them are multiplied with."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for block in other.model.layers:
            readers = {
                block.input_layernorm: (block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj),
                block.post_attention_layernorm: (block.mlp.gate_proj, block.mlp.up_proj),
            }
            for norm, layers in readers.items():
                scale = (spread * torch.randn(norm.weight.shape, generator=generator)).exp()
                norm.weight.div_(scale)
                for layer in layers:
                    layer.weight.mul_(scale)
    return other


@torch.no_grad()
def rounded_layers(model, bits):
    """A copy whose linear layers were rounded to a few levels a row, and nothing else changed."""
    other = copy.deepcopy(model)
    for name in family_of(other).linears_of(other):
        weight = other.get_submodule(name).weight
        step = weight.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 0.5)
        weight.copy_((weight / step).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * step)
    return other


@torch.no_grad()
def pruned_layers(model, fraction):
    """A copy of whose linear layers only the largest weights are left."""
    other = copy.deepcopy(model)
    for name in family_of(other).linears_of(other):
        weight = other.get_submodule(name).weight
        weight[weight.abs() < weight.abs().flatten().quantile(fraction)] = 0
    return other


def put_back(dense, taken):
    """The dense model with what was taken of a checkpoint, put there by hand."""
    other = copy.deepcopy(dense)
    own = other.state_dict()
    linears = family_of(dense).linears_of(dense)
    with torch.no_grad():
        for name, weight in taken.layers.items():
            turned = weight if isinstance(linears[name], torch.nn.Linear) else weight.T
            own[f"{name}.weight"].copy_(turned)
        for name, tensor in taken.outside.items():
            own[name].copy_(tensor)
    return other


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_a_copy_in_half_precision_is_taken_with_all_its_rounding(model_type, dtype):
    dense = tiny(model_type)
    other = copy.deepcopy(dense)
    other.load_state_dict({name: one.to(dtype).float() for name, one in dense.state_dict().items()})
    taken = take(dense, other, "half")
    assert torch.equal(logits(put_back(dense, taken)), logits(other))
    assert taken.proof.changed == taken.proof.targeted
    assert {one.kind for one in taken.proof.outside_changed} == {f"rounded to {str(dtype).removeprefix('torch.')}"}
    for one in taken.proof.outside_changed:
        before, after = dense.state_dict()[one.name].double(), other.state_dict()[one.name].double()
        right = np.linalg.norm(after - before) / max(np.linalg.norm(after), np.linalg.norm(before))
        assert one.relative == pytest.approx(right, rel=1e-9)
        assert 0 < one.relative < 0.01


@pytest.mark.parametrize("spread", [0.3, 1.5])
def test_norms_that_were_folded_into_the_layers_behind_them_are_taken(spread):
    dense = tiny("llama")
    other = folded(dense, spread)
    taken = take(dense, other, "folded")
    torch.testing.assert_close(logits(put_back(dense, taken)), logits(dense), rtol=1e-3, atol=1e-4)
    named = {one.name for one in taken.proof.outside_changed}
    norms = ("input_layernorm", "post_attention_layernorm")
    assert named == {f"model.layers.{layer}.{norm}.weight" for layer in range(2) for norm in norms}
    assert taken.proof.outside_changed[0].relative > 0.1
    assert {one.kind for one in taken.proof.outside_changed} == {""}
    # Of layers that no norm stands before, none changed.
    assert taken.proof.changed == taken.proof.targeted - 4


def test_what_folded_layers_lost_is_not_read_off_their_weights():
    dense = tiny("llama")
    with pytest.raises(
        InputError, match=r"re-injection: model\.layers\.\d\.\w+\.weight differs from the dense model's"
    ):
        reinject(dense, folded(rounded_layers(dense, 4)), rank=2)
    half = rounded_layers(dense, 4)
    half.load_state_dict({name: one.bfloat16().float() for name, one in half.state_dict().items()})
    reinject(dense, half, rank=2)  # rounding moves no scale from one place to another


def test_a_gguf_whose_embedding_is_quantised_is_taken_with_it(tmp_path, tokenizer):
    dense = tiny("llama", vocab_size=ROWS, head_dim=8, bos_token_id=0, eos_token_id=1, tie_word_embeddings=True)
    eight, four = GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q4_0
    kinds = {"token_embd.weight": eight} | {
        f"blk.{layer}.{part}.weight": four for layer in range(2) for part in ("attn_v", "attn_output", "ffn_up")
    }
    path = write_gguf(tmp_path / "small.gguf", dense, kinds=kinds)
    other = open_model(str(path), dtype="float32", device="cpu").model
    taken = take(dense, other, str(path))
    assert [one.name for one in taken.proof.outside_changed] == ["model.embed_tokens.weight"]
    assert 1e-3 < taken.proof.outside_changed[0].relative < 0.02
    assert taken.proof.changed == 6
    assert torch.equal(logits(put_back(dense, taken)), logits(other))


def test_a_head_that_the_checkpoint_alone_keeps_apart_is_taken(tmp_path, tokenizer):
    dense, other = tiny("llama", tie_word_embeddings=True), tiny("llama", tie_word_embeddings=False)
    held = dense.state_dict()
    other.load_state_dict(held | {"lm_head.weight": held["lm_head.weight"] * 1.01})
    assert [one.name for one in take(dense, other, "other").proof.outside_changed] == ["lm_head.weight"]
    run = _run(tmp_path, tokenizer, dense, other)
    assert torch.equal(logits(run), logits(other))
    assert not torch.equal(logits(run), logits(dense))


def test_a_head_that_the_checkpoint_alone_ties_is_taken(tmp_path, tokenizer):
    dense, other = tiny("llama", tie_word_embeddings=False), tiny("llama", tie_word_embeddings=True)
    dense.lm_head.weight.data.copy_(dense.model.embed_tokens.weight)
    other.load_state_dict(
        {name: one * (1.01 if "embed" in name or "head" in name else 1) for name, one in dense.state_dict().items()}
    )
    named = {one.name for one in take(dense, other, "other").proof.outside_changed}
    assert named == {"lm_head.weight", "model.embed_tokens.weight"}
    assert torch.equal(logits(_run(tmp_path, tokenizer, dense, other)), logits(other))


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_another_model_is_refused(model_type):
    with pytest.raises(InputError, match=r"is another model: of its \d+ matrices \d+ are more like another"):
        take(tiny(model_type), tiny(model_type, seed=1), "other")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(1, 10_000), model_type=st.sampled_from(TINY_TYPES), layers=st.integers(1, 3))
def test_no_model_of_other_weights_passes_for_compressed(seed, model_type, layers):
    field = "n_layer" if model_type == "gpt2" else "num_hidden_layers"
    dense, other = tiny(model_type, **{field: layers}), tiny(model_type, seed=seed, **{field: layers})
    with pytest.raises(InputError, match="is another model"):
        take(dense, other, "other")
    with pytest.raises(InputError, match="is another model"):
        take(dense, rounded_layers(other, 4), "other")


@settings(max_examples=40, deadline=None)
@given(
    model_type=st.sampled_from(TINY_TYPES),
    seed=st.integers(0, 1000),
    how=st.sampled_from(["rounded", "pruned"]),
    much=st.integers(0, 2),
)
def test_no_compression_however_hard_passes_for_another_model(model_type, seed, how, much):
    dense = tiny(model_type, seed=seed)
    other = rounded_layers(dense, 2 + much) if how == "rounded" else pruned_layers(dense, (0.5, 0.8, 0.95)[much])
    proof = take(dense, other, "compressed").proof
    assert proof.changed == proof.targeted
    assert proof.outside_changed == proof.unlike == ()
    assert proof.logit_difference == 0


def test_single_matrices_that_were_exchanged_drawn_anew_or_turned_are_named():
    dense = tiny("llama", num_hidden_layers=3)
    drawn = copy.deepcopy(dense)
    drawn.model.layers[1].mlp.load_state_dict(tiny("llama", seed=5).model.layers[1].mlp.state_dict())
    parts = [f"model.layers.1.mlp.{part}_proj.weight" for part in ("gate", "up", "down")]
    assert sorted(take(dense, drawn, "drawn").proof.unlike) == sorted(parts)
    turned = copy.deepcopy(dense)
    values = turned.model.layers[2].self_attn.v_proj.weight
    orthogonal = torch.linalg.qr(torch.randn(len(values), len(values), generator=torch.Generator().manual_seed(3)))[0]
    values.data = orthogonal @ values.data
    proof = take(dense, turned, "turned").proof
    assert proof.unlike == ("model.layers.2.self_attn.v_proj.weight",)
    assert proof.changed == 1
    assert proof.least_likeness < 0.2


def test_layers_in_another_order_are_another_model():
    dense = tiny("llama", num_hidden_layers=3)
    swapped = copy.deepcopy(dense)
    for place in range(3):
        swapped.model.layers[place].load_state_dict(dense.model.layers[(place + 1) % 3].state_dict())
    with pytest.raises(InputError, match=r"correlation -?0\.\d+ with its own, 1\.000 with model\.layers\.1\."):
        take(dense, swapped, "other")


def test_what_was_tuned_is_named_with_its_size():
    dense = tiny("llama")
    other = rounded_layers(dense, 4)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if "norm" in name:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    proof = take(dense, other, "tuned").proof
    assert len(proof.outside_changed) == 5
    assert {one.kind for one in proof.outside_changed} == {""}
    assert [one.relative for one in proof.outside_changed] == sorted(
        (one.relative for one in proof.outside_changed), reverse=True
    )


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"rms_norm_eps": 1e-4}, "its rms_norm_eps is 0.0001"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}}, "its rope_parameters is"),
        ({"hidden_act": "gelu"}, "its hidden_act is gelu"),
        ({"num_attention_heads": 2}, "its num_attention_heads is 2"),
        ({"num_key_value_heads": 4}, "its num_key_value_heads is 4"),
    ],
)
def test_a_checkpoint_that_computes_otherwise_is_refused_before_it_is_read(changed, named, tmp_path, tokenizer):
    dense = tiny("llama")
    tiny("llama", **changed).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=named):
        look_checkpoint(str(tmp_path), dense.config, "dense")


def test_configurations_that_differ_in_words_alone_go_together(tmp_path):
    dense = tiny("llama", vocab_size=ROWS, head_dim=8, rms_norm_eps=1e-5)
    path = write_gguf(tmp_path / "one.gguf", dense)  # holds its numbers in float32, and says nothing of dropout
    assert look(str(path)).config.rms_norm_eps != dense.config.rms_norm_eps
    look_checkpoint(str(path), dense.config, "dense")


def _run(folder: Path, tokenizer, dense, other):
    """The compressed copy that a study's cell keeps of a checkpoint and a later cell opens."""
    for name, model in (("dense", dense), ("other", other)):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    (folder / "other" / "tokenizer.json").unlink()  # a checkpoint is asked with the dense model's tokenizer
    (folder / "other" / "tokenizer_config.json").unlink()
    fields = {
        "model": str(folder / "dense"),
        "model_sha": locate(str(folder / "dense")).sha,
        "dtype": "float32",
        "device": "cpu",
        "template": "none",
        "compression": {"method": "checkpoint", "path": str(folder / "other"), "label": None},
        "checkpoint_sha": locate(str(folder / "other")).sha,
        "seed": 0,
    }
    (folder / "cell").mkdir()
    try:
        work_compressed.work(fields, {}, folder / "cell")
        return opening.parent_model(fields, {"compressed": folder / "cell"}).model
    finally:
        opening.close_models()


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_the_compressed_variant_is_the_checkpoint_and_the_proof_says_what_changed(model_type, tmp_path, tokenizer):
    dense = tiny(model_type)
    other = copy.deepcopy(dense)
    other.load_state_dict({name: one.bfloat16().float() for name, one in dense.state_dict().items()})
    run = _run(tmp_path, tokenizer, dense, other)
    assert torch.equal(logits(run), logits(other))
    proof = json.loads((tmp_path / "cell" / "proof.json").read_text())
    changed = {one["name"] for one in proof["outside_changed"]}
    assert changed
    assert {one["kind"] for one in proof["outside_changed"]} == {"rounded to bfloat16"}
    assert proof["checkpoint"] == str(tmp_path / "other")
    assert proof["changed"] == proof["targeted"] == len(family_of(dense).linears_of(dense))
    assert 0.99 < proof["least_likeness"] <= 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_tensor_changed_is_what_the_variant_has(data):
    """Any tensor outside the layers, scaled a little: it is taken, and named with its size."""
    dense = tiny(data.draw(st.sampled_from(TINY_TYPES)), tie_word_embeddings=data.draw(st.booleans()))
    other = copy.deepcopy(dense)
    layers = {f"{name}.weight" for name in family_of(dense).linears_of(dense)}
    name = data.draw(st.sampled_from(sorted(set(dict(dense.named_parameters())) - layers)))
    with torch.no_grad():
        other.get_parameter(name).mul_(1.25)
    taken = take(dense, other, "scaled")
    assert [one.name for one in taken.proof.outside_changed] == [name]
    assert taken.proof.outside_changed[0].relative == pytest.approx(0.2, rel=1e-4)
    assert taken.proof.changed == 0
    assert torch.equal(logits(put_back(dense, taken)), logits(other))
