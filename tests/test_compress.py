"""Compression: every method on every family is proved, and each check of the proof refuses what it is for."""

import copy
import hashlib
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from compressed_tensors.quantization import QuantizationArgs
from loguru import logger
from pydantic import ValidationError
from tokenizers import Tokenizer, models
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from data.errors import InputError
from probes.bake import (
    Promise,
    bake,
    effective_weights,
    most_levels,
    open_checkpoint_dense,
    oriented_weight,
    prove,
    quiet,
)
from probes.compress import CompressionSpec, compress
from probes.families import SUPPORTED, family_of
from tests.tiny_models import TINY_TYPES, VOCABULARY, tiny

SAMPLES, LENGTH = 4, 24
RECIPES: dict[str, dict[str, Any]] = {
    "gptq-3bit-g32": {"method": "gptq", "bits": 3, "group_size": 32},
    "gptq-4bit-asym": {"method": "gptq", "bits": 4, "symmetric": False},
    "rtn-4bit-g32": {"method": "rtn", "bits": 4, "group_size": 32},
    "sparsegpt-2:4": {"method": "sparsegpt", "pattern": "2:4"},
    "sparsegpt-50%": {"method": "sparsegpt", "sparsity": 0.5},
    "wanda-70%": {"method": "wanda", "sparsity": 0.7},
    "wanda-1:4": {"method": "wanda", "pattern": "1:4"},
    "magnitude-70%": {"method": "magnitude", "sparsity": 0.7},
    "magnitude-2:4": {"method": "magnitude", "pattern": "2:4"},
    "sparsegpt-2:4+gptq-4bit-g32": {
        "method": "sparsegpt",
        "pattern": "2:4",
        "then_bits": 4,
        "group_size": 32,
    },
    "wanda-50%+rtn-8bit": {"method": "wanda", "sparsity": 0.5, "then_bits": 8, "then_method": "rtn"},
}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    words = {f"word{index}": index for index in range(VOCABULARY)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="word0")),
        unk_token="word0",
        pad_token="word1",
    )


def blocks_of_text(seed: int = 1) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (SAMPLES, LENGTH), generator=torch.Generator().manual_seed(seed))


def spec_of(**fields) -> CompressionSpec:
    return CompressionSpec(samples=SAMPLES, block_length=LENGTH, **fields)


def names_of(model: PreTrainedModel) -> list[str]:
    return list(family_of(model).linears_of(model))


def digest(model: PreTrainedModel) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(name.encode())
        total.update(tensor.contiguous().numpy().tobytes())
    return total.hexdigest()


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


def test_the_table_covers_the_tiny_models():
    assert set(SUPPORTED) == set(TINY_TYPES)


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


# The proof refuses what it is there to refuse.


@pytest.fixture
def proved():
    """A magnitude-pruned model of 50 % with all that its proof needs."""
    dense = tiny("llama", tie_word_embeddings=True)
    names = names_of(dense)
    working = copy.deepcopy(dense)
    for name in names:
        weight = oriented_weight(working, name)
        weight[weight.abs() <= weight.abs().median()] = 0
    baked = bake(dense, effective_weights(working, names))
    arguments: dict[str, Any] = {
        "names": names,
        "promise": Promise(sparsity=0.5),
        "block": blocks_of_text()[0],
    }
    prove(dense, working, baked, **arguments)
    return dense, working, baked, arguments


def test_a_target_left_dense_is_refused(proved):
    dense, working, baked, arguments = proved
    name = arguments["names"][3]
    oriented_weight(baked, name).copy_(oriented_weight(dense, name))
    with pytest.raises(RuntimeError, match=f"{name} is still dense"):
        prove(dense, working, baked, **arguments)


def test_another_weight_than_the_compressors_is_refused(proved):
    dense, working, baked, arguments = proved
    weight = oriented_weight(baked, arguments["names"][0])
    weight[weight != 0] *= 1.001
    with pytest.raises(RuntimeError, match="logits differ"):
        prove(dense, working, baked, **arguments)


def test_a_model_that_stores_dense_weights_and_rounds_on_the_way_is_not_mistaken(tokenizer):
    from probes import oneshot

    dense, spec = tiny("llama"), spec_of(**RECIPES["rtn-4bit-g32"])
    working, names = copy.deepcopy(dense), names_of(dense)
    with quiet():
        oneshot.quantise(working, tokenizer, spec, names, blocks_of_text())
    stored = bake(dense, {name: oriented_weight(working, name) for name in names})
    with pytest.raises(RuntimeError, match="is still dense"):
        prove(dense, working, stored, names, spec.promise, blocks_of_text()[0])


def test_too_few_zeros_and_too_many_are_refused(proved):
    dense, working, baked, arguments = proved
    for sparsity in (0.6, 0.4):
        with pytest.raises(RuntimeError, match="zeros of"):
            prove(dense, working, baked, **arguments | {"promise": Promise(sparsity=sparsity)})
    with pytest.raises(RuntimeError, match="in a row"):
        prove(dense, working, baked, **arguments | {"promise": Promise(sparsity=0.5, unit="row")})
    with pytest.raises(RuntimeError, match="breaks the 2:4"):
        prove(dense, working, baked, **arguments | {"promise": Promise(sparsity=0.5, pattern=(2, 4))})


