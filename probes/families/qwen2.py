"""Qwen2: Llama's layout, with biases on queries, keys and values."""

from dataclasses import replace
from typing import Any

from probes.families import llama
from probes.gguf_keys import Keys
from probes.gguf_shapes import GgufReading, rotary_decoder


def _gguf_shape(keys: Keys) -> dict[str, Any]:
    """The shape of a GGUF file; heads are as wide as their number says."""
    shape = rotary_decoder(keys)
    width = shape.pop("head_dim")
    if width * shape["num_attention_heads"] != shape["hidden_size"]:
        raise keys.refusal("attention.head_count", f"makes heads {width} wide, which no qwen2 model has")
    return shape | {"use_sliding_window": False}


FAMILY = replace(llama.FAMILY, model_type="qwen2", gguf=GgufReading(_gguf_shape, cut="qwen2"))
