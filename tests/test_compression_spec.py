"""Specifications of compressions: how they are named, and what is refused with which sentence."""

import pytest
import torch
from pydantic import ValidationError

from data.errors import InputError
from probes.compress import compress
from probes.specs.compression import CompressionSpec
from tests.compressing import LENGTH, RECIPES, blocks_of_text, spec_of
from tests.tiny_models import VOCABULARY, tiny


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"method": "gptq", "bits": 3, "group_size": 64}, "gptq-3bit-g64"),
        ({"method": "gptq", "bits": 3}, "gptq-3bit"),
        ({"method": "gptq", "bits": 3, "samples": 8, "label": "few"}, "gptq-3bit-few"),
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
