"""GPT-2: one Conv1D makes queries, keys and values, role by role."""

from typing import Any

from probes.families.family import Family
from probes.gguf_keys import Keys
from probes.gguf_shapes import GgufReading, embedding


def _gguf_shape(keys: Keys) -> dict[str, Any]:
    """The shape of a GGUF file, in the words that a GPT-2 configuration has for it."""
    heads = keys.whole("attention.head_count")
    keys.require("attention.head_count_kv", lambda value: value == heads, f"its {heads} heads of queries")
    return embedding(keys) | {
        "n_embd": keys.whole("embedding_length"),
        "n_inner": keys.whole("feed_forward_length"),
        "n_layer": keys.whole("block_count"),
        "n_head": heads,
        "n_positions": keys.whole("context_length"),
        "layer_norm_epsilon": keys.number("attention.layer_norm_epsilon"),
    }


FAMILY = Family(
    model_type="gpt2",
    blocks="transformer.h",
    attention="attn",
    mlp="mlp",
    final_norm="transformer.ln_f",
    linears=("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"),
    between="ln_2",
    fused="by role",
    conv1d=True,
    gguf=GgufReading(_gguf_shape, cut="gpt-2"),
)
