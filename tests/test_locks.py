"""Locks by files alone: one holder at a time, none lost with its owner, no clock compared with another."""

import subprocess
import sys
import threading
import time

import pytest

from analysis import locks
from analysis.code_keys import ROOT
from analysis.locks import Locks

OWNER = """
import sys, time
from pathlib import Path
from analysis.locks import Locks
with Locks(Path(sys.argv[1])) as mine:
    print(mine.take("cell"), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def foreign(monkeypatch):
    """Nobody can look up whether an owner runs: as between machines."""
    monkeypatch.setattr(locks, "machine", lambda: None)


def test_one_of_many_takes_a_lock(tmp_path):
    drivers = [Locks(tmp_path) for _ in range(20)]
    start, taken = threading.Barrier(20), []

    def run(driver: Locks) -> None:
        with driver:
            start.wait()
            taken.append(driver.take("cell"))
            start.wait()  # nobody leaves, and so gives back, before all have tried

    threads = [threading.Thread(target=run, args=[driver]) for driver in drivers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False] * 19 + [True]


def test_a_lock_given_back_can_be_taken_and_a_finished_one_leaves_nothing(tmp_path):
    with Locks(tmp_path) as first, Locks(tmp_path) as second:
        assert first.take("cell")
        assert not second.take("cell")
        first.give_back("cell")
        assert second.take("cell")
        assert not first.take("cell")
        second.finish("cell")
        assert list(first.folder.iterdir()) == []


def test_names_that_begin_alike_are_two_locks(tmp_path):
    with Locks(tmp_path) as first, Locks(tmp_path) as second:
        assert first.take("opt")
        assert second.take("opt.6")
        second.finish("opt.6")
        assert not second.take("opt")


def test_a_killed_owners_lock_is_free_at_once_on_the_same_machine(tmp_path):
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"True\n"
    with Locks(tmp_path) as mine:
        assert not mine.take("cell")
        owner.kill()
        owner.wait()
        assert mine.take("cell")


def test_elsewhere_a_lock_is_left_behind_only_when_it_stops_changing(tmp_path, foreign, monkeypatch):
    owner = Locks(tmp_path, beat=0.02)
    waiter = Locks(tmp_path, stale=0.3)
    with owner:
        assert owner.take("cell")
        until = time.monotonic() + 0.6
        while time.monotonic() < until:
            # Whatever the wall clock does, now an hour ahead and now an hour behind, means nothing.
            monkeypatch.setattr(time, "time", lambda: 3600.0 * (int(time.monotonic() * 100) % 2))
            assert not waiter.take("cell")
            time.sleep(0.02)
        owner.beat = 3600  # as if it were killed: the heart stops and nothing is given back
        time.sleep(0.1)
        assert not waiter.take("cell")
        time.sleep(0.4)
        with waiter:
            assert waiter.take("cell")


def test_one_of_several_takes_over_what_was_left_behind(tmp_path, foreign):
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "cell.0").write_bytes(b"")
    waiters = [Locks(tmp_path, stale=0.05) for _ in range(8)]
    for waiter in waiters:
        assert not waiter.take("cell")
    time.sleep(0.1)
    assert sum(waiter.take("cell") for waiter in waiters) == 1


def test_who_was_taken_over_leaves_the_lock_to_the_new_holder(tmp_path, foreign):
    """One sleeps past its time, wakes and finishes while another holds its lock."""
    sleeper, holder, third = (Locks(tmp_path, stale=0.05) for _ in range(3))
    (tmp_path / "locks").mkdir()
    assert sleeper.take("run")
    assert not holder.take("run")
    time.sleep(0.1)
    assert holder.take("run")
    sleeper.finish("run")
    assert not third.take("run")
    holder.finish("run")
    assert not list((tmp_path / "locks").iterdir())
    assert third.take("run")
