"""What an engine owes a run: nothing computed twice, nothing lost with a worker, no failure that takes others along."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import Future
from pathlib import Path

import pytest
from ray.exceptions import LocalRayletDiedError, OutOfDiskError, RaySystemError, RuntimeEnvSetupError

from analysis.cluster import RayEngine
from analysis.code_keys import ROOT
from analysis.engine import UnfinishedError, missing, run_cells
from analysis.locks import Locks
from analysis.pool import LocalEngine, Slot, workers_for
from analysis.store import Store
from analysis.surroundings import environment
from analysis.worker import Job, Outcome
from data.errors import InputError
from tests.toy_cells import toy, toy_plan
from tests.toy_engine import Threads, begun, silent

DRIVER = """
import os, time
from analysis.pool import processes

if __name__ == "__main__":
    with processes() as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600).result()
"""


def grid(log: Path, **told) -> list:
    """Six roots, twelve cells that read two of them each, and one that reads all of those."""
    roots = [toy(f"root{place}", log, **told) for place in range(6)]
    middle = [toy(f"middle{place}", log, roots[place % 6], roots[(place + 1) % 6], **told) for place in range(12)]
    return [*roots, *middle, toy("last", log, *middle, **told)]


def test_every_cell_is_computed_once_after_what_it_reads(tmp_path, log):
    store, plan, seen = Store(tmp_path / "runs"), toy_plan(*grid(log)), []
    run_cells(plan, store, Threads(), lambda cell, seconds: seen.append(cell.label), silent)
    assert missing(plan, store) == []
    assert set(begun(log).values()) == {1}
    assert sorted(seen) == sorted(cell.label for cell in plan.cells)
    assert seen.index("root0") < seen.index("middle0") < seen.index("last")
    assert (store.folder(plan.cells[-1].key) / "value.txt").read_text().split()[0] == "37"
    assert list(Locks(store.root).folder.iterdir()) == []


def test_two_runs_on_one_folder_share_the_work(tmp_path, log):
    plan = toy_plan(*grid(log, seconds=0.05))
    notes: list[str] = []
    finished: list[str] = []

    def drive() -> None:
        store = Store(tmp_path / "runs")
        run_cells(plan, store, Threads(2), lambda cell, seconds: finished.append(cell.label), notes.append)

    drivers = [threading.Thread(target=drive) for _ in range(3)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert set(begun(log).values()) == {1}
    assert Counter(finished) == dict.fromkeys((cell.label for cell in plan.cells), 3)
    assert any("another run" in note for note in notes)


@pytest.mark.parametrize("end", ["error", "memory"])
def test_a_cell_that_fails_takes_with_it_only_what_needs_it(tmp_path, log, end):
    bad = toy("bad", log, end=end)
    cells = [bad, toy("after", log, bad), toy("good", log), toy("also", log)]
    store, plan = Store(tmp_path / "runs"), toy_plan(*cells)
    with pytest.raises(UnfinishedError, match=r"2 of 4 cells are missing: 'bad' \(.*\), and 1 that need them"):
        run_cells(plan, store, Threads(1), silent, silent)
    assert [cell.label for cell in missing(plan, store)] == ["bad", "after"]
    assert "Traceback" in store.failure(bad.key).read_text()
    # A second run tries it again: what failed is not locked.
    with pytest.raises(UnfinishedError):
        run_cells(plan, store, Threads(1), silent, silent)
    assert begun(log) == {"bad": 2, "good": 1, "also": 1}


def test_a_mistake_in_the_study_stops_the_run_and_is_not_tried_again(tmp_path, log):
    store = Store(tmp_path / "runs")
    plan = toy_plan(toy("wrong", log, end="input"), *(toy(f"later{place}", log) for place in range(5)))
    with pytest.raises(InputError, match="wrong: the study is wrong"):
        run_cells(plan, store, Threads(1), silent, silent)
    assert begun(log)["wrong"] == 1
    assert len(missing(plan, store)) >= 5


def test_a_cell_that_another_one_finds_damaged_is_computed_anew_first(tmp_path, log):
    root = toy("root", log)
    store, plan = Store(tmp_path / "runs"), toy_plan(root, toy("next", log, root))
    run_cells(toy_plan(root), store, Threads(), silent, silent)
    whole = (store.folder(root.key) / "value.txt").read_bytes()
    (store.folder(root.key) / "value.txt").write_text("7 " * 10 + "\n")
    notes: list[str] = []
    run_cells(plan, store, Threads(), silent, notes.append)
    assert begun(log)["root"] == 2
    assert notes == ["'next': 'root', which it reads, is damaged; that is computed anew"]
    assert (store.folder(root.key) / "value.txt").read_bytes() == whole
    assert (store.folder(plan.cells[1].key) / "value.txt").read_text().split()[0] == "2"


def test_drafts_of_killed_writers_are_cleared(tmp_path, log):
    cell = toy("one", log)
    store = Store(tmp_path / "runs")
    (store.cells / f".{cell.key}.dead").mkdir(parents=True)
    run_cells(toy_plan(cell), store, Threads(), silent, silent)
    assert [path.name for path in store.cells.iterdir()] == [cell.key]


class Raising(Threads):
    """An engine that itself goes wrong at one cell, as a cluster may: what comes back is no outcome."""

    def __init__(self, name: str, *errors: Exception) -> None:
        super().__init__(1)
        self.name, self.errors = name, list(errors)

    def submit(self, job: Job) -> Future[Outcome]:
        if job.fields["name"] != self.name or not self.errors:
            return super().submit(job)
        future: Future[Outcome] = Future()
        future.set_exception(self.errors.pop(0))
        return future


def test_what_an_engine_raises_fails_its_cell_and_no_other(tmp_path, log):
    plan, store = toy_plan(*grid(log)), Store(tmp_path / "runs")
    with pytest.raises(UnfinishedError, match=r"'root0' \(RuntimeEnvSetupError: .*no such environment"):
        run_cells(plan, store, Raising("root0", RuntimeEnvSetupError("no such environment")), silent, silent)
    assert {cell.label for cell in missing(plan, store)} == {
        "root0",
        "middle0",
        "middle5",
        "middle6",
        "middle11",
        "last",
    }
    key = plan.cells[0].key
    assert "no such environment" in store.failure(key).read_text()
    run_cells(plan, store, Threads(), silent, silent)
    assert missing(plan, store) == []


@pytest.mark.parametrize("error", [LocalRayletDiedError(), RaySystemError("down"), OutOfDiskError("full")])
def test_a_cell_that_a_cluster_could_not_serve_begins_again(error, tmp_path, log):
    engine = Raising("one", error)
    engine.lost = RayEngine(1, "cpu", {}).lost
    notes: list[str] = []
    run_cells(toy_plan(toy("one", log)), Store(tmp_path / "runs"), engine, silent, notes.append)
    assert len(notes) == 1
    assert f"its worker was lost ({type(error).__name__}" in notes[0]


def test_a_cell_that_could_not_be_handed_out_begins_again_and_is_given_up_in_the_end(tmp_path, log):
    class Deaf(Threads):
        """Hands out nothing while there are errors left."""

        lost = (RaySystemError,)
        errors = 2

        def submit(self, job: Job) -> Future[Outcome]:
            self.errors -= 1
            if self.errors >= 0:
                raise RaySystemError("down")
            return super().submit(job)

    notes: list[str] = []
    run_cells(toy_plan(toy("one", log)), Store(tmp_path / "runs"), Deaf(), silent, notes.append)
    assert len(notes) == 2
    assert "it could not be handed out (RaySystemError)" in notes[0]
    deaf = Deaf()
    deaf.errors = 9
    with pytest.raises(UnfinishedError, match=r"'two' \(it could not be handed out .*, 3 times\)"):
        run_cells(toy_plan(toy("two", log)), Store(tmp_path / "others"), deaf, silent, silent)


def test_killed_workers_cells_begin_again_and_one_that_always_kills_is_given_up(tmp_path, log):
    """In real processes: the kernel ends them as it does when memory runs out."""
    deadly = toy("deadly", log, end="killed")
    cells = [deadly, toy("after", log, deadly), toy("unlucky", log, end="killed once")]
    cells += [toy(f"good{place}", log) for place in range(3)]
    store, plan = Store(tmp_path / "runs"), toy_plan(*cells)
    notes: list[str] = []
    with pytest.raises(UnfinishedError, match=r"2 of 6 cells are missing: 'deadly' \(its worker was lost"):
        run_cells(plan, store, LocalEngine(2, 1), silent, notes.append)
    assert begun(log) == {"deadly": 3, "unlucky": 2, "good0": 1, "good1": 1, "good2": 1}
    assert sum("begins again" in note for note in notes) == 3


def test_a_disk_that_is_full_stops_the_run_with_one_sentence(tmp_path, log):
    store = Store(tmp_path / "runs")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    plan = toy_plan(toy("large", log, values=100_000), toy("small", log))
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(InputError, match=r"large: '.*runs' cannot be written to \(File too large\)"):
            run_cells(plan, store, Threads(1), silent, silent)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [path for path in store.cells.iterdir() if path.name.startswith(".")]
    run_cells(plan, store, Threads(1), silent, silent)
    assert missing(plan, store) == []


def test_every_worker_has_its_threads_and_one_order_of_sets_and_draws_no_bars(tmp_path, log, monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "2")
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    store, cells = Store(tmp_path / "runs"), [toy(name, log, tells=True) for name in ("one", "two")]
    with LocalEngine(2, 1) as engine:
        done = [engine.submit(Job.of(cell, store)) for cell in cells]
        assert [future.result().kind for future in done] == ["done", "done"]
    first, second = (json.loads((store.folder(cell.key) / "process.json").read_text()) for cell in cells)
    assert first == second == {"threads": [1], "hash": first["hash"], "bars": False}


def test_each_gpu_has_a_worker_of_its_own(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert workers_for(1, "cuda") == 2
    assert workers_for(1, "cuda:1") == 1
    assert workers_for(1, "auto") == 1
    with LocalEngine(2, 1, "cuda") as engine:
        assert [slot.told["CUDA_VISIBLE_DEVICES"] for slot in engine.slots] == ["4", "6"]


def test_a_worker_that_died_while_it_had_nothing_to_do_is_replaced(tmp_path, log):
    store, slot = Store(tmp_path / "runs"), Slot(environment(1))
    slot.submit(Job.of(toy("first", log), store)).result()
    assert slot.executor is not None
    (worker,) = slot.executor._processes
    os.kill(worker, signal.SIGKILL)
    time.sleep(0.5)
    assert slot.submit(Job.of(toy("second", log), store)).result().kind == "done"
    slot.close()


def test_a_killed_drivers_workers_leave_in_the_middle_of_their_work(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    here = os.environ | {"PYTHONPATH": str(ROOT)}
    driver = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=here)
    assert driver.stdout is not None
    worker = int(driver.stdout.readline())
    os.kill(worker, 0)  # it is there
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    for _ in range(100):
        if not _running(worker):
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    raise AssertionError("the worker went on without its driver")


def _running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # A worker that ended without a parent to collect it is a zombie until init does.
    with open(f"/proc/{process}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
