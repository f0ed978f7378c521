"""Tiny GGUF files: a tiny model's weights as llama.cpp's converter lays them out, with keys and a tokenizer of ours."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import (
    MODEL_ARCH,
    MODEL_ARCH_NAMES,
    GGMLQuantizationType,
    GGUFValueType,
    GGUFWriter,
    get_tensor_name_map,
    quantize,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedModel

CONTROL, USER, NORMAL = 3, 4, 1
SPECIAL = ("<s>", "</s>", "<pad>")
LETTERS = sorted(ByteLevel.alphabet())
WORDS = (*SPECIAL, *LETTERS, *"in at th the he an 12 123 Ġt Ġthe Ġin ##user##".split())
MERGES = ("i n", "a t", "t h", "a n", "1 2", "12 3", "Ġ t", "h e", "Ġt he", "Ġ in", "th e")
ROWS = len(WORDS)
"""Rows of the embedding of a model that goes with the vocabulary."""
EPSILONS = {
    "layer_norm_epsilon": "attention.layer_norm_epsilon",
    "layer_norm_eps": "attention.layer_norm_epsilon",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
"""What a configuration calls the number that norms add, and the key that it stands under."""

Keys = Mapping[str, tuple[Any, GGUFValueType]]


def as_stored(model: PreTrainedModel) -> dict[str, np.ndarray]:
    """A model's weights under a GGUF file's names and in its layout."""
    architecture = model.config.model_type
    enumerated = next(one for one, name in MODEL_ARCH_NAMES.items() if name == architecture)
    places = get_tensor_name_map(MODEL_ARCH(enumerated), model.config.num_hidden_layers)
    stored = {}
    for name, tensor in model.state_dict().items():
        place = places.get_name(name, (".weight", ".bias"))
        assert place is not None
        if place == "output.weight" and model.config.tie_word_embeddings:
            continue
        values = tensor.float().numpy()
        if architecture == "llama" and (".attn_q." in place or ".attn_k." in place):
            query = model.config.num_attention_heads
            heads = query if ".attn_q." in place else model.config.num_key_value_heads
            values = _permuted(values, heads)
        if architecture == "gpt2" and values.ndim == 2 and place.startswith("blk."):
            values = values.T
        stored[place] = np.ascontiguousarray(values)
    return stored


def _permuted(values: np.ndarray, heads: int) -> np.ndarray:
    """Rotary pairs side by side, as llama.cpp has them: Hugging Face keeps them half a head apart."""
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def keys_of(model: PreTrainedModel) -> dict[str, tuple[Any, GGUFValueType]]:
    """The keys that a converter writes of a model's shape."""
    config, kind = model.config, model.config.model_type
    whole, number = GGUFValueType.UINT32, GGUFValueType.FLOAT32
    inner = getattr(config, "intermediate_size", None) or config.n_inner or 4 * config.hidden_size
    keys: dict[str, tuple[Any, GGUFValueType]] = {
        "context_length": (config.max_position_embeddings, whole),
        "embedding_length": (config.hidden_size, whole),
        "block_count": (config.num_hidden_layers, whole),
        "attention.head_count": (config.num_attention_heads, whole),
        "feed_forward_length": (inner, whole),
    }
    keys |= {key: (getattr(config, name), number) for name, key in EPSILONS.items() if hasattr(config, name)}
    if hasattr(config, "num_key_value_heads"):
        keys["attention.head_count_kv"] = (config.num_key_value_heads, whole)
    rotary = getattr(config, "rope_parameters", {})
    if rotary:
        keys["rope.freq_base"] = (rotary["rope_theta"], number)
    if "partial_rotary_factor" in rotary:
        head = config.hidden_size // config.num_attention_heads
        keys["rope.dimension_count"] = (int(rotary["partial_rotary_factor"] * head), whole)
    return {f"{kind}.{name}": value for name, value in keys.items()}


def byte_pairs() -> dict[str, tuple[Any, GGUFValueType]]:
    """The keys of a small tokenizer of byte pairs."""
    kinds = [CONTROL if word in SPECIAL else USER if word == "##user##" else NORMAL for word in WORDS]
    return {
        "tokenizer.ggml.model": ("gpt2", GGUFValueType.STRING),
        "tokenizer.ggml.pre": ("gpt-2", GGUFValueType.STRING),
        "tokenizer.ggml.tokens": (list(WORDS), GGUFValueType.ARRAY),
        "tokenizer.ggml.token_type": (kinds, GGUFValueType.ARRAY),
        "tokenizer.ggml.merges": (list(MERGES), GGUFValueType.ARRAY),
        "tokenizer.ggml.bos_token_id": (0, GGUFValueType.UINT32),
        "tokenizer.ggml.eos_token_id": (1, GGUFValueType.UINT32),
        "tokenizer.ggml.padding_token_id": (2, GGUFValueType.UINT32),
    }


def write_gguf(
    path: Path,
    model: PreTrainedModel,
    *,
    keys: Keys | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
    without: tuple[str, ...] = (),
    tokenizer: Keys | None = None,
    kinds: Mapping[str, GGMLQuantizationType] | None = None,
) -> Path:
    """Write a model as a GGUF file.

    Args:
        path: of the file.
        model: whose weights it holds.
        keys: beside those of the model's shape, or instead of them.
        tensors: beside the model's.
        without: keys and tensors to leave out.
        tokenizer: its keys; a small one of byte pairs unless told.
        kinds: how tensors are stored that are not stored as float32.
    """
    writer = GGUFWriter(path, model.config.model_type)
    told = keys_of(model) | dict(byte_pairs() if tokenizer is None else tokenizer) | dict(keys or {})
    for name, (value, kind) in told.items():
        if name not in without:
            writer.add_key_value(name, value, kind)
    for name, values in (as_stored(model) | dict(tensors or {})).items():
        if name in without:
            continue
        stored = (kinds or {}).get(name)
        if stored is None:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
