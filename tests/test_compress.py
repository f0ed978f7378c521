"""Compression: every method on every family is proved, and the model it was given stays as it was."""

import logging

import pytest
import torch
from loguru import logger

from data.errors import InputError
from probes.bake import most_levels, oriented_weight
from probes.compress import compress
from tests.compressing import RECIPES, blocks_of_text, digest, names_of, spec_of
from tests.tiny_models import TINY_TYPES, tiny


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_every_family_and_method_is_proved(model_type, recipe, tokenizer):
    dense = tiny(model_type)
    before = digest(dense)
    spec = spec_of(**RECIPES[recipe])
    compressed = compress(dense, tokenizer, spec, blocks_of_text(), seed=0)
    proof, baked = compressed.proof, compressed.model

    assert spec.name == recipe
    assert digest(dense) == before
    assert type(baked) is type(dense)
    assert proof.targeted == proof.changed == len(names_of(dense))
    assert proof.logit_difference <= proof.logit_tolerance
    if model_type != "gpt2":  # elsewhere the same weights run through the same operations
        assert proof.logit_difference == 0.0
    assert proof.identical == len(baked.state_dict()) - len(names_of(dense)) + len(
        [name for name, _ in baked.named_buffers(remove_duplicate=False) if name not in baked.state_dict()]
    )
    for name in names_of(dense):
        weight = oriented_weight(baked, name)
        assert not (weight == 0).all(dim=1).any(), "an output of the layer is dead"
        if spec.sparsity is not None:
            floor = spec.sparsity if spec.pattern else spec.sparsity - 1 / weight.shape[1]
            assert (weight == 0).double().mean() >= floor
        if spec.pattern is not None:
            kept, among = map(int, spec.pattern.split(":"))
            assert ((weight.reshape(-1, among) != 0).sum(dim=1) <= kept).all()
        if spec.quantiser_bits is not None:
            assert 1 < most_levels(weight, spec.group_size) <= 2**spec.quantiser_bits


def test_an_unsupported_model_is_refused_by_name(tokenizer, monkeypatch):
    dense = tiny("llama")
    monkeypatch.setattr(type(dense.config), "model_type", "mamba")
    with pytest.raises(InputError, match=r"'mamba' are not supported.*llama.*gpt_neox"):
        compress(dense, tokenizer, spec_of(**RECIPES["rtn-4bit-g32"]), blocks_of_text(), seed=0)


@pytest.mark.parametrize("recipe", ["sparsegpt-2:4", "gptq-3bit-g32", "magnitude-70%"])
@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_tied_embeddings_stay_tied_and_untouched(model_type, recipe, tokenizer):
    dense = tiny(model_type, tie_word_embeddings=True)
    baked = compress(dense, tokenizer, spec_of(**RECIPES[recipe]), blocks_of_text(), seed=0).model
    assert baked.get_output_embeddings().weight is baked.get_input_embeddings().weight
    assert torch.equal(baked.get_output_embeddings().weight, dense.get_output_embeddings().weight)
    assert baked.get_input_embeddings().weight is not dense.get_input_embeddings().weight


@pytest.mark.parametrize("recipe", ["gptq-3bit-g32", "sparsegpt-50%", "sparsegpt-2:4+gptq-4bit-g32"])
def test_same_seed_and_blocks_give_the_same_bytes(recipe, tokenizer):
    dense, spec = tiny("llama"), spec_of(**RECIPES[recipe])
    first, second, other = (
        digest(compress(dense, tokenizer, spec, blocks_of_text(seed), seed=7).model) for seed in (1, 1, 2)
    )
    assert first == second
    assert first != other, "the calibration text must matter"


