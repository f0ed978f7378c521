"""cka: 1 - debiased linear CKA, how differently the tokens of a sequence lie to each other.

Kornblith et al., arXiv 1905.00414, with the unbiased HSIC of Song et al. 2012 (JMLR 13, eq. 5): the biased form is
high even for random states when dimensions outnumber tokens. Three HSICs are kept per sequence, and CKA is taken of
their means: a ratio of means, never a mean of ratios.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.metrics.seen import Found, Reducer, Seen

FEWEST_TOKENS = 4
"""Unbiased HSIC divides by n - 3."""

States = Float[Tensor, "token width"]


def measure(seen: Seen) -> Found:
    """Three HSICs against each reference by itself."""
    for name, reference in seen.references.items():
        yield (
            name,
            "cka",
            seen.each(lambda *two: unbiased_hsic(*two).tolist(), seen.tensor, reference.states[seen.site]),
        )


def finish(hsics: Float[np.ndarray, "draw 3"]) -> Float[np.ndarray, "draw 1"]:
    """1 - CKA of mean HSICs; NaN where a set of states has no spread to compare."""
    return (1 - debiased_cka(torch.from_numpy(hsics).T)).numpy()[:, None]


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


REDUCER = Reducer(measure, finish=finish)
