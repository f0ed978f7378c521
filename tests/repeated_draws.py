"""Statistics of repeated random draws: the mean of one arm, and counts that chance allows."""

import numpy as np
from scipy import stats


def within_binomial(hits: int, n: int, share: float) -> bool:
    """Whether a count is one that `share` would give in 99.9 % of runs."""
    low, high = stats.binom.interval(0.999, n, share)
    return low <= hits <= high


def only(means: dict[str, np.ndarray]) -> np.ndarray:
    """The statistic: the means of the one arm."""
    return means["arm"]
