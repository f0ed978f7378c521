"""How a head's rows part from the reference's, over content keys and in bits; a mean over content queries.

jensen_shannon   divergence of the two rows, renormalised over content keys: 0 to 1
kl               Kullback-Leibler divergence of the variant's row from the reference's, renormalised likewise:
                 bits lost by taking one for the other; a key that the variant rounds to 0 counts as 2^-126
entropy          of the variant's renormalised row; entropy_change is it less the reference's
"""

from math import log

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from analysis.attention import ContentRows, Pattern, PerQuery, blocks_of, causal_blocks, entropy_of, logs_of
from analysis.metrics.seen import Found, Reducer, Seen


def measure(seen: Seen) -> Found:
    """All from one pass over the rows' blocks; the entropy is the variant's own, the same under every reference."""
    stored = [reference.rows[seen.site] for reference in seen.references.values()]
    entropy, found = divergences(seen.tensor, stored, seen.batch.content, kl="kl" in seen.asked)
    own = seen.per_head(entropy) if "entropy" in seen.asked else None
    for name, rows, metrics in zip(seen.references, stored, found, strict=True):
        for metric, values in metrics.items():
            yield name, metric, seen.per_head(values)
        if own is not None:
            yield name, "entropy", own
        if "entropy_change" in seen.asked:
            yield name, "entropy_change", seen.per_head(entropy - rows.entropy / np.log(2))


def divergences(
    pattern: Pattern, references: list[ContentRows], content: Bool[Tensor, "batch token"], *, kl: bool
) -> tuple[PerQuery, list[dict[str, PerQuery]]]:
    """The variant's entropy in bits and, for each reference, Jensen-Shannon and, if asked, KL in bits."""
    entropies: list[PerQuery] = []
    found: list[list[dict[str, PerQuery]]] = [[] for _ in references]
    for place, ours in enumerate(causal_blocks(pattern, content)):
        logs = logs_of(ours)
        entropy = -(logs * ours).sum(dim=-1)
        entropies.append(entropy)
        for reference, parts in zip(references, found, strict=True):
            theirs = reference.blocks[place]
            start, stop = blocks_of(reference.width)[place]
            known = reference.entropy[:, :, start:stop]
            mixture = entropy_of((ours + theirs).mul_(0.5))
            part = {"jensen_shannon": (mixture - (entropy + known) / 2).clamp_(min=0)}
            if kl:
                part["kl"] = (-(logs * theirs).sum(dim=-1) - known).clamp_(min=0)
            parts.append(part)
    return _joined(entropies), [
        {metric: _joined([part[metric] for part in parts]) for metric in parts[0]} for parts in found
    ]


def _joined(blocks: list[PerQuery]) -> PerQuery:
    """Blocks come last first; nats become bits."""
    return torch.cat(blocks[::-1], dim=2).div_(log(2))


REDUCER = Reducer(measure)
