"""A container's or a batch job's bounds count, in both forms that Linux writes them in, and none is none."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from analysis import allowance
from analysis.allowance import bytes_free, cores
from analysis.engines import open_engine
from analysis.run import prepare
from tests.studies import STUDY

GIGA = 10**9


@pytest.fixture
def bounded(tmp_path, monkeypatch):
    """A machine of sixteen cores and 64 GB free whose control groups are the files that are given."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=64 * GIGA))
    monkeypatch.setattr(allowance, "OWN", tmp_path / "own")
    monkeypatch.setattr(allowance, "TREES", tmp_path / "trees")

    def write(own: str, files: dict[str, str]) -> None:
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path: Path = tmp_path / "trees" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")

    return write


def test_without_groups_the_whole_machine_counts(bounded):
    assert (cores(), bytes_free()) == (16, 64 * GIGA)


def test_the_narrowest_group_on_the_way_up_bounds_in_the_newer_form(bounded):
    files = {"job/cpu.max": "600000 100000", "job/step/cpu.max": "max 100000", "memory.max": "max"}
    files |= {"job/memory.max": str(8 * GIGA), "job/memory.current": str(5 * GIGA)}
    files |= {"job/memory.stat": f"anon 1\ninactive_file {2 * GIGA}", "job/step/memory.max": "max"}
    bounded("0::/job/step\n", files | {"job/step/memory.current": "7"})
    assert (cores(), bytes_free()) == (6, 5 * GIGA)


def test_the_older_form_bounds_by_resource(bounded):
    own = "4:memory:/job\n2:cpu,cpuacct:/job\n1:name=systemd:/\n0::/\n"
    files = {"cpu,cpuacct/job/cpu.cfs_quota_us": "250000", "cpu,cpuacct/job/cpu.cfs_period_us": "100000"}
    files |= {"memory/job/memory.limit_in_bytes": str(3 * GIGA), "memory/job/memory.usage_in_bytes": str(GIGA)}
    unlimited = {"memory/memory.limit_in_bytes": str(2**63 - 4096), "memory/memory.usage_in_bytes": str(GIGA)}
    bounded(own, files | unlimited)
    assert (cores(), bytes_free()) == (2, 2 * GIGA)


def test_in_a_container_the_root_that_is_seen_is_its_own(bounded):
    """Its groups are named as the machine has them, and no such folders are seen inside."""
    bounded("0::/docker/4f1c\n", {"cpu.max": "50000 100000", "memory.max": "1000", "memory.current": "4000"})
    assert (cores(), bytes_free()) == (1, 0)


def test_no_quota_is_no_bound(bounded):
    files = {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000", "unified/cpu.max": "max 100000"}
    bounded("1:cpu:/\n0::/\n", files)
    assert cores() == 16


def test_fewer_workers_are_started_than_a_container_has_memory_for(bounded):
    plan, _ = prepare(STUDY)
    bounded("0::/\n", {})
    assert open_engine("local", plan, list(plan.cells)).capacity == 16
    bounded("0::/\n", {"memory.max": str(5 * GIGA), "memory.current": "0"})
    assert 1 <= open_engine("local", plan, list(plan.cells)).capacity < 6
