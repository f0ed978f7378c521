"""Run the cells of a plan on this machine: a pool of processes, each cell with its own fixed number of threads.

Results do not depend on how many workers there are: a cell reads nothing but its own description and the folders
of the cells it needs, and computes with `threads` threads whatever the machine offers.
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from analysis.cells import Cell, Plan
from analysis.peak import PeakMemory
from analysis.store import Store, write_atomically
from data.errors import InputError

COST = "cost.json"
Report = Callable[[Cell, float], None]
"""Told of each finished cell and its seconds."""


def workers_for(threads: int, device: str) -> int:
    """As many as the cores hold; one where all share a GPU."""
    if device != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


def missing(plan: Plan, store: Store) -> list[Cell]:
    """Cells that are not in the store yet, each after what it needs."""
    return [cell for cell in plan.cells if not store.done(cell.key)]


def compute(
    kind: str, key: str, fields: dict[str, Any], needs: dict[str, str], root: str, description: dict[str, Any]
) -> float:
    """Compute one cell into the store with its seconds and peak memory; returns the seconds. Runs inside a worker.

    Raises:
        InputError: what the user can mend, naming the cell's work.
    """
    # Read by tqdm when it is imported: the libraries' own bars would overwrite the run's.
    os.environ["TQDM_DISABLE"] = "1"
    import torch

    torch.set_num_threads(fields["threads"])
    torch.use_deterministic_algorithms(True, warn_only=False)
    store = Store(Path(root))
    started = time.perf_counter()
    module = importlib.import_module(f"analysis.work_{kind}")
    with store.writing(key, description) as folder:
        with PeakMemory() as peak:
            module.work(fields, {role: store.folder(need) for role, need in needs.items()}, folder)
        seconds = time.perf_counter() - started
        write_atomically(folder / COST, json.dumps({"seconds": round(seconds, 3), "peak_bytes": peak.total}) + "\n")
    return seconds


def run_cells(plan: Plan, store: Store, workers: int, report: Report) -> None:
    """Compute every missing cell, as soon as what it needs is there.

    The first error stops the run after the cells under way; what is finished stays.
    """
    waiting = missing(plan, store)
    if not waiting:
        return
    count = min(workers, len(waiting))
    with _without_main(), _environment(plan.study.threads), _pool(count) as pool:
        running: dict[Future[float], Cell] = {}
        try:
            while waiting or running:
                _submit_ready(pool, store, waiting, running, workers)
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    cell = running.pop(future)
                    try:
                        report(cell, future.result())
                    except InputError as error:
                        raise InputError(f"{cell.label}: {error}") from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _pool(count: int) -> ProcessPoolExecutor:
    """Workers that leave with the driver, however it ends."""
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
def _environment(count: int) -> Iterator[None]:
    """Tell workers that start now what libraries read when they are imported: threads of linear algebra, and silence.

    Unless told so, every worker takes every core, and they wait for each other: the demo took twice as long.
    """
    told = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(count))
    # Advice about settings that are as they should be would tear the progress bar; errors still come through.
    told |= {"TRANSFORMERS_VERBOSITY": os.environ.get("TRANSFORMERS_VERBOSITY", "error")}
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hide the program's main module while workers start.

    A spawned worker runs the main file again, though it needs nothing from it: a user's script without a guard
    would start the study once more, and a page under test (AppTest takes the place of main) would crash it.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _submit_ready(
    pool: ProcessPoolExecutor,
    store: Store,
    waiting: list[Cell],
    running: dict[Future[float], Cell],
    workers: int,
) -> None:
    """Hand out cells whose needs are finished, no more than there are workers, and forget them as waiting.

    Cells of one compressed copy are handed out together, since a worker keeps the copy it has open.
    """
    for cell in list(waiting):
        if len(running) >= workers:
            return
        if all(store.done(need.key) for need in cell.needs.values()):
            needs = {role: need.key for role, need in cell.needs.items()}
            future = pool.submit(compute, cell.kind, cell.key, cell.fields, needs, str(store.root), cell.description)
            running[future] = cell
            waiting.remove(cell)
