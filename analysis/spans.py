"""What a prompt can write into the residual stream by being looked at: the span of its values at each layer.

A prompt enters a block's output as a weighted sum of its values, mapped by the output projection, so whatever it
adds at attn_out lies in a subspace of heads x length dimensions. A prompt as long as a head is wide spans everything
that the heads can write, and the share inside it is 1 for every movement: then there are no spans.

The comparison is a subspace of equal size made the same way from values drawn at random: what a movement that passed
the same output projection shares with the prompt's values by chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from probes.bake import oriented_weight
from probes.families import family_of
from probes.variants import Variant

Basis = Float[Tensor, "width size"]


@dataclass(frozen=True)
class Spans:
    """Orthonormal bases by layer and prompt, and which prompt each row of a batch stands behind."""

    values: list[list[Basis]]
    random: list[list[Basis]]
    of_row: Sequence[int]

    def rows(self, of_row: Sequence[int]) -> "Spans":
        """The same spans for another batch."""
        return Spans(self.values, self.random, of_row)


@torch.no_grad()
def spans_of(variant: Variant, *, seed: int) -> Spans | None:
    """The spans of a variant's prompts, or None where it has none shorter than a head is wide."""
    prefixes = variant.prefixes
    if prefixes is None or prefixes.longest >= prefixes.values[0].shape[-1]:
        return None
    generator = torch.Generator().manual_seed(seed)
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
    return Spans(*found, of_row=[])


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
