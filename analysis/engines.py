"""The engines by name, each sized to what there is: cores, memory and GPUs."""

import os
from typing import Literal, get_args

from analysis.allowance import bytes_free
from analysis.cells import Cell, Plan
from analysis.engine import Engine
from analysis.memory import bytes_for, workers_within
from analysis.pool import LocalEngine, workers_for
from analysis.shapes import Shape
from analysis.study import Study
from data.errors import InputError
from probes.models import check_place, outline

EngineName = Literal["local", "ray"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)


def require_engine(name: str, address: str | None) -> None:
    """Refuse what no engine is called, and an address that goes unused.

    Raises:
        InputError: naming it.
    """
    if name not in ENGINES:
        raise InputError(f"engine '{name}': there are {' and '.join(ENGINES)}")
    if address is not None and name != "ray":
        raise InputError(f"address '{address}': only the engine ray has one; add --engine ray")


def require_place(name: str, study: Study) -> None:
    """Refuse a device that this machine lacks, where the workers are its own; of a cluster's machines Ray knows.

    Raises:
        InputError: naming it.
    """
    if name == "local":
        check_place(study.dtype, study.device)


def open_engine(
    name: str, plan: Plan, todo: list[Cell], *, memory: int | None = None, address: str | None = None
) -> Engine:
    """An engine for these cells; `memory` bounds, in bytes, what its workers hold together.

    Raises:
        InputError: not even one cell at a time keeps within the memory.
    """
    study = plan.study
    shape = Shape.of(outline(study.model), study.dtype)
    # Of every cell: one that was finished at the start may turn out damaged, and is computed then.
    needed = {cell.key: bytes_for(cell, shape) for cell in plan.cells}
    largest = max((needed[cell.key] for cell in todo), default=0)
    most = workers_for(study.threads, study.device)
    if name == "ray":
        from analysis.cluster import RayEngine

        workers = None if memory is None else workers_within(memory, todo, shape, len(todo))
        address = address or os.environ.get("RAY_ADDRESS")
        return RayEngine(study.threads, study.device, needed, address, workers, largest)
    if memory is not None:
        return LocalEngine(workers_within(memory, todo, shape, most), study.threads, study.device)
    if study.device == "cpu":
        # Foretold to a factor of two, so that it lowers the number of workers and refuses nothing.
        most = max(1, min(most, bytes_free() // max(1, largest)))
    return LocalEngine(most, study.threads, study.device)
