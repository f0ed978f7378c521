"""OPT: one linear layer after another instead of an MLP module; OPT-350M norms after each sum."""

from dataclasses import replace

from transformers import PretrainedConfig

from probes.families.family import Family


def _configured(family: Family, config: PretrainedConfig) -> Family:
    """Where sums are normed, the stream is normed as a whole after attention, and the MLP reads the stream itself."""
    return family if config.do_layer_norm_before else replace(family, between="fc1", post_norm=True)


FAMILY = Family(
    model_type="opt",
    blocks="model.decoder.layers",
    attention="self_attn",
    mlp="fc2",
    final_norm="model.decoder.final_layer_norm",
    linears=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "fc1", "fc2"),
    between="final_layer_norm",
    configured=_configured,
)
