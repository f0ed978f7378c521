"""What no finished run needs is freed, and nothing else: planted folders, held locks, runs that share cells."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from analysis.__main__ import app
from analysis.locks import FREEING, Locks, under_way
from analysis.run_files import sealed
from analysis.store import SCHEMA, Store, content_key
from analysis.waste import Waste, find_waste, free_waste, size
from data.errors import InputError

ROOT = Path(__file__).parent.parent


@pytest.fixture
def store(tmp_path):
    """Six cells, of which `first` names two and `second` another and one of the two."""
    found = Store(tmp_path)
    keys = [plant(found, place) for place in range(6)]
    finished(tmp_path, "first", keys[:2])
    finished(tmp_path, "second", keys[1:3])
    return found


def plant(store, place):
    """A cell of a hundred bytes and its description."""
    description = {"kind": "test", "place": place}
    key = content_key(description)
    with store.writing(key, description) as folder:
        (folder / "numbers.bin").write_bytes(bytes(100))
    return key


def key_of(place):
    return content_key({"kind": "test", "place": place})


def finished(root, name, cells, schema=SCHEMA):
    folder = root / name
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(sealed({"schema": schema, "cells": cells})))
    return folder


def cells_of(store):
    return {path.name for path in store.cells.iterdir()}


def quiet(found):
    """Hear what was found and say nothing."""


def test_cells_that_no_finished_run_names_are_freed_and_all_others_kept(store):
    named = {key_of(place) for place in (0, 1, 2)}
    before = sum(path.stat().st_size for path in store.cells.rglob("*") if path.is_file())
    found: list[Waste] = []
    free_waste(store.root, found.append)
    after = sum(path.stat().st_size for path in store.cells.rglob("*") if path.is_file())
    assert cells_of(store) == named
    assert found[0].cells == tuple(sorted(key_of(place) for place in (3, 4, 5)))
    assert found[0].bytes == before - after > 300
    assert (found[0].kept, found[0].runs) == (3, 2)
    assert all(store.damage(key) is None for key in named)
    assert find_waste(store.root).cells == ()


def test_how_much_is_said_before_anything_is_removed(store):
    def heard(found):
        assert found.bytes > 0
        assert len(cells_of(store)) == 6

    free_waste(store.root, heard)


def test_nothing_is_removed_by_looking(store):
    find_waste(store.root)
    assert len(cells_of(store)) == 6


def test_drafts_of_killed_writers_and_traces_of_cells_that_are_done_go(store):
    draft = store.cells / f".{key_of(9)}.0123abcd"
    draft.mkdir()
    (draft / "half.bin").write_bytes(bytes(50))
    store.failures.mkdir()
    for place in (0, 9):
        store.failure(key_of(place)).write_text("Traceback")
    found = free_waste(store.root, quiet)
    assert (found.drafts, found.failures) == ((draft,), (store.failure(key_of(0)),))
    assert not draft.exists()
    assert [path.stem for path in store.failures.iterdir()] == [key_of(9)]  # it is not computed yet: it still tells why


@pytest.mark.parametrize("name", [key_of(5), "driver-of-a-run"])
def test_while_a_run_is_under_way_no_cell_is_freed(store, name):
    """Its folder has no manifest yet, and of its cells that are done nothing tells whose they are."""
    draft = store.cells / f".{key_of(9)}.0123abcd"
    draft.mkdir()
    with Locks(store.root) as others:
        assert others.take(name)
        found = free_waste(store.root, quiet)
        assert found.busy
        assert "under way" in found.sentence
        assert len(cells_of(store)) == 7
    assert find_waste(store.root).busy is False


def test_a_lock_that_a_killed_process_left_holds_nothing_back(store):
    script = (
        "import os, sys; from pathlib import Path; from analysis.locks import Locks\n"
        "locks = Locks(Path(sys.argv[1])); locks.__enter__(); locks.take('driver-killed'); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(store.root)], cwd=ROOT, check=False)
    assert done.returncode == 9
    assert [path.name for path in (store.root / "locks").iterdir()] == ["driver-killed.0"]
    free_waste(store.root, quiet)
    assert len(cells_of(store)) == 3


def test_an_owner_of_another_machine_is_watched_until_its_next_beat_or_for_good(store):
    (store.root / "locks").mkdir()
    lock = store.root / "locks" / "driver-afar.0"
    told = {"machine": "another", "process": 1, "started": 0.0, "id": "x"}
    lock.write_text(f"{json.dumps(told)}\n0\n")
    assert Locks(store.root, stale=0.3).live() == frozenset()  # it never beats again
    beating = threading.Timer(0.2, lambda: lock.write_text(f"{json.dumps(told)}\n1\n"))
    beating.start()
    assert Locks(store.root, stale=30).live() == {"driver-afar"}
    beating.join()


def test_a_run_that_starts_waits_for_whoever_frees_cells(store):
    entered = threading.Event()

    def start():
        with under_way(store.root):
            entered.set()

    with Locks(store.root) as locks, locks.holding(FREEING):
        thread = threading.Thread(target=start)
        thread.start()
        assert not entered.wait(0.3)
    assert entered.wait(10)
    thread.join()
    assert list((store.root / "locks").iterdir()) == []


def test_a_run_that_computes_shows_it(store):
    with under_way(store.root):
        assert find_waste(store.root).busy
    assert not find_waste(store.root).busy


def test_cells_of_an_older_schema_are_freed_and_its_runs_named(store):
    finished(store.root, "old", [key_of(3)], schema=SCHEMA - 1)
    finished(store.root, "newer", [key_of(4)], schema=SCHEMA + 1)
    found = free_waste(store.root, quiet)
    assert found.older == ("old",)
    assert "older schema, and not read by this version: old" in found.sentence
    assert cells_of(store) == {key_of(place) for place in (0, 1, 2, 4)}
    assert (store.root / "old" / "manifest.json").is_file()


@pytest.mark.parametrize("written", ["{", "[]", json.dumps({"schema": SCHEMA, "cells": [], "seal": "of another"})])
def test_where_a_manifest_cannot_be_read_nothing_is_freed(store, written):
    (store.root / "first" / "manifest.json").write_text(written)
    with pytest.raises(InputError, match="run 'first'"):
        free_waste(store.root, quiet)
    assert len(cells_of(store)) == 6


def test_where_tables_were_left_half_written_nothing_is_freed(store):
    (store.root / "third").mkdir()
    (store.root / "third" / "answers.parquet").write_bytes(b"half")
    with pytest.raises(InputError, match="run 'third': its tables were not written to the end"):
        free_waste(store.root, quiet)
    assert len(cells_of(store)) == 6


def test_the_command_says_how_much_and_frees_it_only_when_told(store):
    told = CliRunner().invoke(app, ["gc", "--out", str(store.root), "--dry-run"])
    assert told.exit_code == 0
    assert "not needed: 3 cells, 0 drafts of killed runs and 0 old error traces, " in told.output
    assert "2 finished runs need 3 cells" in told.output
    assert len(cells_of(store)) == 6
    told = CliRunner().invoke(app, ["gc", "--out", str(store.root)])
    assert told.output.index("not needed: 3 cells") < told.output.index("freed ")
    assert len(cells_of(store)) == 3


def test_a_folder_that_is_not_there_is_refused_and_not_made(tmp_path):
    for look in (find_waste, lambda root: free_waste(root, quiet)):
        with pytest.raises(InputError, match="there is no runs folder"):
            look(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_every_cell_is_told_as_progress(store):
    steps = []
    free_waste(store.root, quiet, lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)] * 2


@pytest.mark.parametrize(
    ("number", "words"), [(812, "812 B"), (999, "999 B"), (1000, "1.0 kB"), (3_449_999_999, "3.4 GB")]
)
def test_bytes_are_read_in_one_unit(number, words):
    assert size(number) == words
