"""Llama, and what shares its layout to the last name: SmolLM2, TinyLlama."""

from typing import Any

from probes.families.family import Family
from probes.gguf_keys import Keys
from probes.gguf_shapes import GgufReading, rotary_decoder

_BIASES = {
    "attention_bias": ("attn_q", "attn_k", "attn_v", "attn_output"),
    "mlp_bias": ("ffn_gate", "ffn_up", "ffn_down"),
}
"""Fields of a configuration, and the tensors that a GGUF file holds in every block where one is true."""


def _gguf_shape(keys: Keys) -> dict[str, Any]:
    """The shape of a GGUF file, whose tensors tell where there are biases."""
    shape = rotary_decoder(keys, factors=True)
    layers = shape["num_hidden_layers"]
    for name, parts in _BIASES.items():
        wanted = {f"blk.{layer}.{part}.bias" for layer in range(layers) for part in parts}
        shape[name] = wanted <= set(keys.file.tensors)
        if shape[name]:
            keys.told.append(f"{name}: biases of {', '.join(parts)} in every block")
    return shape


FAMILY = Family(
    model_type="llama",
    blocks="model.layers",
    attention="self_attn",
    mlp="mlp",
    final_norm="model.norm",
    linears=(
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
    ),
    between="post_attention_layernorm",
    gguf=GgufReading(_gguf_shape),
)
