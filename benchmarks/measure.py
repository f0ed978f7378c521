"""What a benchmark finds, and memory of things compared: the most a process holds beyond what it held before.

Linux: `VmHWM` after a reset, less `VmRSS`, the allocator trimmed first. Where models are mapped from files or do not
fit into memory, the process's own memory counts, swapped out or not (`RssAnon` and `VmSwap`), looked at every 10 ms.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from analysis.peak import PeakMemory, give_back, status_bytes
from analysis.pool import processes
from analysis.timing import Work
from data.errors import InputError

Made = TypeVar("Made")
LOOK_EVERY = 0.01


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


def peak_alone(measure: Callable[..., int], *arguments: object) -> int:
    """What a measurement of memory gives in a fresh process that does nothing else."""
    with processes() as pool:
        return pool.submit(measure, *arguments).result()


def own_memory_peak(work: Callable[[], Made]) -> tuple[Made, int]:
    """What the work gives, and the bytes of its own that the process was seen to hold at most beyond those before."""
    give_back()
    before, seen, done = _own_bytes(), 0, threading.Event()

    def look() -> None:
        nonlocal seen
        while not done.wait(LOOK_EVERY):
            seen = max(seen, _own_bytes())

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        result = work()
    finally:
        done.set()
        watcher.join()
    return result, max(seen, _own_bytes()) - before


def _own_bytes() -> int:
    """Memory that no file backs, in memory or swapped out."""
    return status_bytes("RssAnon") + status_bytes("VmSwap")
