"""Tiny random models of the architectures that the probes read: built from configurations, with no hub."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

VOCABULARY = 64
WIDTH = 32
LAYERS = 2
HEADS = 4
POSITIONS = 64

_LLAMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS // 2,  # grouped queries: the shape in which a reader of heads goes wrong
    "max_position_embeddings": POSITIONS,
    "tie_word_embeddings": False,
}
_SETTINGS: dict[str, dict[str, Any]] = {
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "opt": {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "word_embed_proj_dim": WIDTH,
        "ffn_dim": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": POSITIONS,
        "dropout": 0.0,
    },
    "gpt2": {
        "vocab_size": VOCABULARY,
        "n_embd": WIDTH,
        "n_layer": LAYERS,
        "n_head": HEADS,
        "n_positions": POSITIONS,
    },
    "gpt_neox": {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": POSITIONS,
        "use_parallel_residual": True,  # pass False for the sequential form
    },
}
TINY_TYPES = tuple(_SETTINGS)
# Token ids of every tiny model: padding, begin, end.
_SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def tiny(model_type: str, seed: int = 0, **overrides: Any) -> PreTrainedModel:
    """Build a random causal model of two layers and width 32: eval mode, eager attention, fp32.

    The weights are drawn ten times wider than a fresh model's, so that attention is far from uniform and
    every part of a block moves the logits; `overrides` are fields of the configuration. The global random
    state is kept.
    """
    settings = _SPECIAL | _SETTINGS[model_type] | overrides
    config = AutoConfig.for_model(model_type, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                # Norm scales stay near one and biases near zero, neither exactly: a forgotten one shows.
                noise = torch.randn_like(parameter)
                parameter.copy_(0.2 * noise if parameter.ndim > 1 else parameter + 0.1 * noise)
    return model.eval()
