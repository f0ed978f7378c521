"""Baking: from a compressor's model, full of hooks and scales, to plain dense weights, and the proof of it.

1. Read the weight that each compressed layer really multiplies with: round-to-nearest stores the dense
   weight and rounds in the forward pass, so that a copied state dict would be the dense model again.
2. Write those weights, and nothing else, into a fresh copy of the dense model.
3. Prove it: the same logits as the compressor's own forward pass; every targeted layer changed, and as sparse
   or coarse as was promised; every other tensor identical to dense, bit for bit; tied tensors still tied.

What would count against a baked model is any single one of these, and each raises.
"""

import contextlib
import copy
import io
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from loguru import logger
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from probes.specs.compression import Promise

_LIBRARIES = ("llmcompressor", "compressed_tensors")
_TOKENIZERS = "TOKENIZERS_PARALLELISM"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence llm-compressor and what it calls (log lines, progress bars, prints), and restore all after."""
    before, tokenizers = logging.root.manager.disable, os.environ.get(_TOKENIZERS)
    logging.disable(logging.WARNING)
    for library in _LIBRARIES:
        logger.disable(library)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
        for library in _LIBRARIES:
            logger.enable(library)
        # `oneshot` switches tokenizer threads off for the whole process.
        os.environ.pop(_TOKENIZERS, None)
        if tokenizers is not None:
            os.environ[_TOKENIZERS] = tokenizers


@dataclass(frozen=True)
class CompressionProof:
    """What was checked of one baked model, with the figures found."""

    targeted: int
    """Linear layers that were to be compressed: all of those inside the blocks."""
    changed: int
    """Those that differ from dense; equal to `targeted`, or there is no proof."""
    sparsity: tuple[float, float]
    """Least and greatest fraction of zeros in a targeted layer."""
    levels: tuple[int, int] | None
    """Least and greatest, over layers, of the most values in one row and group; None if not quantised."""
    logit_difference: float
    """Greatest absolute difference between the baked logits and those of the compressor's forward pass."""
    logit_tolerance: float
    """What `logit_difference` was allowed to be."""
    identical: int
    """Other parameters and buffers found identical to dense, bit for bit."""


@torch.no_grad()
def effective_weights(model: PreTrainedModel, names: list[str]) -> Iterator[tuple[str, Float[Tensor, "out in"]]]:
    """Give, one layer after another, its name and the weight with which the compressor's forward pass multiplies."""
    # Imported here because it costs a second that a reader of finished runs need not pay.
    from compressed_tensors.quantization import forward_quantize

    for name in names:
        layer: Any = model.get_submodule(name)
        weight = layer.weight.detach()
        if hasattr(layer, "quantization_scheme"):
            weight = forward_quantize(layer, weight, "weight", layer.quantization_scheme.weights)
        yield name, weight.to(layer.weight.dtype)


@torch.no_grad()
def bake(
    dense: PreTrainedModel,
    weights: Iterable[tuple[str, Float[Tensor, "out in"]]],
    outside: Mapping[str, Tensor] | None = None,
) -> PreTrainedModel:
    """Return a copy of `dense` in which the named layers hold the given weights; `dense` is not changed.

    Weights are taken one by one: a model of a GPU's size is not held once more meanwhile. `outside` holds whatever
    else takes the place of dense tensors, by its full name; a head that was the embedding becomes one of its own.
    """
    baked = copy.deepcopy(dense).eval()
    for name, weight in weights:
        oriented_weight(baked, name).copy_(weight)
    for name, tensor in (outside or {}).items():
        _untie(baked, name)
        baked.get_parameter_or_buffer(name).copy_(tensor)
    return baked


def _untie(model: PreTrainedModel, name: str) -> None:
    """Give a head that is the embedding a weight of its own, where that is what is to be replaced."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    tied = head is not None and head.weight is embedding.weight
    if tied and model.get_parameter(name) is embedding.weight and model.get_submodule(name.rpartition(".")[0]) is head:
        head.weight = torch.nn.Parameter(embedding.weight.detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = False


def oriented_weight(model: PreTrainedModel, name: str) -> Float[Tensor, "out in"]:
    """Return a layer's weight, sharing its storage, as [out, in] even where a Conv1D stores [in, out]."""
    layer: Any = model.get_submodule(name)
    weight: Tensor = layer.weight.detach()
    return weight.t() if isinstance(layer, Conv1D) else weight


def prove(
    dense: PreTrainedModel,
    compressed: PreTrainedModel,
    baked: PreTrainedModel,
    names: list[str],
    promise: Promise,
    block: Int[Tensor, " length"],
    pruned: dict[str, Bool[Tensor, "out in"]] | None = None,
) -> CompressionProof:
    """Check `baked` against the dense model and the compressor's own, on one block of token ids.

    `names` are the targeted layers; `pruned` holds the zeros that a pruner made before a quantiser ran.
    Raises RuntimeError, naming the layer or tensor, at the first thing that is not as promised.
    """
    sparsities, levels = [], []
    for name in names:
        weight = oriented_weight(baked, name)
        _check_changed(name, weight, oriented_weight(dense, name))
        zeros = weight == 0
        made = zeros if pruned is None else pruned[name].to(zeros.device)
        if bool((made & ~zeros).any()):
            raise RuntimeError(f"Quantising undid the pruning of {name}: weights in its mask are not zero.")
        _check_sparsity(name, made, promise)
        sparsities.append(float(zeros.double().mean()))
        if promise.bits is not None:
            levels.append(most_levels(weight, promise.group_size))
            if levels[-1] > 2**promise.bits:
                raise RuntimeError(f"{name} has {levels[-1]} levels in a row and group at {promise.bits} bits.")
    identical = _check_others(dense, compressed, baked, names)
    difference, tolerance = compare_logits(compressed, baked, block)
    return CompressionProof(
        targeted=len(names),
        changed=len(names),
        sparsity=(min(sparsities), max(sparsities)),
        levels=(min(levels), max(levels)) if levels else None,
        logit_difference=difference,
        logit_tolerance=tolerance,
        identical=identical,
    )


