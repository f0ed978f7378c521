"""spearman: 1 - Spearman's rank correlation over dimensions, a mean over content tokens.

No dimension counts for more than its rank (Timkey & van Schijndel, arXiv 2109.04404, section 5).
"""

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from analysis.metrics.seen import Found, Reducer, Seen


def measure(seen: Seen) -> Found:
    """Against each reference by itself; the variant's ranks are made once, a reference's once for all variants."""
    ours = ranks(seen.tensor)
    for name, reference in seen.references.items():
        correlation = rank_correlation(ours, reference.once("ranks", seen.site, ranks))
        yield name, "spearman", seen.mean((1 - correlation).clamp(min=0))


def ranks(states: Shaped[Tensor, "*rows width"]) -> Int[Tensor, "*rows width"]:
    """Twice the average rank of each value in its row (ties share theirs), counted from zero and whole."""
    width = states.shape[-1]
    order = _order(states)
    ordered = states.gather(-1, order)
    place = torch.arange(width, device=states.device).expand(states.shape)
    # A value has as many below it as lie before its run of equals, and as many at most it as lie up to the run's end.
    below, up_to = place, place + 1
    rises = ordered[..., 1:] != ordered[..., :-1]
    if not rises.all():
        edge = torch.ones_like(rises[..., :1])
        below = torch.where(torch.cat([edge, rises], -1), place, 0).cummax(-1).values
        ends = torch.where(torch.cat([rises, edge], -1), place + 1, width)
        up_to = ends.flip(-1).cummin(-1).values.flip(-1)
    # Twice the rank is below 2^15 for every width below 2^14: half the memory of a float.
    narrow = torch.int16 if width < 2**14 else torch.int32
    return torch.empty_like(states, dtype=narrow).scatter_(-1, order, (below + up_to).to(narrow))


def _order(states: Shaped[Tensor, "*rows width"]) -> Int[Tensor, "*rows width"]:
    """The order of each row's values. NumPy's sort, where it can be had, takes a third of torch's time."""
    if states.device.type != "cpu":
        return states.argsort(dim=-1)
    return torch.from_numpy(np.argsort(states.float().numpy(), axis=-1))


def rank_correlation(ours: Int[Tensor, "*rows width"], theirs: Int[Tensor, "*rows width"]) -> Float[Tensor, "*rows"]:
    """Spearman's correlation of each row, from `ranks`; 1 - half the squared distance of the standardised ranks."""
    tiny = torch.finfo(torch.float32).tiny
    first, second = (_unit(one.float(), tiny) for one in (ours, theirs))
    return 1 - (first - second).square_().sum(dim=-1) / 2


def _unit(rows: Float[Tensor, "*rows width"], tiny: float) -> Float[Tensor, "*rows width"]:
    """Rows centred and of length one."""
    rows = rows - rows.mean(dim=-1, keepdim=True)
    return rows / torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp(min=tiny)


REDUCER = Reducer(measure)
