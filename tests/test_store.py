"""A cell's files are read as they were written or not at all."""

import errno
import json
import os

import pytest

from analysis import store
from data.errors import InputError


@pytest.fixture
def kept(tmp_path):
    """A store with one finished cell of two files."""
    found = store.Store(tmp_path)
    description = {"kind": "test", "fields": {"rate": 0.03}}
    key = store.content_key(description)
    with found.writing(key, description) as folder:
        (folder / "numbers.txt").write_text("1 2 3\n")
        (folder / "weights.bin").write_bytes(bytes(range(256)))
    return found, key


def test_what_was_written_is_whole(kept):
    found, key = kept
    assert found.done(key)
    assert found.damage(key) is None


def test_a_bit_flipped_anywhere_is_found_and_the_file_named(kept):
    found, key = kept
    for name in ("numbers.txt", "weights.bin", "cell.json"):
        path = found.folder(key) / name
        whole = path.read_bytes()
        for place in range(0, len(whole), 7):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            why = store.Store(found.root).damage(key)
            # A flip that leaves the same JSON (of white space) is no damage.
            if name != "cell.json" or json_of(path) != json.loads(whole):
                assert why
                assert name in why or name == "cell.json"
        path.write_bytes(whole)
    assert found.damage(key) is None


def test_brackets_without_end_are_damage_and_no_recursion(kept):
    found, key = kept
    (found.folder(key) / "cell.json").write_text("[" * 100_000)
    assert found.damage(key) == "it cannot be read (RecursionError)"


def json_of(path):
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def test_a_cut_or_missing_file_is_found(kept):
    found, key = kept
    path = found.folder(key) / "weights.bin"
    path.write_bytes(path.read_bytes()[:100])
    assert found.damage(key) == "weights.bin is not what was written"
    path.unlink()
    assert found.damage(key) == "weights.bin is missing"


def test_a_cell_that_was_whole_is_looked_at_again_once_it_was_written(kept):
    """Within one process: a worker reads one cell for many others, a notebook runs a study twice."""
    found, key = kept
    assert found.damage(key) is None
    path = found.folder(key) / "numbers.txt"
    path.write_text("1 2 4\n")
    assert found.damage(key) == "numbers.txt is not what was written"
    path.write_text("1 2 3\n")
    assert found.damage(key) is None
    path.unlink()
    assert found.damage(key) == "numbers.txt is missing"


def test_what_others_put_beside_a_cells_files_is_no_damage_and_not_among_them(kept):
    found, key = kept
    (found.folder(key) / "foreign.npz").write_bytes(b"not of it")
    assert found.damage(key) is None
    assert store.names_in(found.folder(key)) == {"numbers.txt", "weights.bin"}


def test_a_cell_that_lost_its_description_is_written_anew(kept):
    """As after a kill while a cell was being dropped, or a lost file."""
    found, key = kept
    (found.folder(key) / "cell.json").unlink()
    assert not found.done(key)
    with found.writing(key, {"kind": "test", "fields": {"rate": 0.03}}) as folder:
        (folder / "numbers.txt").write_text("4\n")
    assert found.damage(key) is None
    assert [path.name for path in sorted(found.folder(key).iterdir())] == ["cell.json", "numbers.txt"]
    found.forget([key])
    assert list(found.cells.iterdir()) == []


def test_a_cell_is_dropped_in_one_step(kept, monkeypatch):
    found, key = kept
    monkeypatch.setattr(store.shutil, "rmtree", lambda *_, **__: None)  # killed before anything is deleted
    found.forget([key])
    assert not found.folder(key).exists()
    monkeypatch.undo()
    found.clear_drafts(key)
    assert list(found.cells.iterdir()) == []


def test_a_file_is_read_for_its_checksum_once(kept, monkeypatch):
    found, key = kept
    assert found.damage(key) is None
    monkeypatch.setattr(store, "sha_of", lambda path: pytest.fail("read again"))
    assert found.damage(key) is None


def test_no_room_is_one_sentence_whoever_says_it(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    wrapped = RuntimeError(f"Error while serializing: I/O error: {os.strerror(errno.ENOSPC)} (os error 28)")
    for error in (full, wrapped):
        with pytest.raises(InputError, match=r"cannot be written to .No space"), store.telling_storage(tmp_path):
            raise error
    with pytest.raises(RuntimeError, match="another"), store.telling_storage(tmp_path):
        raise RuntimeError("another")
    elsewhere = PermissionError(errno.EACCES, "Permission denied", "/elsewhere/model")
    assert store.storage_fault(elsewhere, tmp_path) is None
    assert store.storage_fault(PermissionError(errno.EACCES, "no", str(tmp_path / "cells")), tmp_path)
