"""Runs and cells of another form are refused by their number, in one sentence that says how to go on."""

import json

import pytest

from analysis.reading import read_table
from analysis.run_files import read_manifest, sealed
from analysis.store import CELL, CHECKSUMS, SCHEMA, Store, content_key, names_in
from analysis.stored_variants import stored_parts
from data.errors import InputError
from tests.stored_runs import write_run

DESCRIPTION = {"kind": "scored", "fields": {}, "needs": {}}
KEY = content_key(DESCRIPTION)


@pytest.fixture
def cell(tmp_path):
    store = Store(tmp_path)
    with store.writing(KEY, DESCRIPTION) as folder:
        (folder / "numbers.txt").write_text("1\n")
    return store


def rewrite(store, **changes):
    path = store.folder(KEY) / CELL
    stored = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: one for name, one in stored.items() if one is not None}))


@pytest.mark.parametrize("schema", [None, 1, SCHEMA + 1])
def test_a_cell_of_another_schema_is_not_read(cell, schema):
    assert cell.damage(KEY) is None
    rewrite(cell, schema=schema)
    found = "none" if schema is None else schema
    assert cell.damage(KEY) == f"schema {found}, and this version reads schema {SCHEMA}"
    run = cell.root / "one"
    run.mkdir()
    (run / "manifest.json").write_text(json.dumps(sealed({"schema": SCHEMA, "cells": [KEY]})))
    with pytest.raises(InputError, match=f"schema {found}, and this version reads schema 2: `python -m analysis run"):
        list(stored_parts(run))


def test_a_cell_without_checksums_is_damaged(cell):
    rewrite(cell, **{CHECKSUMS: None})
    assert cell.damage(KEY) == "it cannot be read (KeyError)"
    with pytest.raises(KeyError):
        names_in(cell.folder(KEY))


@pytest.mark.parametrize("schema", [None, 1, SCHEMA + 1, "2"])
def test_a_run_of_another_schema_is_refused_by_its_number(tmp_path, schema):
    run = write_run(tmp_path / "first")
    manifest = json.loads((run / "manifest.json").read_text()) | {"schema": schema}
    (run / "manifest.json").write_text(json.dumps({name: one for name, one in manifest.items() if one is not None}))
    for look in (read_manifest, lambda folder: read_table(folder, "variants")):
        with pytest.raises(InputError) as told:
            look(run)
        assert "\n" not in str(told.value)
        assert f"run 'first': schema {'none' if schema is None else schema}" in str(told.value)
        assert "`python -m analysis run STUDY` with its study makes it anew" in str(told.value)
