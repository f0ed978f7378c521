"""Time of things compared in one go: interleaved, so that a slow minute hits all of them alike.

A figure is the median over rounds of each thing's share of its baseline in the same round.
"""

import time
from collections.abc import Callable, Mapping

import numpy as np
from tqdm import tqdm

Work = Callable[[], object]


def times(works: Mapping[str, Work], *, rounds: int = 5, unseen: int = 1) -> dict[str, list[float]]:
    """Seconds of each piece of work in each round, in an order that turns; the first rounds are not counted."""
    names = list(works)
    found: dict[str, list[float]] = {name: [] for name in names}
    with tqdm(total=(unseen + rounds) * len(names), unit="timing", leave=False) as bar:
        for number in range(unseen + rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                bar.set_description(name)
                started = time.perf_counter()
                works[name]()
                if number >= unseen:
                    found[name].append(time.perf_counter() - started)
                bar.update()
    return found


def time_ratio(found: Mapping[str, list[float]], name: str, baseline: str) -> float:
    """Median over rounds of one thing's time in units of another's."""
    return float(np.median(np.array(found[name]) / np.array(found[baseline])))
