"""Tiny random models of the architectures that the probes read: built from configurations, with no hub."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from probes.families import families

VOCABULARY = 64
WIDTH = 32
LAYERS = 2
HEADS = 4
POSITIONS = 64

_SETTINGS: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "ffn_dim": 2 * WIDTH,
    "word_embed_proj_dim": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS // 2,  # grouped queries: the shape in which a reader of heads goes wrong
    "max_position_embeddings": POSITIONS,
    "dropout": 0.0,
}
"""Each family is given those of these that its configuration has; GPT-NeoX's parallel form is its own default."""
TINY_TYPES = tuple(family.model_type for family in families())
# Token ids of every tiny model: padding, begin, end.
_SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def tiny(model_type: str, seed: int = 0, **overrides: Any) -> PreTrainedModel:
    """Build a random causal model of two layers and width 32: eval mode, eager attention, fp32.

    The weights are drawn ten times wider than a fresh model's, so that attention is far from uniform and
    every part of a block moves the logits; `overrides` are fields of the configuration. The global random
    state is kept.
    """
    known = AutoConfig.for_model(model_type)
    settings = {name: value for name, value in _SETTINGS.items() if hasattr(known, name)}
    config = AutoConfig.for_model(model_type, **(_SPECIAL | settings | overrides))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                # Norm scales stay near one and biases near zero, neither exactly: a forgotten one shows.
                noise = torch.randn_like(parameter)
                parameter.copy_(0.2 * noise if parameter.ndim > 1 else parameter + 0.1 * noise)
    return model.eval()