def test_too_many_levels_are_refused(proved):
    dense, working, baked, arguments = proved
    with pytest.raises(RuntimeError, match="levels in a row and group at 3 bits"):
        prove(dense, working, baked, **arguments | {"promise": Promise(bits=3)})


def test_a_changed_embedding_is_refused_in_either_model(proved):
    dense, working, baked, arguments = proved
    with torch.no_grad():
        working.get_input_embeddings().weight[0, 0] += 1
    with pytest.raises(RuntimeError, match="differs from dense in the compressor's own model"):
        prove(dense, working, baked, **arguments)


def test_an_untied_embedding_is_refused(proved):
    dense, working, baked, arguments = proved
    baked.lm_head.weight = torch.nn.Parameter(baked.lm_head.weight.detach().clone())
    with pytest.raises(RuntimeError, match="not tied"):
        prove(dense, working, baked, **arguments)


def test_a_filled_mask_is_refused(proved):
    dense, working, baked, arguments = proved
    pruned = {name: oriented_weight(baked, name) == 0 for name in arguments["names"]}
    pruned[arguments["names"][-1]][:] = True
    with pytest.raises(RuntimeError, match="undid the pruning"):
        prove(dense, working, baked, **arguments, pruned=pruned)


def test_a_weight_that_is_not_finite_or_all_zero_is_refused(proved):
    dense, working, baked, arguments = proved
    for value, sentence in ((float("nan"), "not finite"), (0.0, "all zeros")):
        oriented_weight(baked, arguments["names"][0]).fill_(value)
        with pytest.raises(RuntimeError, match=sentence):
            prove(dense, working, baked, **arguments)


def test_a_column_whose_input_is_dead_may_be_cleared_whole(tokenizer):
    dense = tiny("opt")
    with torch.no_grad():  # one neuron that never fires, as in a real OPT
        layer = dense.model.decoder.layers[0].fc1
        layer.weight[5] = 0
        layer.bias[5] = -1
    baked = compress(dense, tokenizer, spec_of(**RECIPES["sparsegpt-50%"]), blocks_of_text(), seed=0).model
    assert (oriented_weight(baked, "model.decoder.layers.0.fc2")[:, 5] == 0).all()


@pytest.mark.parametrize("recipe", ["gptq-3bit-g32", "sparsegpt-50%"])
def test_a_hessian_that_cannot_be_inverted_is_an_error_not_a_fallback(recipe, tokenizer, monkeypatch):
    def fail(*_, **__):
        raise torch.linalg.LinAlgError("not positive definite")

    def fail_quietly(matrix, *, check_errors, out):
        out[1].fill_(1)

    monkeypatch.setattr(torch.linalg, "cholesky", fail)
    monkeypatch.setattr(torch.linalg, "cholesky_ex", fail_quietly)
    with pytest.raises(RuntimeError, match="could not use the calibration text"):
        compress(tiny("llama"), tokenizer, spec_of(**RECIPES[recipe]), blocks_of_text(), seed=0)


# Specifications.


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"method": "gptq", "bits": 3, "group_size": 64}, "gptq-3bit-g64"),
        ({"method": "gptq", "bits": 3}, "gptq-3bit"),
        ({"method": "rtn", "bits": 4, "symmetric": False}, "rtn-4bit-asym"),
        ({"method": "magnitude", "sparsity": 0.7}, "magnitude-70%"),
        ({"method": "sparsegpt", "sparsity": 0.625}, "sparsegpt-62.5%"),
        (
            {"method": "sparsegpt", "pattern": "2:4", "then_bits": 4, "group_size": 64},
            "sparsegpt-2:4+gptq-4bit-g64",
        ),
    ],
)
def test_names_are_read_aloud(fields, name):
    assert CompressionSpec(**fields).name == name


