"""cosine_standardised and relative_l2_standardised: the two distances without the say of a few huge dimensions.

A few dimensions with huge spread dominate cosine (Timkey & van Schijndel, arXiv 2109.04404, section 4): the largest
are standardised by the reference before cosine and distance are taken, within each sequence.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.metrics.cosine import cosine_and_distance
from analysis.metrics.seen import Found, Reducer, Seen

OUTLIERS = 3
"""Dimensions standardised: Timkey & van Schijndel find one to five that decide cosine in each of their models."""

States = Float[Tensor, "token width"]


def measure(seen: Seen) -> Found:
    """Both against each reference by itself."""
    for name, reference in seen.references.items():
        pairs = seen.each(_distances, seen.tensor, reference.states[seen.site])
        yield name, "cosine_standardised", pairs[:, 0]
        yield name, "relative_l2_standardised", pairs[:, 1]


def _distances(ours: States, theirs: States) -> tuple[float, float]:
    cosine, distance = cosine_and_distance(*standardise(ours, theirs))
    return float(cosine.mean()), float(distance.mean())


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


REDUCER = Reducer(measure)
