"""What the keys of a GGUF file say of a model's shape, in the words of a Hugging Face configuration.

A family's own file says which of this its files hold (`probes/families/`); here stands what several share.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from data.errors import InputError
from probes.gguf_files import GgufFile
from probes.gguf_keys import ANOTHER, Keys
from probes.gguf_rotary import rotary_of


@dataclass(frozen=True)
class GgufReading:
    """How GGUF files of a family are read."""

    shape: Callable[[Keys], dict[str, Any]]
    """From a file's keys to the fields of a configuration; it reads each key that the architecture has."""
    cut: str | None = None
    """How a file that does not say it cuts words, as `tokenizer.ggml.pre` names it: files are older than that key."""


def embedding(keys: Keys) -> dict[str, Any]:
    """What every architecture has: words, and whether the head is the embedding once more."""
    words = _rows(keys.file, "token_embd.weight")
    keys.require("vocab_size", lambda value: value == words, f"the {words} rows of its embedding")
    return {"vocab_size": words, "tie_word_embeddings": "output.weight" not in keys.file.tensors}


def rotary_decoder(keys: Keys, *, factors: bool = False) -> dict[str, Any]:
    """A decoder with rotary positions and a root-mean-square norm.

    Args:
        keys: of the file.
        factors: whether a file of this architecture may hold its rotary scaling as a tensor.
    """
    heads = keys.whole("attention.head_count")
    positions = keys.whole("context_length")
    width = _rows(keys.file, "blk.0.attn_q.weight") // heads
    epsilon = keys.number("attention.layer_norm_rms_epsilon")
    for name in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
        keys.require(name, lambda value: value == width, f"the {width} of a head")
    keys.require("attention.scale", lambda value: value == 0 or _near(value, width**-0.5), "the usual 1/sqrt(head)")
    keys.require("attention.layer_norm_epsilon", lambda value: value == epsilon, f"its other epsilon, {epsilon:g}")
    keys.require("attention.sliding_window", lambda value: value == 0 or value >= positions, "no sliding window")
    return embedding(keys) | {
        "hidden_size": keys.whole("embedding_length"),
        "intermediate_size": keys.whole("feed_forward_length"),
        "num_hidden_layers": keys.whole("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": keys.whole("attention.head_count_kv", heads),
        "head_dim": width,
        "max_position_embeddings": positions,
        "rms_norm_eps": epsilon,
        "rope_parameters": rotary_of(keys, width, positions, factors=factors),
    }


def _rows(file: GgufFile, name: str) -> int:
    if name not in file.tensors:
        raise InputError(f"model '{file.path}': its weights lack the tensor {name}: {ANOTHER}")
    return file.tensors[name].shape[0]


def _near(value: float, other: float) -> bool:
    return math.isclose(value, other, rel_tol=1e-6)  # the file holds float32
