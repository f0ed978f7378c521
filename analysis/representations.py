"""How far two sets of hidden states lie apart beyond cosine and length: one sequence at a time, content tokens only.

Everything here is computed within one sequence, so padding and the batch plan cannot change it, and nothing larger
than the sequence is ever held.

Outlier dimensions   a few dimensions with huge spread dominate cosine (Timkey & van Schijndel, arXiv 2109.04404, 4):
                     the largest are standardised by the reference before cosine and distance are taken
Rank correlation     Spearman over dimensions, per token: no dimension counts for more than its rank (same paper, 5)
Debiased linear CKA  Kornblith et al., arXiv 1905.00414, with the unbiased HSIC of Song et al. 2012 (JMLR 13, eq. 5):
                     the biased form is high even for random states when dimensions outnumber tokens
Procrustes distance  Williams et al., arXiv 2110.14739: what is left after the best rotation, centred and at unit size
Direction of drift   does a repair move the states back towards dense?
Share in a span      how much of a movement lies inside a given subspace
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

OUTLIERS = 3
"""Dimensions standardised: Timkey & van Schijndel find one to five that decide cosine in each of their models."""
FEWEST_TOKENS = 4
"""Unbiased HSIC divides by n - 3."""

States = Float[Tensor, "token width"]


def cosine_and_distance(
    ours: Float[Tensor, "*rows width"], theirs: Float[Tensor, "*rows width"]
) -> tuple[Float[Tensor, "*rows"], Float[Tensor, "*rows"]]:
    """1 - cosine and relative distance of each row, from the difference and the two lengths.

    1 - cos = (|a - b|^2 - (|a| - |b|)^2) / (2 |a| |b|): one product less than by the dot product, and exact where the
    rows are equal, where 1 - cos cancels. Zero rows have no direction and count as equal in it.
    """
    tiny = torch.finfo(torch.float32).tiny
    apart = torch.linalg.vector_norm(ours - theirs, dim=-1)
    length, other = torch.linalg.vector_norm(ours, dim=-1), torch.linalg.vector_norm(theirs, dim=-1)
    cosine = (apart.square() - (length - other).square()).clamp_(min=0) / (2 * length * other).clamp(min=tiny)
    return cosine, apart / other.clamp(min=tiny)


def standardise(ours: States, theirs: States, outliers: int = OUTLIERS) -> tuple[States, States]:
    """Both with the reference's `outliers` dimensions of largest variance brought to the spread of a middling one.

    Mean and deviation are those of the reference over this sequence's tokens, for both; the deviation becomes the
    median over dimensions, so that the result keeps the unit of the rest.
    """
    spread, mean = torch.std_mean(theirs, dim=0, correction=0)
    largest = spread.topk(min(outliers, spread.shape[0])).indices
    scale = spread.median() / spread[largest].clamp(min=torch.finfo(torch.float32).tiny)
    changed = []
    for states in (ours, theirs):
        one = states.clone()
        one[:, largest] = (one[:, largest] - mean[largest]) * scale
        changed.append(one)
    return changed[0], changed[1]


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


def unbiased_hsic(ours: States, theirs: States) -> Float[Tensor, "3"]:
    """Unbiased HSIC of (ours, theirs), (ours, ours) and (theirs, theirs) under linear kernels; NaN below 4 tokens."""
    tokens = ours.shape[0]
    if tokens < FEWEST_TOKENS:
        return torch.full((3,), torch.nan, dtype=torch.float64)
    # HSIC does not depend on the mean, and sums of large equal numbers would hide small ones.
    first, second = (_hollow_gram(states) for states in (ours, theirs))
    return torch.stack([_hsic(first, second), _hsic(first, first), _hsic(second, second)])


def _hollow_gram(states: States) -> Float[Tensor, "token token"]:
    centred = states.double()
    centred = centred - centred.mean(dim=0)
    return (centred @ centred.T).fill_diagonal_(0)


def _hsic(first: Float[Tensor, "token token"], second: Float[Tensor, "token token"]) -> Float[Tensor, ""]:
    """Song et al. 2012, eq. 5, of two kernel matrices whose diagonals are zero."""
    n = first.shape[0]
    rows, columns = first.sum(dim=0), second.sum(dim=0)
    trace = torch.dot(first.flatten(), second.flatten())
    both = rows.sum() * columns.sum() / ((n - 1) * (n - 2))
    return (trace + both - 2 / (n - 2) * torch.dot(rows, columns)) / (n * (n - 3))


def debiased_cka(hsic: Float[Tensor, "3 *draw"]) -> Float[Tensor, "*draw"]:
    """Debiased linear CKA from (a mean over sequences of) `unbiased_hsic`: the minibatch form of arXiv 2010.15327.

    Sequences are the minibatches, since a cross-covariance over all tokens would take width^2 numbers per site and
    variant: it asks how alike the tokens of one sequence lie to each other. 1 for states that are equal up to rotation
    and size, about 0 for independent ones (it may be a little below); not finite where a set has no spread.
    """
    return hsic[0] / (hsic[1].clamp(min=0) * hsic[2].clamp(min=0)).sqrt()


def procrustes(ours: States, theirs: States) -> float:
    """Orthogonal Procrustes distance of two sets of states, centred and of unit Frobenius norm: 0 to sqrt 2.

    sqrt(2 - 2 |X'Y|_*), from triangular factors no larger than tokens or width. NaN where a set has no spread.
    """
    first, second = (states.double() - states.double().mean(dim=0) for states in (ours, theirs))
    size = first.norm() * second.norm()
    if not size > 0:
        return float("nan")
    if first.shape[0] < first.shape[1]:  # X'Y has rank below the number of tokens: rotate the empty dimensions away
        first, second = (torch.linalg.qr(states.T, mode="r").R for states in (first, second))
    nuclear = torch.linalg.svdvals(first @ second.T if ours.shape[0] < ours.shape[1] else first.T @ second).sum()
    return float((2 - 2 * nuclear / size).clamp(min=0).sqrt())


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


def share_in_span(moved: States, basis: Float[Tensor, "width size"]) -> float:
    """Mean over tokens of the squared share of a movement inside a subspace with this orthonormal basis."""
    whole = moved.square().sum(dim=-1)
    return float(((moved @ basis).square().sum(dim=-1) / whole).mean())
