"""An engine without processes, and who is told what it does."""

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from analysis.worker import Job, Outcome, attempt


class Threads:
    """An engine without processes: the same scheduling in no time."""

    lost: tuple[type[Exception], ...] = ()

    def __init__(self, capacity: int = 4) -> None:
        self.capacity = capacity

    def __enter__(self) -> Self:
        self.pool = ThreadPoolExecutor(self.capacity)
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown()

    def homeless(self, keys: Iterable[str]) -> set[str]:
        return set()

    def require_room(self, keys: Iterable[str]) -> None:
        """Threads fit everywhere."""

    def submit(self, job: Job) -> Future[Outcome]:
        return self.pool.submit(attempt, job)


def begun(log: Path) -> Counter[str]:
    return Counter(log.read_text().split())


def silent(*_: object) -> None:
    """Report to nobody."""
