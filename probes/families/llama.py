"""Llama, and what shares its layout to the last name: SmolLM2, TinyLlama."""

from probes.families.family import Family

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
)
