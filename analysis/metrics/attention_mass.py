"""prompt_mass and first_mass: shares of the variant's attention on its prompt and on the first content token.

Of each row as it stands, before anything is renormalised; a mean over content queries, for every head.
"""

import torch
from jaxtyping import Bool
from torch import Tensor

from analysis.attention import Pattern, PerQuery, content_width
from analysis.metrics.seen import Found, Reducer, Seen
from probes.inputs import Inputs


def measure(seen: Seen) -> Found:
    """Both are of the variant alone: the same under every reference."""
    found = {
        "prompt_mass": seen.per_head(prompt_mass(seen.tensor, seen.batch.inputs)),
        "first_mass": seen.per_head(first_mass(seen.tensor, seen.batch.content)),
    }
    for name in seen.references:
        for metric, values in found.items():
            yield name, metric, values


def prompt_mass(pattern: Pattern, inputs: Inputs) -> PerQuery:
    """Share of each content query's row on the prompt."""
    width = content_width(inputs)
    prompt = inputs.attention_mask.bool() & ~inputs.content
    columns = prompt.any(dim=0).nonzero().flatten()
    if not len(columns):
        return pattern.new_zeros((*pattern.shape[:2], width), dtype=torch.float32)
    first, last = int(columns[0]), int(columns[-1]) + 1
    return (pattern[:, :, -width:, first:last].float() * prompt[:, None, None, first:last]).sum(dim=-1)


def first_mass(pattern: Pattern, content: Bool[Tensor, "batch token"]) -> PerQuery:
    """Share of each content query's row on the first content token."""
    width = content.shape[1]
    first = content.float().argmax(dim=1)
    rows = pattern[:, :, -width:, -width:]
    return rows.gather(3, first[:, None, None, None].expand(*rows.shape[:3], 1))[..., 0].float()


REDUCER = Reducer(measure)
