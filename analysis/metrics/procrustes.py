"""procrustes: what is left between two sets of states after the best rotation, centred and at unit size.

Orthogonal Procrustes distance (Williams et al., arXiv 2110.14739), a mean over sequences.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.metrics.seen import Found, Reducer, Seen

States = Float[Tensor, "token width"]


def measure(seen: Seen) -> Found:
    """Against each reference by itself."""
    for name, reference in seen.references.items():
        yield name, "procrustes", seen.each(procrustes, seen.tensor, reference.states[seen.site])


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


REDUCER = Reducer(measure)
