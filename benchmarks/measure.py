"""Time and memory of things compared in one run: interleaved, so that a slow minute hits all of them alike.

Time is the median over rounds of each thing's share of its baseline in the same round. Memory is what the process
holds at most beyond what it held before (Linux: `VmHWM` after a reset, less `VmRSS`), the allocator trimmed first.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from analysis.peak import PeakMemory
from data.errors import InputError

Work = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """One figure of a benchmark and what it is measured against."""

    value: float
    target: float | None
    unit: str
    baseline: str

    @property
    def met(self) -> bool:
        """Whether the figure is within its target, where it has one."""
        return self.target is None or self.value <= self.target


def times(works: Mapping[str, Work], *, rounds: int = 5) -> dict[str, list[float]]:
    """Seconds of each piece of work in each round, in an order that turns from round to round; one round unseen."""
    names = list(works)
    found: dict[str, list[float]] = {name: [] for name in names}
    with tqdm(total=(rounds + 1) * len(names), unit="timing", leave=False) as bar:
        for number in range(rounds + 1):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                bar.set_description(name)
                started = time.perf_counter()
                works[name]()
                if number:
                    found[name].append(time.perf_counter() - started)
                bar.update()
    return found


def time_ratio(found: Mapping[str, list[float]], name: str, baseline: str) -> float:
    """Median over rounds of one thing's time in units of another's."""
    return float(np.median(np.array(found[name]) / np.array(found[baseline])))


def peak_bytes(work: Work) -> int:
    """Memory the process holds at most during the work beyond what it held before.

    Raises:
        InputError: the system does not say (it is not Linux).
    """
    with PeakMemory() as peak:
        work()
    if peak.beyond is None:
        raise InputError("peak memory is read from /proc: run this benchmark on Linux")
    return peak.beyond
