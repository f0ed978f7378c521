"""Ways of compressing: every one that is registered keeps its promise, and one more takes a file and a line."""

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from analysis import code_keys, run
from analysis.store import Store
from analysis.study import Study
from analysis.worker import Job, compute
from data.errors import InputError
from probes.compress import compress
from probes.compression.method import Method, Target
from probes.compression.registry import method_of, methods, registered
from probes.families import family_of
from probes.models import open_model
from probes.specs.compression import CompressionSpec
from tests.compressing import blocks_of_text
from tests.studies import STUDY
from tests.tiny_models import tiny

NAMES = [one.name for one in methods()]


def spec_of(method: Method) -> CompressionSpec:
    """An ordinary recipe of a method on blocks as the tests make them."""
    blocks = blocks_of_text()
    told = {"sparsity": 0.5} if method.prunes else {"bits": 4}
    return CompressionSpec(method=method.name, samples=blocks.shape[0], block_length=blocks.shape[1], **told)


@pytest.mark.parametrize("name", NAMES)
def test_a_method_says_what_it_is_and_keeps_its_promise(name, tokenizer):
    method, dense = method_of(name), tiny("llama")
    spec = spec_of(method)
    assert spec.name.startswith(name)
    assert code_keys.applied_by(name) == (f"probes.compression.{name}",)  # and its copies' keys name it
    assert method.words
    assert method.source
    made = compress(dense, tokenizer, spec, blocks_of_text(), seed=0)
    assert made.proof.changed == made.proof.targeted == len(family_of(dense).linears_of(dense))
    for layer in family_of(dense).linears_of(dense):
        weight = made.model.get_submodule(layer).get_parameter("weight").detach().numpy()
        if method.prunes:
            columns = [weight[:, at : at + 128] for at in range(0, weight.shape[1], 128)]
            parts: dict[str, Any] = {"row": weight, "columns": columns}
            for part in parts.get(method.unit, [weight]):
                assert abs(int((part == 0).sum()) - 0.5 * part.size) <= 1
        else:
            assert max(len(np.unique(row)) for row in weight) <= 16


def test_rounding_is_numpys_own(tokenizer):
    dense, spec = tiny("llama"), spec_of(method_of("rtn"))
    made = compress(dense, tokenizer, spec, blocks_of_text(), seed=0).model
    layer = "model.layers.0.mlp.up_proj"
    weight = dense.get_submodule(layer).get_parameter("weight").detach().numpy().astype(np.float64)
    scale = np.abs(weight).max(axis=1, keepdims=True) / 7.5  # symmetric: -8 to 7
    expected = np.clip(np.round(weight / scale), -8, 7) * scale
    halfway = np.abs(np.abs(weight / scale) % 1 - 0.5) < 1e-5  # the largest of a row, for one: fp32 decides
    found = made.get_submodule(layer).get_parameter("weight").detach().numpy()
    np.testing.assert_allclose(found[~halfway], expected[~halfway], atol=1e-6)
    assert halfway.mean() < 0.05
    assert (np.abs(found - weight) <= scale / 2 + 1e-6).all()


def test_magnitude_is_numpys_own(tokenizer):
    dense = tiny("llama")
    made = compress(dense, tokenizer, spec_of(method_of("magnitude")), blocks_of_text(), seed=0).model
    layer = "model.layers.1.self_attn.q_proj"
    weight = dense.get_submodule(layer).get_parameter("weight").detach().numpy()
    expected = np.where(np.abs(weight) >= np.median(np.abs(weight)), weight, 0)
    np.testing.assert_array_equal(made.get_submodule(layer).get_parameter("weight").detach().numpy(), expected)


def test_an_unknown_method_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match="no compression method is called 'gtpq'; nearest: gptq"):
        CompressionSpec(method="gtpq", bits=4)
    with pytest.raises(InputError, match="no compression method is called 'none'; there are gptq, rtn, sparsegpt"):
        method_of("none")
    with pytest.raises(ValueError, match="then_method: wanda prunes; name a quantiser"):
        CompressionSpec(method="sparsegpt", sparsity=0.5, then_method="wanda", then_bits=4)


def halve(target: Target) -> None:
    """Set every second column of each layer to zero."""
    with torch.no_grad():
        for name in target.names:
            target.model.get_submodule(name).get_parameter("weight")[:, 1::2] = 0


TOY = Method("halve", "prunes", "Every second column goes", "this test", halve, unit="row")


def test_a_method_from_this_file_goes_from_a_study_to_its_weights_and_answers(tmp_path):
    with registered(TOY):
        told = {"method": "halve", "sparsity": 0.5, "samples": 4, "block_length": 32}
        stored = STUDY.model_dump(mode="json") | {"compressions": [told], "controls": []}
        plan, _ = run.prepare(Study.model_validate(stored))
        kept = Store(tmp_path)
        (made,) = plan.of("compressed")
        asked = next(cell for cell in plan.of("scored") if cell.label == "halve-50% (main)")
        dense = next(cell for cell in plan.of("scored") if cell.label == "dense (main)")
        for cell in (made, dense, asked):
            compute(Job.of(cell, kept))
        copy = open_copy(made, kept)
    opened = open_model("atlas", dtype="float32", device="cpu").model
    for name in family_of(opened).linears_of(opened):
        weight = opened.get_submodule(name).get_parameter("weight").detach().numpy().copy()
        weight[:, 1::2] = 0  # by hand
        np.testing.assert_array_equal(copy[name].numpy(), weight)
    assert (kept.folder(asked.key) / "answers.parquet").is_file()
    with pytest.raises(InputError, match="no compression method is called 'halve'"):
        method_of("halve")


def open_copy(cell, kept: Store) -> dict[str, torch.Tensor]:
    """The layers that a compressed cell keeps."""
    return load_file(kept.folder(cell.key) / "weights.safetensors")
