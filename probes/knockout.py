"""Attention knockout: does a repair work through what the content reads from the prompt, and in which layers?

Geva et al., arXiv 2304.14767, section 5.1, with the soft prompt's keys in place of a word's:

1. In a window of layers, cut the content's queries off from the prompt's keys, in all heads or in some.
   *Renormalised*: the scores are masked before the softmax, so that the weights go to the other keys.
   *Zeroed*: the weights stay and what the prompt's values bring is left out, so nothing else is read more.
2. Read the answer. What would count against "the prompt redirects": an answer that stays without its keys.

Placebo: as many keys of the content, drawn per row, never the query's own; where a question is too short for that,
`most` bounds the share of it that goes, since a question without its words is no placebo but another damage. What the
prompt's positions hold is untouched in either form: only edges from content to the cut keys go.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from data.errors import InputError
from probes.capture import CaptureError
from probes.families import Heads, family_of
from probes.inputs import Inputs
from probes.interventions import output_projection
from probes.variants import Variant

Form = Literal["renormalised", "zeroed"]
FORMS: tuple[Form, ...] = ("renormalised", "zeroed")


@dataclass(frozen=True)
class Knockout:
    """Which edges of attention are cut."""

    layers: tuple[int, ...]
    form: Form = "renormalised"
    heads: tuple[int, ...] | None = None
    """In every layer of the window; None for all."""


def windows(layers: int, width: int) -> tuple[tuple[int, ...], ...]:
    """All runs of `width` layers in a row, from the first to the last."""
    if not 1 <= width <= layers:
        raise InputError(f"a window of {width} layers does not fit a model of {layers}: choose 1 to {layers}")
    return tuple(tuple(range(first, first + width)) for first in range(layers - width + 1))


def prompt_keys(inputs: Inputs) -> Bool[Tensor, "batch key"]:
    """Mark the prompt's positions; raise InputError where a row has none."""
    keys = inputs.attention_mask.bool() & ~inputs.content
    if not keys.any(dim=1).all():
        raise InputError("there is no prompt whose keys could be knocked out: give a variant with a prompt or a bank")
    return keys


def placebo_keys(inputs: Inputs, seed: int, *, most: float | None = None) -> Bool[Tensor, "batch key"]:
    """Draw as many content keys as the row's prompt has, the last token (whose answer is read) spared.

    `most` is the largest share of the other content keys that may go, of which at least one does. Raises InputError
    where a row has too few.
    """
    generator = torch.Generator().manual_seed(seed)
    keys = torch.zeros_like(inputs.content)
    for row, needed in enumerate(prompt_keys(inputs).sum(dim=1).tolist()):
        content = inputs.content[row].nonzero()[:-1, 0]
        if most is not None:
            needed = min(needed, max(1, int(most * len(content))))
        if needed > len(content):
            raise InputError(
                f"a question of {len(content) + 1} tokens has no {needed} keys beside its last token for the placebo "
                "of the knockout: use a shorter prompt or longer questions"
            )
        keys[row, content[torch.randperm(len(content), generator=generator)[:needed]]] = True
    return keys


@torch.no_grad()
def logits_without(
    variant: Variant, inputs: Inputs, keys: Bool[Tensor, "batch key"], knockout: Knockout
) -> Float[Tensor, "batch vocabulary"]:
    """Logits after the last token of each row with these keys knocked out; raises as `knocked_out` does."""
    with knocked_out(variant.model, inputs, keys, knockout):
        output = variant.model(**inputs.forward_arguments(), use_cache=False, logits_to_keep=1)
    return output.logits[:, -1]


