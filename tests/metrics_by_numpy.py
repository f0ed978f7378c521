"""The metrics of drift and attention by their definitions, in NumPy and SciPy: float64, one sequence at a time."""

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import linalg, stats

from tests.tiny_models import HEADS

Numbers = np.ndarray


def unit(states: Numbers) -> Numbers:
    return states / np.linalg.norm(states, axis=-1, keepdims=True)


def cosine(ours: Numbers, theirs: Numbers) -> float:
    return float(np.mean(1 - (unit(ours) * unit(theirs)).sum(axis=1)))


def relative_l2(ours: Numbers, theirs: Numbers) -> float:
    return float(np.mean(np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)))


def standardised(measure: Callable[[Numbers, Numbers], float], ours: Numbers, theirs: Numbers) -> float:
    spread = theirs.std(axis=0)
    middling = np.sort(spread)[(len(spread) - 1) // 2]
    pair = [ours.copy(), theirs.copy()]
    for dimension in np.argsort(spread)[-3:]:
        for states in pair:
            own = states[:, dimension] - theirs[:, dimension].mean()
            states[:, dimension] = own / spread[dimension] * middling
    return measure(*pair)


def spearman(ours: Numbers, theirs: Numbers) -> float:
    return float(np.mean([1 - stats.spearmanr(*pair).statistic for pair in zip(ours, theirs, strict=True)]))


def centred(states: Numbers) -> Numbers:
    """Székely and Rizzo's U-centred kernel, whose inner products are the unbiased HSIC."""
    kernel = states @ states.T
    np.fill_diagonal(kernel, 0)
    count = len(kernel)
    rows = kernel.sum(axis=1) / (count - 2)
    kernel = kernel - rows[:, None] - rows[None] + kernel.sum() / ((count - 1) * (count - 2))
    np.fill_diagonal(kernel, 0)
    return kernel / np.sqrt(count * (count - 3))


def cka(ours: list[Numbers], theirs: list[Numbers]) -> float:
    """Of the means over sequences."""
    kernels = [(centred(one), centred(other)) for one, other in zip(ours, theirs, strict=True)]
    between, own, other = (
        np.mean([(pair[i] * pair[j]).sum() for pair in kernels]) for i, j in ((0, 1), (0, 0), (1, 1))
    )
    return float(1 - between / np.sqrt(own * other))


def procrustes(ours: Numbers, theirs: Numbers) -> float:
    first, second = ((one - one.mean(axis=0)) / np.linalg.norm(one - one.mean(axis=0)) for one in (ours, theirs))
    rotation, _ = linalg.orthogonal_procrustes(first, second)
    return float(np.linalg.norm(first @ rotation - second))


def direction(ours: Numbers, parent: Numbers, dense: Numbers) -> float:
    return float(np.mean((unit(ours - parent) * unit(dense - parent)).sum(axis=1)))


def in_span(values: Numbers, projection: Numbers, ours: Numbers, parent: Numbers) -> float:
    """Share of the squared movement that least squares can write as a sum of the heads' projected values."""
    width = values.shape[-1]
    written = [
        projection[:, head * width : (head + 1) * width] @ slot
        for head in range(HEADS)
        for slot in values[head // (HEADS // len(values))]
    ]
    basis = np.stack(written, axis=1)
    moved = (ours - parent).T
    left = moved - basis @ np.linalg.lstsq(basis, moved, rcond=None)[0]
    return float(np.mean(1 - (left**2).sum(axis=0) / (moved**2).sum(axis=0)))


def per_head(measure: Callable[..., float], *patterns: Numbers) -> Numbers:
    """Head by head: a mean over content queries of a measure of rows renormalised over content keys."""
    heads, queries, _ = patterns[0].shape
    rows = [one / one.sum(axis=-1, keepdims=True) for one in patterns]
    return np.array(
        [np.mean([measure(*(one[head, query] for one in rows)) for query in range(queries)]) for head in range(heads)]
    )


entropy = partial(stats.entropy, base=2)


def jensen_shannon(ours: Numbers, theirs: Numbers) -> float:
    """By two Kullback-Leibler divergences from the middle."""
    middle = (ours + theirs) / 2
    return float(np.mean([entropy(one, middle) for one in (ours, theirs)]))


BY_SEQUENCE: dict[str, Callable[..., float]] = {
    "cosine": cosine,
    "relative_l2": relative_l2,
    "cosine_standardised": partial(standardised, cosine),
    "relative_l2_standardised": partial(standardised, relative_l2),
    "spearman": spearman,
    "procrustes": procrustes,
    "direction": direction,
}
PER_HEAD: dict[str, Callable[[Numbers, Numbers, Numbers], Numbers]] = {
    "jensen_shannon": lambda ours, theirs, _: per_head(jensen_shannon, ours, theirs),
    "kl": lambda ours, theirs, _: per_head(lambda one, other: entropy(other, one), ours, theirs),
    "entropy": lambda ours, theirs, _: per_head(entropy, ours),
    "entropy_change": lambda ours, theirs, _: per_head(entropy, ours) - per_head(entropy, theirs),
    "prompt_mass": lambda ours, theirs, on_prompt: on_prompt.mean(axis=1),
    "first_mass": lambda ours, theirs, _: ours[:, :, 0].mean(axis=1),
}
