"""What the tests of compression share: a recipe of every method, text to calibrate on, a model's fingerprint."""

import hashlib
from typing import Any

import torch
from transformers import PreTrainedModel

from probes.families import family_of
from probes.specs.compression import CompressionSpec
from tests.tiny_models import VOCABULARY

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
