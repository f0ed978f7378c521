"""direction: whether a repair moves the states of its parent back towards dense."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.metrics.seen import Found, Reducer, Seen

States = Float[Tensor, "token width"]


def measure(seen: Seen) -> Found:
    """Of the movement away from `parent`, its cosine with the way from there to `dense`."""
    parent, dense = (seen.references[name].states[seen.site] for name in ("parent", "dense"))
    yield "dense", "direction", seen.each(direction, seen.tensor, parent, dense)


def direction(ours: States, parent: States, dense: States) -> float:
    """Mean cosine between a repair's movement (ours - parent) and the way back (dense - parent).

    Tokens with no movement or no way back are left out; NaN where none is left. An untrained prompt, or mere
    shrinkage, gives a positive value too, since both differences start at the parent: read it beside the placebo's.
    """
    moved, back = ours - parent, dense - parent
    there = moving(moved, parent) & moving(back, parent)
    return float(torch.nn.functional.cosine_similarity(moved[there], back[there], dim=-1).mean())


def moving(difference: States, start: States) -> Bool[Tensor, " token"]:
    """Which tokens differ by more than the rounding of what they started from."""
    rounding = 16 * torch.finfo(start.dtype).eps
    return difference.norm(dim=-1) > rounding * start.norm(dim=-1)


REDUCER = Reducer(measure)
