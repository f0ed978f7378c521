"""cosine and relative_l2: how far each content token's state lies from the reference's, in direction and in all.

1 - cos, and |h - h_ref| / |h_ref|: each a mean over content tokens.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.metrics.seen import Found, Reducer, Seen


def measure(seen: Seen) -> Found:
    """Both against each reference by itself."""
    for name, reference in seen.references.items():
        cosine, distance = cosine_and_distance(seen.tensor.float(), reference.states[seen.site].float())
        yield name, "cosine", seen.mean(cosine)
        yield name, "relative_l2", seen.mean(distance)


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


REDUCER = Reducer(measure)
