"""A cluster's machines come and go: a cell waits for room, and no run waits without end or without a word."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

import pytest
from ray.exceptions import NodeDiedError

from analysis import engine as engine_module
from analysis import run
from analysis.cell import Plan
from analysis.cluster import RayEngine
from analysis.engine import UnfinishedError, missing, run_cells
from analysis.engines import open_engine
from analysis.store import Store
from analysis.worker import Job, Outcome, attempt
from data.errors import InputError
from tests.studies import STUDY
from tests.toy_cells import toy, toy_plan
from tests.toy_engine import Threads, begun, silent


class Shrinking(Threads):
    """A cluster that cells with these names fit no more, once as many looks at it are over."""

    lost = (NodeDiedError,)

    def __init__(self, plan: Plan, *names: str, after: int = 0, until: int | None = None) -> None:
        super().__init__(1)
        self.keys = {cell.key for cell in plan.cells if not names or cell.label in names}
        self.after, self.until, self.looks = after, until, 0
        self.queue: list[tuple[Job, Future[Outcome]]] = []

    @property
    def small(self) -> bool:
        return self.looks > self.after and (self.until is None or self.looks <= self.until)

    @property
    def capacity(self) -> int:
        return 0 if self.small else 1

    @capacity.setter
    def capacity(self, told: int) -> None:
        """It is as the looks say."""

    def __enter__(self) -> Self:
        self.pool = ThreadPoolExecutor(1)
        return self

    def homeless(self, keys: Iterable[str]) -> set[str]:
        self.looks += 1
        if not self.small:
            for job, future in self.queue:
                future.set_result(attempt(job))
            self.queue.clear()
        return self.keys & set(keys) if self.small else set()

    def require_room(self, keys: Iterable[str]) -> None:
        if self.homeless(keys):
            raise InputError("no machine has 8.0 GB: let a larger machine join")


class Queueing(Shrinking):
    """One that loses a machine with a cell on it, and keeps the cell queued when it begins again."""

    def submit(self, job: Job) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        if self.small:
            self.queue.append((job, future))
        else:
            self.after = self.looks - 1
            future.set_exception(NodeDiedError("gone"))
        return future


@pytest.fixture
def hasty(monkeypatch):
    """Looks and patience of fractions of a second."""
    monkeypatch.setattr(engine_module, "LOOK", 0.02)
    monkeypatch.setattr(engine_module, "PATIENCE", 0.3)


def test_a_run_without_room_says_so_once_and_ends_in_one_line(tmp_path, log, hasty):
    plan, store = toy_plan(toy("small", log), toy("large", log), toy("huge", log)), Store(tmp_path / "runs")
    notes: list[str] = []
    with pytest.raises(UnfinishedError, match=r"^2 of 3 cells are missing, .*: no machine has 8.0 GB: .* to go on$"):
        run_cells(plan, store, Shrinking(plan, "large", "huge"), silent, notes.append)
    assert len(notes) == 1
    assert "has room for any of the 2 cells that are left" in notes[0]
    assert [cell.label for cell in missing(plan, store)] == ["large", "huge"]
    run_cells(plan, store, Threads(), silent, silent)  # no lock is left behind


def test_a_run_without_room_goes_on_when_a_machine_joins(tmp_path, log, hasty):
    plan, store = toy_plan(toy("one", log), toy("two", log)), Store(tmp_path / "runs")
    notes: list[str] = []
    run_cells(plan, store, Shrinking(plan, until=5), silent, notes.append)
    assert missing(plan, store) == []
    assert len(notes) == 1


@pytest.mark.parametrize("until", [None, 8])
def test_a_cell_queued_for_a_machine_that_died_is_not_waited_for_without_end(tmp_path, log, hasty, until):
    plan, store = toy_plan(toy("one", log)), Store(tmp_path / "runs")
    notes: list[str] = []
    cluster = Queueing(plan, after=9, until=until)
    if until is None:
        with pytest.raises(UnfinishedError, match="1 of 1 cells are missing"):
            run_cells(plan, store, cluster, silent, notes.append)
    else:
        run_cells(plan, store, cluster, silent, notes.append)
        assert missing(plan, store) == []
    assert ["begins again" in note for note in notes] == [True, False]
    assert "has room for any of the 1 cells" in notes[1]


def test_a_run_without_room_takes_what_another_run_finishes(tmp_path, log, hasty, monkeypatch):
    monkeypatch.setattr(engine_module, "PATIENCE", 60.0)  # the other may be slow; this one ends as soon as it is done
    plan, store = toy_plan(toy("one", log, seconds=0.1), toy("two", log)), Store(tmp_path / "runs")
    other = threading.Thread(target=run_cells, args=[plan, store, Threads(1), silent, silent])
    other.start()
    run_cells(plan, store, Shrinking(plan), silent, silent)
    other.join()
    assert begun(log) == {"one": 1, "two": 1}


def test_a_cluster_counts_what_each_of_its_machines_holds(monkeypatch):
    def machine(cores: float, gigabytes: float, alive: bool = True, **more: float) -> dict:
        return {"Alive": alive, "Resources": {"CPU": cores, "memory": gigabytes} | more}

    cluster = RayEngine(2, "cpu", {"small": 1, "large": 4})
    for machines, capacity, homeless in (
        ([machine(4, 8)], 2, set()),
        ([machine(1, 8), machine(1, 8)], 0, {"small", "large"}),
        ([machine(3, 2), machine(3, 3), machine(1, 8)], 2, {"large"}),
        ([machine(4, 2), machine(4, 8, alive=False)], 2, {"large"}),
        ([{"Alive": False, "Resources": {}}], 0, {"small", "large"}),
    ):
        monkeypatch.setattr("ray.nodes", lambda machines=machines: machines)
        assert cluster.capacity == capacity
        assert cluster.homeless(["small", "large"]) == homeless
        if homeless:
            with pytest.raises(InputError, match="no machine of the Ray cluster has 2 cores, 0 GPUs"):
                cluster.require_room(homeless)
    cluster.device = "cuda"
    monkeypatch.setattr("ray.nodes", lambda: [machine(9, 8), machine(9, 2, GPU=3)])
    assert (cluster.capacity, cluster.homeless(["small", "large"])) == (3, {"large"})


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "127.0.0.1:99999", "ray://127.0.0.1:1"])
def test_a_cluster_that_is_not_there_is_one_line(tmp_path, log, address):
    cell = toy("one", log)
    with pytest.raises(InputError, match=f"no Ray cluster can be joined at '{address}'"):
        run_cells(toy_plan(cell), Store(tmp_path / "runs"), RayEngine(1, "cpu", {}, address), silent, silent)
    assert not log.exists()


def machine_of(held: int | None) -> Callable[[], list[dict[str, Any]]]:
    """What Ray says of a cluster of one machine."""
    return lambda: [{"Alive": True, "Resources": {"CPU": 2, "memory": held}}]


def test_a_cluster_can_compute_what_was_finished_at_the_start(tmp_path, monkeypatch):
    """Found damaged on the way, it is handed out like any other; no machine is asked to hold it before."""
    plan, _ = run.prepare(STUDY)
    todo = list(plan.of("drift"))
    engine = open_engine("ray", plan, todo)
    assert isinstance(engine, RayEngine)
    assert set(engine.memory) == {cell.key for cell in plan.cells}
    assert engine.largest == max(engine.memory[cell.key] for cell in todo) < max(engine.memory.values())
    finished = Job.of(plan.of("compressed")[0], Store(tmp_path))
    for held, fits in ((engine.memory[finished.key], True), (engine.largest, False)):
        engine = open_engine("ray", plan, todo)
        assert isinstance(engine, RayEngine)
        engine.task = Placed()
        monkeypatch.setattr("ray.nodes", machine_of(engine.largest))
        engine.require_room([cell.key for cell in todo])
        monkeypatch.setattr("ray.nodes", machine_of(held))
        if fits:
            engine.submit(finished)
            assert engine.task.told == {"memory": engine.memory[finished.key]}
        else:
            with pytest.raises(InputError, match=r"no machine of the Ray cluster has 1 cores, 0 GPUs and"):
                engine.submit(finished)


class Placed:
    """Stands in for a task of Ray's, and keeps what it was placed by."""

    def options(self, **told: int) -> "Placed":
        self.told = told
        return self

    def remote(self, job: Job) -> "Placed":
        return self

    def future(self) -> Future[Outcome]:
        return Future()