def test_two_spellings_of_one_recipe_are_equal():
    short = CompressionSpec(method="wanda", pattern="2:4", then_bits=4)
    long = CompressionSpec(method="wanda", pattern="2:4", sparsity=0.5, then_method="gptq", then_bits=4)
    assert short == long
    assert hash(short) == hash(long)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"method": "gptq"}, "gptq needs bits"),
        ({"method": "gptq", "bits": 5}, "2, 3, 4 or 8"),
        ({"method": "gptq", "bits": 4, "sparsity": 0.5}, "leave out sparsity"),
        ({"method": "gptq", "bits": 4, "pattern": "2:4"}, "leave out sparsity"),
        ({"method": "rtn", "bits": 4, "then_bits": 4}, "already quantises"),
        ({"method": "wanda"}, "needs sparsity or pattern"),
        ({"method": "wanda", "sparsity": 0.5, "bits": 4}, "set then_bits"),
        ({"method": "wanda", "sparsity": 0.5, "then_method": "rtn"}, "then_method needs then_bits"),
        ({"method": "wanda", "sparsity": 0.5, "group_size": 64}, "nothing here quantises"),
        ({"method": "wanda", "sparsity": 1.0}, "less than 1"),
        ({"method": "wanda", "sparsity": 0.0}, "greater than 0"),
        ({"method": "wanda", "pattern": "2:4", "sparsity": 0.6}, "contradicts pattern"),
        ({"method": "wanda", "pattern": "4:4"}, "0 < n < m"),
        ({"method": "wanda", "pattern": "2:5"}, "dividing 128"),
        ({"method": "wanda", "pattern": "half"}, "written n:m"),
        ({"method": "wanda", "pattern": 124}, "quote it"),
        ({"method": "awq", "bits": 4}, "method"),
        ({"method": "rtn", "bits": 4, "sampels": 3}, "Extra inputs"),
        ({"method": "rtn", "bits": 4, "samples": 0}, "samples"),
    ],
)
def test_a_bad_specification_gets_a_sentence(fields, sentence):
    with pytest.raises(ValidationError, match=sentence):
        CompressionSpec(**fields)


def test_a_specification_cannot_be_changed():
    with pytest.raises(ValidationError):
        spec_of(method="rtn", bits=4).bits = 3


@pytest.mark.parametrize(
    ("blocks", "sentence"),
    [
        (torch.empty(0, LENGTH, dtype=torch.long), "at least one block"),
        (blocks_of_text()[:2], "asks for 4 calibration blocks"),
        (blocks_of_text() + VOCABULARY, "outside the model's vocabulary"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(blocks, sentence, tokenizer):
    with pytest.raises(InputError, match=sentence):
        compress(tiny("llama"), tokenizer, spec_of(**RECIPES["rtn-4bit-g32"]), blocks, seed=0)


def test_blocks_longer_than_the_model_are_refused(tokenizer):
    spec = CompressionSpec(method="rtn", bits=4, samples=1, block_length=65)
    with pytest.raises(InputError, match="64 positions"):
        compress(tiny("llama"), tokenizer, spec, torch.zeros(1, 65, dtype=torch.long), seed=0)


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_a_group_that_does_not_divide_a_layer_is_refused(model_type, tokenizer):
    for group_size in (24, 128):  # the library lets a group wider than the layer pass
        spec = spec_of(method="gptq", bits=4, group_size=group_size)
        with pytest.raises(InputError, match=f"32 wide, which {group_size} does not divide"):
            compress(tiny(model_type), tokenizer, spec, blocks_of_text(), seed=0)


# Ready checkpoints.


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tokenizer) -> tuple[Path, PreTrainedModel]:
    """A folder as llm-compressor saves it, and the baked model of the same recipe."""
    from probes import oneshot

    dense, spec = tiny("llama"), spec_of(method="gptq", bits=4, group_size=32)
    folder = tmp_path_factory.mktemp("checkpoint")
    working = copy.deepcopy(dense)
    with quiet():
        oneshot.quantise(working, tokenizer, spec, names_of(dense), blocks_of_text())
        working.save_pretrained(folder, save_compressed=True)
    return folder, compress(dense, tokenizer, spec, blocks_of_text(), seed=0).model


def test_a_ready_checkpoint_opens_dense_and_equals_the_baked_model(checkpoint, tmp_path):
    folder, baked = checkpoint
    assert "pack-quantized" in (folder / "config.json").read_text()
    opened = open_checkpoint_dense(folder, torch.float32)
    assert type(opened) is type(baked)
    assert set(opened.state_dict()) == set(baked.state_dict())
    for name, tensor in baked.state_dict().items():
        torch.testing.assert_close(opened.state_dict()[name], tensor, rtol=0, atol=1e-6)
    opened.save_pretrained(tmp_path)
    assert digest(type(opened).from_pretrained(tmp_path)) == digest(opened)


def test_a_ready_checkpoint_opens_in_half_precision(checkpoint):
    assert open_checkpoint_dense(checkpoint[0], torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (None, "no config.json"),
        ("{", "not a JSON object"),
        ('{"model_type": "llama"}', "is not quantised"),
        ('{"quantization_config": {"quant_method": "gptq"}}', "quantised with gptq, whose library"),
        (
            '{"quantization_config": {"quant_method": "compressed-tensors", "config_groups": '
            '{"group_0": {"weights": {}, "input_activations": {"num_bits": 8}}}}}',
            "quantises activations",
        ),
    ],
)
def test_a_folder_that_cannot_be_opened_dense_is_refused(config, sentence, tmp_path):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError, match=sentence):
        open_checkpoint_dense(tmp_path, torch.float32)


def test_most_levels_counts_within_rows_and_groups():
    weight = torch.tensor([[0.0, -0.0, 1.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
    assert most_levels(weight, None) == 3
    assert most_levels(weight, 2) == 2
    assert QuantizationArgs(num_bits=2).num_bits == 2  # two bits are within the library's reach
