"""What an engine costs: overhead on cells of ten seconds, scaling over workers, cold and warm start.

Cells burn a fixed amount of arithmetic in torch on one thread, so that their own seconds can be told from the
engine's. Overhead is the workers' time until the last of them begins, in units of what cells took of it: the rest is
what passes between one cell and the next. A start is cold for the first cell of a run, when processes start and
import torch, and warm for the next.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from analysis.allowance import cores
from analysis.cell import Cell
from analysis.cluster import RayEngine
from analysis.engine import Engine, run_cells
from analysis.pool import LocalEngine
from analysis.store import Store
from benchmarks.measure import Ratio
from tests.toy_cells import burn_rounds, toy, toy_plan

SECONDS = 10.0
"""Of one cell, about."""
EACH = 2
"""Cells per worker."""
OVERHEAD_TARGET = 1.05
ENGINES = ("local", "ray")


def rounds_for(seconds: float) -> int:
    """How much arithmetic takes this long here on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        burn_rounds(100)
        started = time.perf_counter()
        burn_rounds(1000)
        return int(1000 * seconds / (time.perf_counter() - started))
    finally:
        torch.set_num_threads(threads)


def engine_of(name: str, workers: int, cells: list[Cell]) -> Engine:
    """An engine with this many workers of one thread."""
    if name == "ray":
        return RayEngine(1, "cpu", dict.fromkeys((cell.key for cell in cells), 500_000_000), workers=workers)
    return LocalEngine(workers, 1)


def timed(name: str, workers: int, burn: int) -> dict[str, float]:
    """Seconds of one run: until the first cell, until a second small one, and of the long cells."""
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        first = [toy(f"first{place}", log) for place in range(workers)]
        second = [toy(f"second{place}", log, *first) for place in range(workers)]
        long = [toy(f"long{place}", log, *second, burn=burn) for place in range(EACH * workers)]
        ended: dict[str, float] = {}
        own: dict[str, float] = {}

        def report(cell: Cell, seconds: float) -> None:
            ended[cell.label], own[cell.label] = time.perf_counter(), seconds

        cells = [*first, *second, *long]
        started = time.perf_counter()
        run_cells(toy_plan(*cells), Store(Path(folder) / "runs"), engine_of(name, workers, cells), report, print)
        warm = max(ended[cell.label] for cell in second)
        begun = {cell.label: ended[cell.label] - own[cell.label] for cell in long}
        last = max(begun.values())
        return {
            "cold": max(ended[cell.label] for cell in first) - started,
            "warm": warm - max(ended[cell.label] for cell in first),
            "long": max(ended[cell.label] for cell in long) - warm,
            "own": sum(own[cell.label] for cell in long) / len(long),
            "overhead": workers * (last - warm) / sum(min(ended[name], last) - begun[name] for name in begun),
        }


def engine_ratios(rounds: int) -> dict[str, Ratio]:
    """Overhead, scaling and starts of both engines; one run each, whatever the rounds: its cells are long."""
    burn, most = rounds_for(SECONDS), cores()
    found = {}
    for name in ENGINES:
        one, all_ = timed(name, 1, burn), timed(name, most, burn)
        for workers, told in ((1, one), (most, all_)):
            found[f"engine/{name}/overhead, {workers} workers"] = Ratio(
                told["overhead"], OVERHEAD_TARGET, "time", f"the {told['own']:.0f} s that a cell takes"
            )
        # The cells themselves take longer where cores share memory and cache; that is the machine's.
        found[f"engine/{name}/speed, {most} workers"] = Ratio(
            one["long"] * most / all_["long"], None, "cells a second", "one worker"
        )
        found[f"engine/{name}/cold start"] = Ratio(one["cold"], None, "seconds", "the first cell, imports and all")
        found[f"engine/{name}/warm start"] = Ratio(one["warm"], None, "seconds", "the next small cell")
    return found
