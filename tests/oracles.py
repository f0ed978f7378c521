"""Calculations that tests hold the product against, and that nothing but tests needs."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LlamaForCausalLM

from analysis.readout import ScoredItems, Vectors
from data.facts import Fact
from probes.knockout import Knockout, logits_without, placebo_keys, prompt_keys
from probes.known_truth import rotation
from probes.linear import ProbeReading, ProbeSet, Way, aligned
from probes.variants import Variant


def knocked_logits(
    variant: Variant, rows: Sequence[Sequence[int]], knockout: Knockout, *, placebo_seed: int | None = None
) -> Float[Tensor, "batch vocabulary"]:
    """Logits after the last token of each row with the prompt's keys, or as many of the content's, knocked out."""
    inputs = variant.inputs(rows)
    keys = prompt_keys(inputs) if placebo_seed is None else placebo_keys(inputs, placebo_seed)
    return logits_without(variant, inputs, keys, knockout)


def unrotated(model: LlamaForCausalLM, seed: int, layers: Sequence[int]) -> LlamaForCausalLM:
    """The change of weights that undoes `known_truth.rotated`: every W_o reads through the rotation's transpose."""
    undone = copy.deepcopy(model)
    heads = model.config.num_attention_heads
    width = model.config.hidden_size // heads
    for layer in layers:
        turns = torch.block_diag(*(rotation(width, 1000 * seed + 10 * layer + head) for head in range(heads)))
        outputs = undone.model.layers[layer].self_attn.o_proj.weight
        outputs.data = outputs.data @ turns.T
    return undone


def read_linear(
    dense: Float[np.ndarray, "layer item width"],
    variant: Float[np.ndarray, "layer item width"],
    facts: Sequence[Fact],
    *,
    way: Way,
    strength: float = 1.0,
    control_seeds: Sequence[int] = (0, 1, 2),
) -> ProbeReading:
    """Fit on the tune and calibrate people of these facts, read the test people under a variant."""
    source = variant if way == "refitted" else dense
    probes = ProbeSet.fit(source, facts, strength=strength, control_seeds=control_seeds)
    return probes.read(aligned(variant, dense, facts) if way == "aligned" else variant)


def answer_priors(items: ScoredItems, *, smoothing: float = 0.1) -> Vectors:
    """Each relation's prior counted from its answers, with `smoothing` added to every candidate."""
    priors = {}
    for name, rows in items.rows().items():
        counts = np.bincount(items.answer[rows], minlength=items.log_probs.shape[1])
        counts = (counts + smoothing) * np.isfinite(items.log_probs[rows[0]])
        priors[name] = counts / counts.sum()
    return priors
