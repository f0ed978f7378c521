"""Magnitude pruning: the smallest weights of each layer go, no calibration text read.

llm-compressor's own modifier does nothing under `oneshot`, without a word: hence these lines.
"""

from typing import TYPE_CHECKING

from probes.compression.method import Method, Target

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from probes.specs.compression import Promise


def _apply(target: Target) -> None:
    prune_by_magnitude(target.model, target.names, target.spec.promise)


def prune_by_magnitude(model: "PreTrainedModel", names: list[str], promise: "Promise") -> None:
    """Set the smallest weights of each named layer to zero in place: n:m, or a fraction of the layer."""
    import torch

    with torch.no_grad():
        for name in names:
            weight = model.get_submodule(name).get_parameter("weight").data
            if promise.pattern is not None:
                kept, among = promise.pattern
                groups, count = weight.reshape(-1, among), among - kept
            else:
                groups, count = weight.reshape(1, -1), round((promise.sparsity or 0.0) * weight.numel())
            smallest = groups.abs().argsort(dim=1, stable=True)[:, :count]
            weight.copy_(groups.scatter(1, smallest, 0.0).reshape_as(weight))


METHOD = Method("magnitude", "prunes", "Magnitude: prunes the smallest weights", "no calibration", _apply)