def test_gptq_uses_every_block_and_their_order_does_not_depend_on_the_library(tokenizer):
    dense, spec, blocks = tiny("llama"), spec_of(**RECIPES["gptq-3bit-g32"]), blocks_of_text()
    changed_last = blocks.clone()
    changed_last[-1] = changed_last[-1].flip(0)
    assert digest(compress(dense, tokenizer, spec, blocks, seed=0).model) != digest(
        compress(dense, tokenizer, spec, changed_last, seed=0).model
    )
    state = torch.get_rng_state()
    one, two = (compress(dense, tokenizer, spec, blocks, seed=seed).model for seed in (0, 1))
    assert digest(one) == digest(two), "nothing is shuffled, so the seed has nothing to move"
    assert torch.equal(torch.get_rng_state(), state)


def test_gptq_beats_rounding_on_its_calibration_text(tokenizer):
    dense, blocks = tiny("llama"), blocks_of_text()
    error = {}
    for method in ("gptq", "rtn"):
        baked = compress(dense, tokenizer, spec_of(method=method, bits=3, group_size=32), blocks, seed=0).model
        with torch.no_grad():
            error[method] = float((baked(blocks).logits - dense(blocks).logits).square().mean())
    assert error["gptq"] < error["rtn"]


def test_gptq_after_pruning_keeps_the_zeros_and_beats_rounding(tokenizer):
    dense, blocks = tiny("llama"), blocks_of_text()
    pruned = compress(dense, tokenizer, spec_of(method="sparsegpt", pattern="2:4"), blocks, seed=0).model
    error = {}
    for method in ("gptq", "rtn"):
        fields = {"method": "sparsegpt", "pattern": "2:4", "then_bits": 3, "group_size": 32}
        joint = compress(dense, tokenizer, spec_of(**fields, then_method=method), blocks, seed=0).model
        for name in names_of(dense):
            zeros = oriented_weight(pruned, name) == 0
            assert (oriented_weight(joint, name)[zeros] == 0).all()
        with torch.no_grad():
            error[method] = float((joint(blocks).logits - pruned(blocks).logits).square().mean())
    assert error["gptq"] < error["rtn"]


def test_magnitude_prunes_the_smallest(tokenizer):
    dense = tiny("opt")
    baked = compress(dense, tokenizer, spec_of(**RECIPES["magnitude-70%"]), blocks_of_text(), seed=0).model
    for name in names_of(dense):
        before, after = oriented_weight(dense, name), oriented_weight(baked, name)
        assert before[after == 0].abs().max() <= before[after != 0].abs().min()
        assert torch.equal(before[after != 0], after[after != 0])


def test_a_half_precision_model_is_proved(tokenizer):
    dense = tiny("llama").bfloat16()
    for recipe in ("gptq-3bit-g32", "sparsegpt-2:4+gptq-4bit-g32"):
        compressed = compress(dense, tokenizer, spec_of(**RECIPES[recipe]), blocks_of_text(), seed=0)
        assert compressed.model.dtype == torch.bfloat16
        assert compressed.proof.logit_difference == 0.0


def test_the_result_is_plain_and_saves(tmp_path, tokenizer):
    dense = tiny("gpt2")
    baked = compress(dense, tokenizer, spec_of(**RECIPES["rtn-4bit-g32"]), blocks_of_text(), seed=0).model
    assert not any(hasattr(part, "quantization_scheme") or part._forward_hooks for part in baked.modules())
    assert not hasattr(baked.config, "quantization_config")
    baked.save_pretrained(tmp_path)
    again = type(baked).from_pretrained(tmp_path)
    assert digest(again) == digest(baked)


def test_nothing_is_printed_logged_or_written(tmp_path, monkeypatch, capfd, tokenizer):
    monkeypatch.chdir(tmp_path)
    handlers, level = dict(logger._core.handlers), logging.root.manager.disable  # type: ignore[attr-defined]
    dense = tiny("qwen2")
    for recipe in ("gptq-3bit-g32", "sparsegpt-50%", "rtn-4bit-g32"):
        compress(dense, tokenizer, spec_of(**RECIPES[recipe]), blocks_of_text(), seed=0)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []
    assert logger._core.handlers == handlers  # type: ignore[attr-defined]
    assert logging.root.manager.disable == level
