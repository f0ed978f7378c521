"""Compression of a dense language model, through llm-compressor, baked to plain dense weights and proved.

GPTQ (arXiv 2210.17323), SparseGPT (2301.00774), Wanda (2306.11695), round-to-nearest and magnitude pruning.

1. Copy the model (the caller's is never changed), GPT-2's Conv1D layers as Linear, which is all that the
   compressor knows; target every linear layer inside the blocks by its full name, never head or embeddings.
2. Run the calibration blocks through it one by one in the given order, block of layers after block of layers:
   each layer is compressed on the activations that the compressed layers before it produce.
3. Prune, or quantise, or both: then GPTQ holds the pruned weights at zero while it spreads its error.
4. Bake the weights of the forward pass into a copy of the dense model and prove the result (`probes.bake`).

GPTQ orders columns by activation (the library's default, "static") and sets scales by each row's or group's
extremes; it and SparseGPT dampen their Hessian by 1 %. Where a Hessian cannot be inverted both libraries'
modifiers carry on with round-to-nearest or an identity: here that is an error.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from data.errors import InputError
from probes.bake import CompressionProof, bake, effective_weights, prove, quiet
from probes.compression.method import Target
from probes.compression.registry import method_of
from probes.families import family_of
from probes.inputs import longest_content
from probes.specs.compression import CompressionSpec, pattern_of
from probes.spreading import gathered, place_as


@dataclass(frozen=True)
class Compressed:
    """A compressed model as plain dense weights, and the proof that it is what was asked."""

    model: PreTrainedModel
    """Of the dense model's class, without hooks or quantisation config; `save_pretrained` works."""
    proof: CompressionProof


def compress(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    spec: CompressionSpec,
    blocks: Int[Tensor, "samples length"],
    *,
    seed: int,
) -> Compressed:
    """Compress a copy of `model` on the calibration blocks and return it baked and proved.

    `blocks` are token ids, `spec.samples` by `spec.block_length`; `seed` sets torch's generator meanwhile.
    Raises InputError for a model or blocks that do not fit, RuntimeError if the result fails its proof.
    """
    family = family_of(model)
    names = list(family.linears_of(model))
    _check_blocks(model, spec, blocks)
    _check_widths(model, spec, names)
    copied = gathered(_copy_with_linears(model, names))
    pruned = None
    devices = list({weight.device for weight in model.parameters() if weight.is_cuda})
    with quiet(), torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        target = Target(copied, tokenizer, spec, names, blocks)
        if spec.pruner is not None:
            method_of(spec.pruner).apply(target)
        if spec.pruner is not None and spec.quantiser is not None:
            pruned = {name: weight == 0 for name, weight in effective_weights(copied, names)}
        if spec.quantiser is not None:
            method_of(spec.quantiser).apply(target)
        place_as(copied, model)
        baked = bake(model, effective_weights(copied, names))
        proof = prove(model, copied, baked, names, spec.promise, blocks[-1], pruned)
    return Compressed(model=baked, proof=proof)


def _check_blocks(model: PreTrainedModel, spec: CompressionSpec, blocks: Int[Tensor, "samples length"]) -> None:
    if blocks.ndim != 2 or 0 in blocks.shape:
        raise InputError("There is no calibration block to compress on; give at least one block of token ids.")
    if tuple(blocks.shape) != (spec.samples, spec.block_length):
        raise InputError(
            f"{spec.name} asks for {spec.samples} calibration blocks of {spec.block_length} tokens, but has "
            f"{blocks.shape[0]} of {blocks.shape[1]}; change samples and block_length, or give longer text."
        )
    longest = longest_content(model)
    if blocks.shape[1] > longest:
        raise InputError(
            f"Calibration blocks of {blocks.shape[1]} tokens do not fit the model's {longest} positions; "
            "lower block_length."
        )
    if int(blocks.min()) < 0 or int(blocks.max()) >= model.config.vocab_size:
        raise InputError(
            f"A calibration block holds a token outside the model's vocabulary of {model.config.vocab_size}; "
            "use the model's own tokenizer."
        )


def _check_widths(model: PreTrainedModel, spec: CompressionSpec, names: list[str]) -> None:
    among = pattern_of(spec.pattern)[1] if spec.pattern else None
    for field, divisor in (("group_size", spec.group_size), ("pattern", among)):
        for name in names:
            layer: Any = model.get_submodule(name)
            width = layer.weight.shape[0 if isinstance(layer, Conv1D) else 1]
            if divisor is not None and width % divisor != 0:
                raise InputError(f"{name} is {width} wide, which {divisor} does not divide; choose another {field}.")


@torch.no_grad()
def _copy_with_linears(model: PreTrainedModel, names: list[str]) -> PreTrainedModel:
    """Copy a model, with each Conv1D among the named layers as the Linear that computes the same."""
    copied = copy.deepcopy(model).eval()
    for name in names:
        layer = copied.get_submodule(name)
        if isinstance(layer, Conv1D):
            width_in, width_out = layer.weight.shape
            linear = nn.Linear(width_in, width_out, device=layer.weight.device, dtype=layer.weight.dtype)
            linear.weight.copy_(layer.weight.t())
            linear.bias.copy_(layer.bias)
            parent, _, leaf = name.rpartition(".")
            setattr(copied.get_submodule(parent), leaf, linear)
    return copied
