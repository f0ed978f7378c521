"""Cells that open no model: each adds one to what it needs, after whatever is asked of it."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from analysis.cell import Cell, Plan
from data.errors import InputError


class ToyCell(Cell):
    """A cell computed by this module."""

    @property
    def module(self) -> str:
        return "tests.toy_cells"


def toy(name: str, log: Path, *needs: Cell, **told: Any) -> Cell:
    """A cell that writes its name into the log whenever it is begun.

    `seconds` it takes, `burn` as many rounds of arithmetic, and `end`: how it goes wrong, if it does. One that `tells`
    says what its process is.
    """
    fields = {
        "name": name,
        "log": str(log),
        "threads": 1,
        "seconds": 0.0,
        "burn": 0,
        "end": "",
        "values": 10,
        "tells": False,
    } | told
    return ToyCell("tuned", name, fields, {str(place): need for place, need in enumerate(needs)})


def toy_plan(*cells: Cell) -> Plan:
    """A plan of these cells and no study."""
    return Plan(None, cells)  # type: ignore[arg-type]


def work(fields: dict[str, Any], needs: dict[str, Path], folder: Path) -> None:
    """Sleep, burn, go wrong or write a number."""
    log = Path(fields["log"])
    with log.open("a") as file:
        file.write(f"{fields['name']}\n")
    time.sleep(fields["seconds"])
    burn_rounds(fields["burn"])
    _end(fields["end"], log.with_suffix(f".{fields['name']}"))
    if fields["tells"]:
        (folder / "process.json").write_text(json.dumps(process_here()))
    value = 1 + sum(int((path / "value.txt").read_text().split()[0]) for path in needs.values())
    (folder / "value.txt").write_text(f"{value} " * fields["values"] + "\n")


def process_here() -> dict[str, Any]:
    """Threads of linear algebra, a hash that orders sets, and whether progress bars are drawn."""
    import numpy as np
    from threadpoolctl import threadpool_info
    from tqdm import tqdm

    np.ones((2, 2)) @ np.ones((2, 2))
    threads = sorted({pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"})
    return {"threads": threads, "hash": hash("palimpsest"), "bars": not tqdm([]).disable}


def burn_rounds(rounds: int) -> None:
    """Keep one core busy as a cell does: in torch, outside the interpreter's lock."""
    import torch

    numbers = torch.full((256, 256), 1 / 256)
    for _ in range(rounds):
        numbers = numbers @ numbers


def _end(how: str, marker: Path) -> None:
    if how == "input":
        raise InputError("the study is wrong")
    if how == "error":
        raise ValueError("a defect")
    if how == "memory":
        raise MemoryError
    if how == "killed" or (how == "killed once" and not marker.exists()):
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
