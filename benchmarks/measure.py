"""What a benchmark finds, and memory of things compared: the most a process holds beyond what it held before.

Linux: `VmHWM` after a reset, less `VmRSS`, the allocator trimmed first.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from analysis.peak import PeakMemory
from analysis.timing import Work, times
from data.errors import InputError


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


def costs_of(works: Mapping[str, Work], rounds: int | None) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds of each piece of work in each round, and the most memory that it took; once, together, for None."""
    if rounds is not None:
        return times(works, rounds=rounds), {name: peak_bytes(work) for name, work in works.items()}
    peaks: dict[str, int] = {}

    def weighed(name: str) -> Work:
        def work() -> None:
            peaks[name] = peak_bytes(works[name])

        return work

    return times({name: weighed(name) for name in works}, rounds=1, unseen=0), peaks