def most_levels(weight: Float[Tensor, "out in"], group_size: int | None) -> int:
    """Return the most different values found in one row and group of a weight."""
    groups = weight.reshape(weight.shape[0], -1, group_size or weight.shape[1])
    return int((groups.sort(dim=-1).values.diff(dim=-1) != 0).sum(dim=-1).max()) + 1


def _check_changed(name: str, weight: Float[Tensor, "out in"], dense: Float[Tensor, "out in"]) -> None:
    if not bool(torch.isfinite(weight).all()):
        raise RuntimeError(f"{name} holds values that are not finite after compression.")
    if torch.equal(weight, dense):
        raise RuntimeError(f"{name} is still dense: compression did not reach it.")
    if not bool(weight.any()):
        raise RuntimeError(f"{name} is all zeros after compression.")


TIES = 1e-3
"""Share of a unit that may be zero beyond what was asked: weights of equal score at the threshold fall together,
and a dequantised file has few distinct weights (seen on SmolLM2: 2 of 196,608)."""


def _check_sparsity(name: str, zeros: Bool[Tensor, "out in"], promise: Promise) -> None:
    """Hold the zeros a pruner made against the promised pattern, or the fraction within one in each unit."""
    if promise.pattern is not None:
        kept, among = promise.pattern
        if bool(((~zeros).reshape(-1, among).sum(dim=1) > kept).any()):
            raise RuntimeError(f"{name} breaks the {kept}:{among} pattern.")
    elif promise.sparsity is not None:
        # A column whose input was always zero in calibration may be cleared whole on top of what was asked.
        spare = zeros.all(dim=0)
        for unit, dead in _units(zeros, spare, promise.unit):
            found, asked = int(unit.sum()), promise.sparsity * unit.numel()
            if not asked - 1 <= found <= asked + 1 + dead + TIES * unit.numel():
                raise RuntimeError(f"{name} has {found} zeros of {unit.numel()} in a {promise.unit} not {asked:.1f}.")


def _units(
    zeros: Bool[Tensor, "out in"], spare: Bool[Tensor, " in"], unit: str
) -> list[tuple[Bool[Tensor, "..."], int]]:
    """Cut a mask into its units, each with the number of zeros it may have in excess."""
    rows, dead = zeros.shape[0], int(spare.sum())
    if unit == "row":
        return [(row, dead) for row in zeros]
    width = 128 if unit == "columns" else zeros.shape[1]
    pieces = zip(zeros.split(width, dim=1), spare.split(width), strict=True)
    return [(piece, rows * int(extra.sum())) for piece, extra in pieces]


def _tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """Every parameter and buffer by every name it goes by, tied ones under each of theirs."""
    return dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))


def _check_others(dense: PreTrainedModel, compressed: PreTrainedModel, baked: PreTrainedModel, names: list[str]) -> int:
    """Check that all but the targeted weights are untouched in both models; return how many there are."""
    if type(baked) is not type(dense) or baked.config.to_dict() != dense.config.to_dict():
        raise RuntimeError("The baked model is not of the dense model's class and configuration.")
    reference, others = _tensors(dense), {"compressor's own": _tensors(compressed), "baked": _tensors(baked)}
    if set(others["baked"]) != set(reference):
        odd = sorted(set(others["baked"]) ^ set(reference))[0]
        raise RuntimeError(f"The baked model and the dense one do not hold the same tensors: {odd}.")
    untouched = sorted(set(reference) - {f"{name}.weight" for name in names})
    for owner, tensors in others.items():
        for name in untouched:
            if name not in tensors or not torch.equal(tensors[name], reference[name]):
                raise RuntimeError(f"{name} was not to be compressed, yet it differs from dense in the {owner} model.")
    if _ties(others["baked"]) != _ties(reference):
        raise RuntimeError("Tensors that are tied in the dense model are not tied in the baked one.")
    return len(untouched)


def _ties(tensors: dict[str, Tensor]) -> set[frozenset[str]]:
    by_identity: dict[int, set[str]] = {}
    for name, tensor in tensors.items():
        by_identity.setdefault(id(tensor), set()).add(name)
    return {frozenset(names) for names in by_identity.values() if len(names) > 1}


@torch.no_grad()
def compare_logits(
    compressed: PreTrainedModel, baked: PreTrainedModel, block: Int[Tensor, " length"]
) -> tuple[float, float]:
    """Return the greatest difference of logits and its tolerance; raise where the first exceeds the second.

    The tolerance is 64 units of rounding of the greatest logit in float32 (7.6e-6 of it) and 4 in the half
    types. The same weights give the same bits, except in GPT-2, where Conv1D and Linear add in another order.
    """
    ids = block.to(baked.device).unsqueeze(0)
    own = compressed.eval()(input_ids=ids, use_cache=False).logits
    ours = baked.eval()(input_ids=ids, use_cache=False).logits
    units = 64 if baked.dtype == torch.float32 else 4
    tolerance = units * torch.finfo(baked.dtype).eps * max(1.0, float(own.abs().max()))
    difference = float((own.double() - ours.double()).abs().max())
    if not math.isfinite(difference) or difference > tolerance:
        raise RuntimeError(
            f"The baked logits differ from the compressor's by {difference:.3g}, more than {tolerance:.3g}."
        )
    return difference, tolerance
