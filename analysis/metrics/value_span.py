"""value_span and value_span_random: the share of a movement that the prompt's values can have written.

A prompt enters a block's output as a weighted sum of its values, mapped by the output projection, so whatever it
adds at attn_out lies in a subspace of heads x length dimensions. A prompt as long as a head is wide spans everything
that the heads can write, and the share inside it is 1 for every movement: then there are no spans.

The comparison is a subspace of equal size made the same way from values drawn at random: what a movement that passed
the same output projection shares with the prompt's values by chance.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from analysis.metrics.direction import moving
from analysis.metrics.seen import Found, Reducer, Seen
from probes.bake import oriented_weight
from probes.families import family_of
from probes.variants import Variant

SEED = 0
"""Of the random values."""

Basis = Float[Tensor, "width size"]
States = Float[Tensor, "token width"]


@dataclass(frozen=True)
class Spans:
    """Orthonormal bases by layer and prompt."""

    values: list[list[Basis]]
    random: list[list[Basis]]


def measure(seen: Seen) -> Found:
    """Of the movement away from `parent`, behind the prompt that each row stands behind."""
    spans: Spans | None = seen.prepared
    if spans is None:
        return
    parent, layer = seen.references["parent"].states[seen.site], seen.site.layer
    rows = list(enumerate(zip(seen.batch.lengths, seen.batch.prompts, strict=True)))
    for metric, bases in (("value_span", spans.values), ("value_span_random", spans.random)):
        shares = [
            _share(seen.tensor[place, -length:].float(), parent[place, -length:].float(), bases[layer][prompt])
            for place, (length, prompt) in rows
        ]
        yield "parent", metric, np.array(shares)


def _share(ours: States, parent: States, basis: Basis) -> float:
    moved = ours - parent
    return share_in_span(moved[moving(moved, parent)], basis)


def share_in_span(moved: States, basis: Basis) -> float:
    """Mean over tokens of the squared share of a movement inside a subspace with this orthonormal basis."""
    whole = moved.square().sum(dim=-1)
    return float(((moved @ basis).square().sum(dim=-1) / whole).mean())


@torch.no_grad()
def spans_of(variant: Variant) -> Spans | None:
    """The spans of a variant's prompts, or None where it has none shorter than a head is wide."""
    prefixes = variant.prefixes
    if prefixes is None or prefixes.longest >= prefixes.values[0].shape[-1]:
        return None
    generator = torch.Generator().manual_seed(SEED)
    found: tuple[list[list[Basis]], list[list[Basis]]] = ([], [])
    for layer, values in enumerate(prefixes.values):
        projection = _output_projection(variant.model, layer)
        for held in found:
            held.append([])
        for one, seen in zip(values, prefixes.seen, strict=True):
            shown = one[:, seen.to(one.device)].float()
            drawn = torch.randn(shown.shape, generator=generator).to(shown.device)
            found[0][-1].append(_basis(shown, projection).to(variant.model.device))
            found[1][-1].append(_basis(drawn, projection).to(variant.model.device))
    return Spans(*found)


def _output_projection(model: PreTrainedModel, layer: int) -> Float[Tensor, "width joined"]:
    """Weight of the layer that maps the heads' outputs, side by side, into the residual stream."""
    family = family_of(model)
    return oriented_weight(model, f"{family.blocks}.{layer}.{family.output_projection}").float()


def _basis(values: Float[Tensor, "group slot head_width"], projection: Float[Tensor, "width joined"]) -> Basis:
    """Orthonormal basis of everything that heads looking at these values can write."""
    heads = projection.shape[1] // values.shape[-1]
    # Query heads of a group read the same values, each with its own part of the projection.
    own = values.repeat_interleave(heads // values.shape[0], dim=0)
    parts = projection.unflatten(1, (heads, values.shape[-1]))
    written = torch.einsum("whd,hsd->whs", parts, own).flatten(1)
    left, singular, _ = torch.linalg.svd(written, full_matrices=False)
    return left[:, singular > singular[0] * 1e-6].contiguous()


REDUCER = Reducer(measure, prepare=spans_of)
