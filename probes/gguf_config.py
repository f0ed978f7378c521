"""The configuration that a GGUF file describes: every key is read, known to change no number, or refused by name.

The library's own reader maps a dozen keys of each architecture and drops the rest without a word, rotary scaling
among them. Here what is not known is refused, since a file that says something says it because it matters.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, dequantize, get_tensor_name_map
from gguf.constants import GGML_QUANT_SIZES
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from data.errors import InputError
from probes.gguf_files import GgufFile
from probes.gguf_keys import ANOTHER, Keys
from probes.gguf_rotary import FACTORS, rotary_of
from probes.gguf_tokenizers import special_ids


def gguf_configuration(file: GgufFile) -> tuple[PretrainedConfig, tuple[str, ...]]:
    """The configuration that a file describes, and what of it was read beside the weights, as sentences.

    Raises:
        InputError: an architecture, a key or a tensor that cannot be read, named.
    """
    if file.architecture not in _READERS:
        raise InputError(
            f"model '{file.path}': GGUF files of architecture {file.architecture!r} are not supported; open one of "
            f"{', '.join(_READERS)}, or the model as safetensors"
        )
    keys = Keys(file)
    shape = _READERS[file.architecture](keys)
    keys.finish()
    special = {f"{name}_id": place for name, place in special_ids(file).items() if name != "unk_token"}
    config = AutoConfig.for_model(file.architecture, **shape, **special)
    _check_tensors(file, config)
    return config, tuple(keys.told)


def _rows(file: GgufFile, name: str) -> int:
    if name not in file.tensors:
        raise InputError(f"model '{file.path}': its weights lack the tensor {name}: {ANOTHER}")
    return file.tensors[name].shape[0]


def _embedding(keys: Keys) -> dict[str, Any]:
    """What every architecture has: words, and whether the head is the embedding once more."""
    words = _rows(keys.file, "token_embd.weight")
    keys.require("vocab_size", lambda value: value == words, f"the {words} rows of its embedding")
    return {"vocab_size": words, "tie_word_embeddings": "output.weight" not in keys.file.tensors}


def _llama(keys: Keys) -> dict[str, Any]:
    shape = _rotary_decoder(keys)
    layers = shape["num_hidden_layers"]
    biases = {
        "attention_bias": ("attn_q", "attn_k", "attn_v", "attn_output"),
        "mlp_bias": ("ffn_gate", "ffn_up", "ffn_down"),
    }
    for name, parts in biases.items():
        wanted = {f"blk.{layer}.{part}.bias" for layer in range(layers) for part in parts}
        shape[name] = wanted <= set(keys.file.tensors)
        if shape[name]:
            keys.told.append(f"{name}: biases of {', '.join(parts)} in every block")
    return shape


def _qwen2(keys: Keys) -> dict[str, Any]:
    shape = _rotary_decoder(keys)
    width = shape.pop("head_dim")
    if width * shape["num_attention_heads"] != shape["hidden_size"]:
        raise keys.refusal("attention.head_count", f"makes heads {width} wide, which no qwen2 model has")
    return shape | {"use_sliding_window": False}


def _rotary_decoder(keys: Keys) -> dict[str, Any]:
    """A decoder with rotary positions and a root-mean-square norm."""
    heads = keys.whole("attention.head_count")
    positions = keys.whole("context_length")
    width = _rows(keys.file, "blk.0.attn_q.weight") // heads
    epsilon = keys.number("attention.layer_norm_rms_epsilon")
    for name in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
        keys.require(name, lambda value: value == width, f"the {width} of a head")
    keys.require("attention.scale", lambda value: value == 0 or _near(value, width**-0.5), "the usual 1/sqrt(head)")
    keys.require("attention.layer_norm_epsilon", lambda value: value == epsilon, f"its other epsilon, {epsilon:g}")
    keys.require("attention.sliding_window", lambda value: value == 0 or value >= positions, "no sliding window")
    return _embedding(keys) | {
        "hidden_size": keys.whole("embedding_length"),
        "intermediate_size": keys.whole("feed_forward_length"),
        "num_hidden_layers": keys.whole("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": keys.whole("attention.head_count_kv", heads),
        "head_dim": width,
        "max_position_embeddings": positions,
        "rms_norm_eps": epsilon,
        "rope_parameters": rotary_of(keys, width, positions),
    }


def _gpt2(keys: Keys) -> dict[str, Any]:
    heads = keys.whole("attention.head_count")
    keys.require("attention.head_count_kv", lambda value: value == heads, f"its {heads} heads of queries")
    return _embedding(keys) | {
        "n_embd": keys.whole("embedding_length"),
        "n_inner": keys.whole("feed_forward_length"),
        "n_layer": keys.whole("block_count"),
        "n_head": heads,
        "n_positions": keys.whole("context_length"),
        "layer_norm_epsilon": keys.number("attention.layer_norm_epsilon"),
    }


_READERS: Mapping[str, Callable[[Keys], dict[str, Any]]] = {"llama": _llama, "qwen2": _qwen2, "gpt2": _gpt2}


def _near(value: float, other: float) -> bool:
    return math.isclose(value, other, rel_tol=1e-6)  # the file holds float32


def _check_tensors(file: GgufFile, config: PretrainedConfig) -> None:
    """Refuse a file that holds more, less or other tensors than the model has, before a weight is read."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    places = get_tensor_name_map(_enumerated(file.architecture), config.num_hidden_layers)
    wanted = {places.get_name(name, (".weight", ".bias")): tuple(one.shape) for name, one in model.state_dict().items()}
    if config.tie_word_embeddings:
        wanted.pop("output.weight", None)
    read = {FACTORS} & set(file.tensors) if file.architecture == "llama" else set()
    if more := sorted(set(file.tensors) - set(wanted) - read):
        raise InputError(
            f"model '{file.path}': its tensor {more[0]} has no place in a {file.architecture} model "
            f"({len(more)} such tensors): {ANOTHER}"
        )
    if lacking := sorted(str(name) for name in set(wanted) - set(file.tensors)):
        raise InputError(f"model '{file.path}': its weights lack {len(lacking)} tensors ({lacking[0]}): {ANOTHER}")
    for name, shape in wanted.items():
        found = file.tensors[str(name)]
        # Of a shape and its mirror: GPT-2 keeps its layers the other way round.
        if found.shape != shape and not (config.model_type == "gpt2" and found.shape == shape[::-1]):
            raise InputError(
                f"model '{file.path}': its tensor {name} is {found.shape} and its keys describe {shape}: {ANOTHER}"
            )
    _check_kinds(file)


def _check_kinds(file: GgufFile) -> None:
    """Refuse a way of storing numbers that cannot be made dense again."""
    for kind in sorted({one.kind for one in file.tensors.values()}):
        size = GGML_QUANT_SIZES[kind][1]
        try:
            dequantize(torch.zeros(1, size, dtype=torch.uint8).numpy(), kind)
        except NotImplementedError:
            raise InputError(
                f"model '{file.path}': its weights are stored as {kind.name}, which cannot be made "
                f"dense again here: {ANOTHER}"
            ) from None


def _enumerated(architecture: str) -> MODEL_ARCH:
    return next(one for one, name in MODEL_ARCH_NAMES.items() if name == architecture)
