"""What a query may attend to where layers have a sliding window: counted in positions, never in columns.

transformers counts a window in columns of the batch. Behind cached prompts a shorter row has padding between its prompt
and its content, so that padding would push the prompt out of its window: what a row scores would depend on the rows
beside it. Here the mask of such a layer is made from positions, so that a row is read as if it stood alone.

A model without a window, or one that no position of the pass reaches, gets the plain mask of columns, as always.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

AttentionMask = Int[Tensor, "batch key"] | Float[Tensor, "batch 1 query key"] | Mapping[str, Tensor]
"""As a model takes it: columns that are seen, an additive mask for all layers, or one for each type of layer."""


def window_of(model: PreTrainedModel) -> int | None:
    """How many positions, its own counted, a query sees in layers with a sliding window; None without such layers."""
    config = model.config
    window = getattr(config, "sliding_window", None)
    kinds = _layer_types(config)
    windowed = "sliding_attention" in kinds if kinds else getattr(config, "use_sliding_window", True)
    return int(window) if window and windowed else None


def _layer_types(config: PretrainedConfig) -> tuple[str, ...]:
    return tuple(getattr(config, "layer_types", None) or ())


def attention_mask(
    model: PreTrainedModel,
    seen: Int[Tensor, "batch key"],
    keys: Int[Tensor, "batch key"],
    queries: Int[Tensor, "batch query"],
) -> AttentionMask:
    """The mask of a pass behind cached keys: plain columns, or by position where a window is within reach.

    Args:
        model: whose layers have a window or none.
        seen: 1 for keys that are content or prompt, 0 for padding; the queries' own keys stand last.
        keys: position of every key.
        queries: position of every query.

    Returns:
        What the model takes as its `attention_mask`.
    """
    window = window_of(model)
    if window is None or int(keys.max()) < window:
        return seen
    allowed = seen.bool()[:, None, :] & causal(keys.shape[1], queries.shape[1], seen.device)
    return by_layer_type(model, allowed, keys, queries)


def causal(keys: int, queries: int, device: torch.device) -> Bool[Tensor, "query key"]:
    """Which keys each query may see by their order, the queries' own keys being the last."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def by_layer_type(
    model: PreTrainedModel,
    allowed: Bool[Tensor, "batch query key"],
    keys: Int[Tensor, "batch key"],
    queries: Int[Tensor, "batch query"],
) -> AttentionMask:
    """Additive masks from what may be seen: one for all layers, or one for each type of layer that the model has."""
    window, kinds = window_of(model), _layer_types(model.config)
    if window is None:
        return additive(allowed, model.dtype)
    near = keys[:, None, :] > queries[:, :, None] - window
    masks = {"full_attention": allowed, "sliding_attention": allowed & near}
    if not kinds:
        return additive(masks["sliding_attention"], model.dtype)
    return {name: additive(masks[name], model.dtype) for name in dict.fromkeys(kinds)}


def additive(allowed: Bool[Tensor, "batch query key"], dtype: torch.dtype) -> Float[Tensor, "batch 1 query key"]:
    """Zero where a key may be seen, the most negative number elsewhere."""
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill(~allowed, torch.finfo(dtype).min)[:, None]
