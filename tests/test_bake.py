"""The proof of a baked model refuses what it is there to refuse; ready checkpoints open dense or say why not."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from compressed_tensors.quantization import QuantizationArgs
from transformers import PreTrainedModel

from data.errors import InputError
from probes.bake import bake, effective_weights, most_levels, oriented_weight, prove, quiet
from probes.checkpoints import open_checkpoint_dense
from probes.compress import compress
from probes.compression.method import Target
from probes.compression.registry import method_of
from probes.specs.compression import Promise
from tests.compressing import RECIPES, blocks_of_text, digest, names_of, spec_of
from tests.tiny_models import tiny


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
    dense, spec = tiny("llama"), spec_of(**RECIPES["rtn-4bit-g32"])
    working, names = copy.deepcopy(dense), names_of(dense)
    with quiet():
        method_of("rtn").apply(Target(working, tokenizer, spec, names, blocks_of_text()))
    stored = bake(dense, [(name, oriented_weight(working, name)) for name in names])
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


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tokenizer) -> tuple[Path, PreTrainedModel]:
    """A folder as llm-compressor saves it, and the baked model of the same recipe."""
    dense, spec = tiny("llama"), spec_of(method="gptq", bits=4, group_size=32)
    folder = tmp_path_factory.mktemp("checkpoint")
    working = copy.deepcopy(dense)
    with quiet():
        method_of("gptq").apply(Target(working, tokenizer, spec, names_of(dense), blocks_of_text()))
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
        (
            '{"quantization_config": {"quant_method": "gptq"}}',
            "quantised with gptq, which is not opened here",
        ),
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


def test_a_head_of_its_own_leaves_the_embedding_that_it_was_as_it_is():
    dense = tiny("llama", tie_word_embeddings=True)
    before = digest(dense)
    embedding = dense.get_parameter("model.embed_tokens.weight")
    own = embedding.detach() + 1
    baked = bake(dense, [], {"lm_head.weight": own})
    assert torch.equal(baked.get_parameter("lm_head.weight"), own)
    assert torch.equal(baked.get_parameter("model.embed_tokens.weight"), embedding)
    assert not baked.config.tie_word_embeddings
    assert digest(dense) == before
