"""What a worker does, whichever engine started it: compute one cell into the store and tell how it went."""

import contextlib
import gc
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from analysis.cell import Cell, computed_with
from analysis.peak import PeakMemory
from analysis.store import Store, no_room, storage_fault, write_atomically
from analysis.surroundings import settle
from data.errors import InputError

COST = "cost.json"
OPENING = "analysis.opening"
"""What opens models and knows which were used; a cell that opens none never imports it."""


@dataclass(frozen=True)
class Job:
    """One cell as plain values, which any process on any machine can be handed."""

    module: str
    """Whose `work` computes it."""
    key: str
    fields: dict[str, Any]
    needs: dict[str, str]
    """Keys of the cells it reads, by role."""
    description: dict[str, Any]
    root: str
    """The runs folder, the same on every machine."""
    here: str
    """The driver's working folder, which relative paths of a study start from."""

    @classmethod
    def of(cls, cell: Cell, store: Store) -> "Job":
        """The job of a cell."""
        needs = {role: need.key for role, need in cell.needs.items()}
        return cls(
            cell.module, cell.key, cell.fields, needs, cell.description, str(store.root.absolute()), str(Path.cwd())
        )


@dataclass(frozen=True)
class Outcome:
    """How a cell ended where its worker did not."""

    kind: Literal["done", "input", "damaged", "failed"]
    """`input`: the user can mend it, so the run stops; `damaged`: so is a cell it reads; `failed`: anything else."""
    seconds: float = 0.0
    said: str = ""
    trace: str = ""


class DamagedNeedError(RuntimeError):
    """A cell that another one reads is not what was written; its only argument is the key."""


@contextlib.contextmanager
def telling(told: dict[str, str]) -> Iterator[None]:
    """Set environment variables, for processes that start meanwhile."""
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def compute(job: Job) -> float:
    """Compute one cell into the store with its seconds and peak memory; returns the seconds.

    Raises:
        InputError: what the user can mend.
        DamagedNeedError: a cell that it reads has to be computed anew first.
    """
    # Read by tqdm when it is imported; set here too for the one who computes in his own process.
    os.environ["TQDM_DISABLE"] = "1"
    settle(job.fields["threads"])
    store = Store(Path(job.root))
    for key in job.needs.values():
        if store.damage(key):
            raise DamagedNeedError(key)
    started = time.perf_counter()
    module = importlib.import_module(job.module)
    _pass_libraries_over()
    if opening := sys.modules.get(OPENING):
        opening.begin()
    with store.writing(job.key, job.description) as folder:
        with PeakMemory() as peak:
            module.work(job.fields, {role: store.folder(need) for role, need in job.needs.items()}, folder)
            _require_unchanged()
        seconds = time.perf_counter() - started
        write_atomically(folder / COST, json.dumps({"seconds": round(seconds, 3), "peak_bytes": peak.total}) + "\n")
    return seconds


def _require_unchanged() -> None:
    """Refuse to keep what was computed with weights that were changed on the way.

    Raises:
        ChangedWeightsError: they were.
    """
    # A cell that opens no model never imports what opens them, and need not wait for it now.
    if opening := sys.modules.get(OPENING):
        opening.require_unchanged()


@cache
def _pass_libraries_over() -> None:
    """Let no later search for garbage look at what was imported: half a million objects, a quarter second a cell.

    Once in a process, before it opens a model: what is passed over is never given back.
    """
    gc.collect()
    gc.freeze()


def attempt(job: Job) -> Outcome:
    """Compute one cell in a worker; whatever happens is told, never raised, so that every engine hears the same."""
    try:
        _stand_where_told(job)
        return Outcome("done", seconds=compute(job))
    except InputError as error:
        return Outcome("input", said=str(error))
    except DamagedNeedError as error:
        return Outcome("damaged", said=str(error))
    except Exception as error:
        if fault := storage_fault(error, Path(job.root)):
            return Outcome("input", said=no_room(Path(job.root), fault))
        return failed(error)


def failed(error: Exception) -> Outcome:
    """How a cell ended that raised this: in a line, and in full for whoever wants to know more."""
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return Outcome("failed", said=said[:300], trace="".join(traceback.format_exception(error)))


def _stand_where_told(job: Job) -> None:
    """Go to the driver's working folder and make sure that this is the code and the libraries that the key names.

    Raises:
        InputError: this machine lacks the folder, or has other code or versions.
    """
    if not Path(job.here).is_dir():
        raise InputError(f"a worker's machine has no folder '{job.here}': share it, or start the study from one it has")
    os.chdir(job.here)
    for name, value in computed_with(job.module, job.fields).items():
        if job.description[name] != value:
            raise InputError(f"a worker's machine has other {name} than this one: set both up from one checkout")
