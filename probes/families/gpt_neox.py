"""GPT-NeoX and Pythia: one layer makes each head's query, key and value; attention and MLP may stand in parallel."""

from dataclasses import replace

from transformers import PretrainedConfig

from probes.families.family import Family


def _configured(family: Family, config: PretrainedConfig) -> Family:
    """Of parallel blocks, attention and MLP read the same stream."""
    return replace(family, between=None) if config.use_parallel_residual else family


FAMILY = Family(
    model_type="gpt_neox",
    blocks="gpt_neox.layers",
    attention="attention",
    mlp="mlp",
    final_norm="gpt_neox.final_layer_norm",
    linears=(
        "attention.query_key_value",
        "attention.dense",
        "mlp.dense_h_to_4h",
        "mlp.dense_4h_to_h",
    ),
    between="post_attention_layernorm",
    fused="by head",
    configured=_configured,
)
