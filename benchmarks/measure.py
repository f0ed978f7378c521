"""What a benchmark finds, and memory of things compared: the most a process holds beyond what it held before.

Linux: `VmHWM` after a reset, less `VmRSS`, the allocator trimmed first.
"""

from collections.abc import Callable
from dataclasses import dataclass

from analysis.peak import PeakMemory
from analysis.pool import processes
from analysis.timing import Work
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


def peak_alone(measure: Callable[..., int], *arguments: object) -> int:
    """What a measurement of memory gives in a fresh process that does nothing else."""
    with processes() as pool:
        return pool.submit(measure, *arguments).result()
