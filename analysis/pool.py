"""Cells on this machine: one process per slot, so that a worker which is killed takes no other cell with it."""

import contextlib
import multiprocessing
import os
import sys
import threading
import types
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Self

from analysis.allowance import cores
from analysis.surroundings import environment
from analysis.worker import Job, Outcome, attempt, telling


def gpus() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    import torch

    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return told.split(",")[:count] if told else [str(place) for place in range(count)]


def workers_for(threads: int, device: str) -> int:
    """As many as the cores hold, or one per GPU; one where the study names a GPU by its number."""
    if device == "cpu":
        return max(1, cores() // threads)
    return max(1, len(gpus())) if device == "cuda" else 1


@dataclass
class Slot:
    """One worker at a time, started when it gets its first cell, and what only it is told."""

    told: dict[str, str]
    executor: ProcessPoolExecutor | None = None
    future: Future[Outcome] | None = None

    @property
    def free(self) -> bool:
        """Whether it has nothing to do."""
        return self.future is None or self.future.done()

    def submit(self, job: Job) -> Future[Outcome]:
        """Hand its worker a cell; a worker that died or may be damaged is replaced before."""
        if self._is_spent():
            self.close()
        try:
            self.future = self._begun(job)
        except BrokenProcessPool:  # killed while it had nothing to do
            self.close()
            self.future = self._begun(job)
        return self.future

    def _begun(self, job: Job) -> Future[Outcome]:
        self.executor = self.executor or processes()
        with without_main(), telling(self.told):
            return self.executor.submit(attempt, job)

    def _is_spent(self) -> bool:
        """Whether the last cell cost the worker its life or left it in an unknown state, out of memory as it may be."""
        if self.future is None:
            return False
        return self.future.exception() is not None or self.future.result().kind == "failed"

    def close(self) -> None:
        """End its worker."""
        if self.executor is not None:
            self.executor.shutdown()
            self.executor = None


@dataclass
class LocalEngine:
    """A pool of processes on this machine, each cell with its own fixed number of threads."""

    workers: int
    threads: int
    device: str = "cpu"
    lost: tuple[type[Exception], ...] = (BrokenProcessPool,)
    slots: list[Slot] = field(default_factory=list)
    """The workers, while the engine is entered."""

    @property
    def capacity(self) -> int:
        """Cells at once."""
        return self.workers

    def homeless(self, keys: Iterable[str]) -> set[str]:
        """None: this machine stays."""
        return set()

    def require_room(self, keys: Iterable[str]) -> None:
        """Refuse nothing: `open_engine` has counted the memory."""

    def __enter__(self) -> Self:
        told = environment(self.threads)
        shared = gpus() if self.device == "cuda" else []
        for place in range(self.workers):
            # With several GPUs each worker sees one, and calls it `cuda`.
            own = {"CUDA_VISIBLE_DEVICES": shared[place % len(shared)]} if shared else {}
            self.slots.append(Slot(told | own))
        return self

    def __exit__(self, *_: object) -> None:
        for slot in self.slots:
            slot.close()
        self.slots.clear()

    def submit(self, job: Job) -> Future[Outcome]:
        """Hand a cell to a free slot."""
        return next(slot for slot in self.slots if slot.free).submit(job)


def processes(count: int = 1) -> ProcessPoolExecutor:
    """Workers that leave with the driver, however that ends."""
    # Spawned, not forked: a forked torch may hang in its thread pool.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, mp_context=context, initializer=_leave_with_driver)


def _leave_with_driver() -> None:
    """End this worker when the process that started it is gone: killed, it can tell nobody to stop.

    One that stayed would compute on beside the next run; what it leaves half done is a draft that counts as nothing.
    """

    def watch() -> None:
        driver = multiprocessing.parent_process()
        assert driver is not None
        driver.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """Hide the program's main module while a worker starts.

    A spawned worker runs the main file again, though it needs nothing from it: a user's script without a guard
    would start the study once more, and a page under test (AppTest takes the place of main) would crash it.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
