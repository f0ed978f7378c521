"""The rotary scaling that a GGUF file names or holds as a tensor, in the words of a Hugging Face configuration."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from data.errors import InputError
from probes.gguf_keys import Keys

FACTORS = "rope_freqs.weight"
"""The tensor by whose numbers each rotary frequency is divided."""
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
"""What every Llama 3 has; the factor and the length before scaling are found."""
_LENGTHS = (8192, *(2**power for power in range(2, 21)))
_PRECISION = 1e-5  # relative: the file holds float32, and so does the library while it computes
_UNITS = ("rope.scaling.attn_factor", "rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor")
_ZEROS = ("rope.scaling.yarn_log_multiplier", "rope.scaling.alpha")


def rotary_of(keys: Keys, width: int, positions: int, *, factors: bool) -> dict[str, Any]:
    """The `rope_parameters` of a file's model.

    Args:
        keys: of the file; those of rotary positions are read from them.
        width: of one head.
        positions: for how many the model was made, once scaled.
        factors: whether a file of this architecture may hold its scaling as a tensor.

    Raises:
        InputError: a scaling that the library cannot express, named.
    """
    base = float(keys.number("rope.freq_base", 10000.0))
    # A file that gives a factor and no type means the linear one, as the library that wrote it does.
    kind = keys.text("rope.scaling.type", "linear")
    old = keys.number("rope.scale_linear", 0.0)
    factor = float(keys.number("rope.scaling.factor", old) or 1.0)
    length = keys.whole("rope.scaling.original_context_length", positions)
    keys.skip("rope.scaling.finetuned")  # whether it was tuned at that scale
    for name in _UNITS:
        keys.require(name, lambda value: value in (0, 1), "1")
    for name in _ZEROS:
        keys.require(name, lambda value: value == 0, "0")
    scaled = _named(keys, kind, factor, length)
    if factors and FACTORS in keys.file.tensors:
        scaled = _held(keys, scaled, base, width, length)
    if len(scaled) > 1:
        words = ", ".join(f"{name} {value}" for name, value in scaled.items() if name != "rope_type")
        keys.told.append(f"rotary scaling: {scaled['rope_type']}, {words}")
    return {"rope_theta": base} | scaled


def _named(keys: Keys, kind: str, factor: float, length: int) -> dict[str, Any]:
    """The scaling that the keys name."""
    beta = {
        "beta_fast": keys.number("rope.scaling.yarn_beta_fast", 32.0),
        "beta_slow": keys.number("rope.scaling.yarn_beta_slow", 1.0),
    }
    if kind == "none" or (kind in ("linear", "yarn") and factor == 1):
        return {"rope_type": "default"}
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    if kind == "yarn":
        return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": length} | beta
    raise keys.refusal("rope.scaling.type", f"is {kind!r}, and linear, yarn and none are read here")


def _held(keys: Keys, named: dict[str, Any], base: float, width: int, length: int) -> dict[str, Any]:
    """The scaling that the tensor of factors is, which is Llama 3's or none that a configuration can express."""
    factors = keys.file.values(FACTORS)
    keys.read.add(FACTORS)
    if np.all(factors == 1):
        return named
    found = None if len(named) > 1 else _as_llama3(factors, base, width, length)
    if found is None:
        raise InputError(
            f"model '{keys.file.path}': its tensor {FACTORS} divides rotary frequencies in a way that is not Llama "
            "3's, the only one that is read here: open the model that it was made from, as safetensors"
        )
    return found


def _as_llama3(factors: Float[np.ndarray, " pair"], base: float, width: int, length: int) -> dict[str, Any] | None:
    """The settings of Llama 3's scaling that give exactly these factors, or None."""
    plain = 1.0 / base ** (np.arange(0, width, 2) / width)
    if factors.shape != plain.shape:
        return None
    for original in (length, *_LENGTHS):
        scaling = {"rope_type": "llama3", "factor": float(factors.max()), **_LLAMA3}
        scaling["original_max_position_embeddings"] = original
        config = LlamaConfig(head_dim=width, rope_parameters={"rope_theta": base} | scaling)
        scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
        if np.allclose(plain / scaled.numpy(), factors, rtol=_PRECISION, atol=0):
            return scaling
    return None
