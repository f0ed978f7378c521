"""GPT-2: one Conv1D makes queries, keys and values, role by role."""

from probes.families.family import Family

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
)