@contextmanager
def knocked_out(
    model: PreTrainedModel, inputs: Inputs, keys: Bool[Tensor, "batch key"], knockout: Knockout
) -> Iterator[None]:
    """Cut content queries off from `keys` in one pass over `inputs`; undone whatever happens.

    A query always keeps its own key. Raises InputError for layers or heads that the model lacks and for
    attention that is not eager, CaptureError where a layer's hook fired other than once.
    """
    _check(model, knockout)
    own = torch.eye(keys.shape[1], dtype=torch.bool, device=keys.device)
    edges = inputs.content[:, :, None] & keys[:, None, :] & ~own
    heads = torch.zeros(model.config.num_attention_heads, dtype=torch.bool, device=keys.device)
    heads[list(knockout.heads) if knockout.heads is not None else slice(None)] = True
    fired: Counter[int] = Counter()
    handles: list[RemovableHandle] = []
    attach = _mask_scores if knockout.form == "renormalised" else _drop_values
    try:
        for layer in knockout.layers:
            handles += attach(model, layer, edges, heads, fired)
        yield
    finally:
        for handle in handles:
            handle.remove()
    for layer in knockout.layers:
        if fired[layer] != 1:
            raise CaptureError(f"The knockout in layer {layer} fired {fired[layer]} times in one pass, expected 1.")


def _check(model: PreTrainedModel, knockout: Knockout) -> None:
    layers, heads = len(family_of(model).blocks_of(model)), model.config.num_attention_heads
    there = set(knockout.layers) <= set(range(layers)) and set(knockout.heads or ()) <= set(range(heads))
    if not there or not knockout.layers or knockout.heads == () or len(set(knockout.layers)) < len(knockout.layers):
        raise InputError(f"{knockout} does not fit this model of {layers} layers of {heads} heads, from 0.")
    if model.config._attn_implementation != "eager":
        raise InputError(
            f"Knockout needs eager attention and this model uses {model.config._attn_implementation!r}; "
            "open it with attn_implementation='eager'."
        )


def _attention(model: PreTrainedModel, layer: int) -> nn.Module:
    family = family_of(model)
    return family.module_of(model, layer, family.attention)


def _mask_scores(
    model: PreTrainedModel, layer: int, edges: Tensor, heads: Tensor, fired: Counter[int]
) -> list[RemovableHandle]:
    """Give the layer's attention a mask of its own, per head."""

    def hook(module: nn.Module, positional: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        mask = keywords.get("attention_mask")
        if not isinstance(mask, Tensor) or mask.ndim != 4 or not mask.is_floating_point():
            raise CaptureError(f"The attention of layer {layer} was given no additive mask to be extended.")
        fired[layer] += 1
        cut = (edges[:, None] & heads[None, :, None, None]).to(mask.device)
        lowest = torch.finfo(mask.dtype).min
        return positional, keywords | {"attention_mask": mask.expand(cut.shape).masked_fill(cut, lowest)}

    return [_attention(model, layer).register_forward_pre_hook(hook, with_kwargs=True)]


def _drop_values(
    model: PreTrainedModel, layer: int, edges: Tensor, heads: Tensor, fired: Counter[int]
) -> list[RemovableHandle]:
    """Take from what the layer's attention gives what the cut keys' values brought: weights times values, projected."""
    family, width = family_of(model), Heads.of(model).width
    attention, projection = _attention(model, layer), output_projection(model, layer)
    held: dict[str, Tensor] = {}

    def keep(module: nn.Module, received: Any, made: Tensor) -> None:
        held["values"] = family.heads_of("value", made, width)

    def subtract(module: nn.Module, received: Any, output: tuple[Tensor, Tensor]) -> Any:
        fired[layer] += 1
        given, pattern = output
        values = held.pop("values")
        values = values.repeat_interleave(pattern.shape[1] // values.shape[2], dim=2)
        weights = pattern * (edges[:, None] & heads[None, :, None, None]).to(pattern.device)
        brought = torch.einsum("bhqk,bkhw->bqhw", weights, values).flatten(2)
        # The projection may have a bias, which is not the keys' doing.
        return given - (projection.forward(brought) - projection.forward(torch.zeros_like(brought))), pattern

    maker = family.module_of(model, layer, family.value)
    return [maker.register_forward_hook(keep), attention.register_forward_hook(subtract)]
