"""Cells as Ray tasks, on a cluster of this machine alone or on one that is there already; results in a shared folder.

Every task declares its cores, its GPU and its memory, so that Ray starts it where it fits. Retries are the run's own
(`analysis/engine.py`), the same as on one machine: Ray is told to make none.
"""

import logging
import os
import socket
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Self

from analysis.allowance import cores
from analysis.code_keys import ROOT
from analysis.surroundings import environment
from analysis.worker import Job, Outcome, attempt, telling
from data.errors import InputError

OBJECTS = 100_000_000
"""Bytes of Ray's store for objects: results go to the shared folder, so that it holds next to nothing."""
NOT_SHIPPED = [".git", ".venv", "runs", "docs", "tests", "benchmarks", ".hypothesis", ".mypy_cache", ".ruff_cache"]
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
"""Ray tells its makers nothing."""


@dataclass
class RayEngine:
    """Ray tasks; `address` is a cluster's, or None for one of this machine that lasts as long as the run."""

    threads: int
    device: str
    memory: Mapping[str, int]
    """Foretold bytes of each cell by its key, of those too that are finished: damaged, they are computed anew."""
    address: str | None = None
    workers: int | None = None
    """Tasks at once; as many as the cluster holds unless told."""
    largest: int | None = None
    """Foretold bytes of the largest cell that is to be computed; the largest of all unless told."""
    _joined: bool = False
    _held: int = 0
    """Bytes of the largest cell that some machine is known to hold."""
    _options: dict[str, Any] = field(default_factory=dict)
    task: Any = None
    """What Ray runs for a cell, made when the engine is entered."""

    @property
    def lost(self) -> tuple[type[Exception], ...]:
        """What a task raises whose worker or machine is gone, or that Ray could not serve: begun again, it may be."""
        from ray import exceptions

        return (
            exceptions.WorkerCrashedError,
            exceptions.OutOfMemoryError,
            exceptions.NodeDiedError,
            exceptions.ObjectLostError,
            exceptions.LocalRayletDiedError,
            exceptions.RaySystemError,
            exceptions.OutOfDiskError,
        )

    @property
    def capacity(self) -> int:
        """Tasks that the machines of the cluster hold now; they may join and leave."""
        fit = sum(map(self._fit, _machines()))
        return fit if self.workers is None else min(fit, self.workers)

    def homeless(self, keys: Iterable[str]) -> set[str]:
        """Of these cells those that fit no machine that is there now: Ray would keep them queued."""
        most = self._most
        return {key for key in keys if self.memory[key] > most}

    def require_room(self, keys: Iterable[str]) -> None:
        """Refuse cells that fit no machine that is there now.

        Raises:
            InputError: what the largest of them needs.
        """
        self._require_room(max((self.memory[key] for key in keys), default=0))

    @property
    def _most(self) -> float:
        """Bytes of the largest cell that a machine holds that is there now; below 0 where none has cores and GPUs."""
        return max((there.get("memory", 0) for there in _machines() if self._fit(there)), default=-1)

    def _fit(self, there: Mapping[str, float]) -> int:
        """Tasks that a machine has cores and GPUs for."""
        fit = int(there.get("CPU", 0)) // self.threads
        return min(fit, int(there.get("GPU", 0))) if self._gpus else fit

    @property
    def _gpus(self) -> int:
        return 0 if self.device == "cpu" else 1

    def __enter__(self) -> Self:
        """Join the cluster, or start one.

        Raises:
            InputError: there is none at the address, or no machine of it can ever hold a cell of this study.
        """
        if self._gpus and self.device != "cuda":
            raise InputError(f"device '{self.device}': Ray hands out the GPUs; write `device: cuda` with --engine ray")
        with telling(QUIET):
            import ray

            told: dict[str, Any] = {"env_vars": environment(self.threads)}
            self._joined = ray.is_initialized()  # a notebook's own cluster is used and left as it is
            if not self._joined:
                self._start(ray)
            if self.address is None:
                places = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
                told["env_vars"]["PYTHONPATH"] = os.pathsep.join(places)
        self.task = ray.remote(attempt)
        self._options = {"num_cpus": self.threads, "num_gpus": self._gpus, "max_retries": 0, "runtime_env": told}
        try:
            self._require_room(max(self.memory.values(), default=0) if self.largest is None else self.largest)
        except InputError:
            self.__exit__()
            raise
        return self

    def _start(self, ray: Any) -> None:
        common = {"log_to_driver": False, "logging_level": logging.CRITICAL, "include_dashboard": None}
        if self.address is None:
            own = {"num_cpus": cores(), "object_store_memory": OBJECTS}
            ray.init(address="local", **(common | own | {"include_dashboard": False}))
            return
        _require_answer(self.address)
        # Other machines get this very checkout, so that they cannot compute with other code.
        shipped = {"working_dir": str(ROOT), "excludes": NOT_SHIPPED}
        try:
            ray.init(address=self.address, runtime_env=shipped, **common)
        except (ConnectionError, ValueError, RuntimeError) as error:
            said = " ".join(str(error).split())[:200]
            raise InputError(f"no Ray cluster can be joined at '{self.address}' ({said})") from None

    def _require_room(self, most: int) -> None:
        """Ray would wait for ever for a machine that can hold a cell of so many bytes."""
        if most <= self._most:
            self._held = max(self._held, most)
            return
        raise InputError(
            f"no machine of the Ray cluster has {self.threads} cores, {self._gpus} GPUs and {most / 1e9:.1f} GB, which "
            "a cell needs: lower threads, batches or samples, or let a larger machine join"
        )

    def __exit__(self, *_: object) -> None:
        import ray

        if not self._joined:
            ray.shutdown()

    def submit(self, job: Job) -> Future[Outcome]:
        """Start a task.

        Raises:
            InputError: no machine holds it: a finished cell that is damaged may be larger than any that was missing.
        """
        if self.memory[job.key] > self._held:
            self._require_room(self.memory[job.key])
        placed = self.task.options(memory=self.memory[job.key], **self._options)
        future: Future[Outcome] = placed.remote(job).future()
        return future


def _machines() -> list[Mapping[str, float]]:
    """What each machine of the cluster has that is there now: cores, GPUs and bytes by Ray's names."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _require_answer(address: str) -> None:
    """Ask the address for an answer: Ray itself tries for minutes, and then ends the process.

    Raises:
        InputError: nobody is there.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    try:
        if not colon or not port.isdigit():
            raise OSError("write HOST:PORT")
        with socket.create_connection((host, int(port)), timeout=10):
            pass
    except (OSError, OverflowError) as error:
        raise InputError(f"no Ray cluster can be joined at '{address}' ({error})") from None
