"""The most memory a process holds while it does something, and giving back what it holds and does not use."""

import ctypes
import gc
from pathlib import Path
from types import TracebackType
from typing import Self

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


class PeakMemory:
    """Measures the most memory the process holds between entering and leaving.

    `total` is the whole, `beyond` what it did not hold before; None where the system does not say (they are read
    from Linux's /proc; the allocator is trimmed first).
    """

    total: int | None = None
    beyond: int | None = None

    def __enter__(self) -> Self:
        gc.collect()
        self._before: int | None = None
        if _CLEAR.exists():
            give_back()
            _CLEAR.write_text(_RESET_PEAK)
            self._before = status_bytes("VmRSS")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            self.total = status_bytes("VmHWM")
            self.beyond = self.total - self._before


def give_back() -> None:
    """Return to the system what the C library holds free, where it can (glibc's `malloc_trim`).

    torch asks for aligned memory, and glibc often does not take such a piece again once it is freed: passes that need
    the same every time make a process grow. On SmolLM2-135M, 1 x 256 tokens, this takes 9 ms, a pass some 600.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def status_bytes(name: str) -> int:
    """A figure of this process as Linux's /proc tells it, such as `VmRSS`."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
