"""What is stored is of the form that is declared, where it is written and where it is read; another is refused.

Runs and cells of another schema are refused by their number, in one sentence that says how to go on.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from pyarrow import parquet

from analysis import selecting
from analysis.reading import read_table, read_verdict
from analysis.run_files import read_manifest, sealed
from analysis.schema.document import PAGE, document
from analysis.schema.registry import TABLES
from analysis.schema.verdict import require_verdict, verdict_fault
from analysis.store import CELL, CHECKSUMS, SCHEMA, Store, content_key, names_in
from analysis.stored_variants import stored_parts
from analysis.study import Study
from data.errors import InputError
from tests.declared import completed, manifest
from tests.opened_pages import CHARTS, errors_of, opened
from tests.stored_runs import BITS, PREDICTION, SETTING, write_run
from tests.studies import HELD, STUDY

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
    (run / "manifest.json").write_text(json.dumps(sealed(manifest({}, cells=[KEY]))))
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
    told = json.loads((run / "manifest.json").read_text()) | {"schema": schema}
    (run / "manifest.json").write_text(json.dumps({name: one for name, one in told.items() if one is not None}))
    for look in (read_manifest, lambda folder: read_table(folder, "variants")):
        with pytest.raises(InputError) as told:
            look(run)
        assert "\n" not in str(told.value)
        assert f"run 'first': schema {'none' if schema is None else schema}" in str(told.value)
        assert "`python -m analysis run STUDY` with its study makes it anew" in str(told.value)


EVERY = {
    "transfer": {"repairs": ["prompt-2"], "relations": ["instrument"], "text": {"batch": 2, "length": 16}},
    "inside": {
        "lens": {"items": 4},
        "probes": {"controls": 1, "repairs": ["prompt-2"]},
        "interventions": {"items": 8},
        "examples": {"items": 1},
    },
    "tasks": {"files": f"{HELD.name}/one", "items": 2, "perplexity": {"window": 16, "documents": 2}},
}
"""What a study asks for beside the small one's, so that each of its tables has rows."""
COLUMNS = [(table, column) for table in TABLES.every() for column in table.columns]


@pytest.mark.slow
def test_a_study_writes_the_tables_that_are_declared_and_no_other(studies):
    folder = studies.run(Study.model_validate(STUDY.model_dump() | EVERY))
    assert {path.stem for path in folder.glob("*.parquet")} == {table.name for table in TABLES.every()}
    for table in TABLES.every():
        stored = parquet.read_schema(folder / table.file)
        assert stored.equals(table.schema)
        whole, plain = read_table(folder, table.name), pd.read_parquet(folder / table.file)
        assert len(whole), table.name
        pd.testing.assert_frame_equal(whole, plain, check_exact=True)
        assert {name: str(dtype) for name, dtype in whole.dtypes.items()} == {
            column.name: column.dtype for column in table.columns
        }
    assert read_verdict(folder)["settings"]


@pytest.mark.parametrize("table", TABLES.every(), ids=lambda table: table.name)
def test_a_declaration_is_complete(table):
    assert table.about.endswith(".")
    assert len(set(table.names)) == len(table.names)
    assert all(column.about for column in table.columns)
    empty = table.frame(pd.DataFrame())
    assert list(empty.columns) == list(table.names)
    assert [str(dtype) for dtype in empty.dtypes] == [column.dtype for column in table.columns]


def test_the_page_on_tables_is_what_is_declared():
    assert PAGE.read_text(encoding="utf-8") == document(), "`python -m analysis.schema.document` writes it anew"
    for table, column in COLUMNS:
        assert f"| `{column.name}` |" in document().split(f"## {table.name}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=lambda one: one.name)
def test_a_column_that_is_missing_or_of_another_type_is_named_with_its_table(tmp_path, table, column):
    """Where it is written, and where it is read from a file that something else wrote."""
    sound = completed(table.name, pd.DataFrame(index=range(2)))
    table.write(sound, tmp_path / table.file)
    assert len(read_table(tmp_path, table.name)) == 2
    other = 7 if column.dtype == "str" else "word"
    dropped, retyped = sound.drop(columns=column.name), sound.assign(**{column.name: other})
    for frame, fault in (
        (dropped, f"table '{table.name}' has no column '{column.name}'"),
        (retyped, f"table '{table.name}': column '{column.name}' is of type "),
    ):
        with pytest.raises(InputError) as told:
            table.write(frame, tmp_path / "refused.parquet")
        assert str(told.value).startswith(fault)
        assert not (tmp_path / "refused.parquet").exists()
        frame.to_parquet(tmp_path / table.file, index=False)
        for columns in (None, [column.name]):
            with pytest.raises(InputError) as told:
                read_table(tmp_path, table.name, columns)
            assert str(told.value).startswith(f"run '{tmp_path.name}': {fault}")
            assert str(told.value).endswith(": run the study again")
            assert "\n" not in str(told.value)
        others = [name for name in table.names if name != column.name]
        assert len(read_table(tmp_path, table.name, others)) == 2, "who does not need the column is not held up"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"flavour": 1}, "table 'answers' has a column 'flavour' that is not declared"),
        ({"bits": [0.5, None]}, "table 'answers': column 'bits' has no value in 1 of 2 rows, and every row must have"),
        ({"split": ["test", "exam"]}, "table 'answers': column 'split' holds 'exam', and tune, calibrate, test are"),
        ({"correct": [1, 0]}, "table 'answers': column 'correct' is of type int64, and bool is declared"),
    ],
)
def test_what_is_no_row_of_a_table_is_not_written(tmp_path, changes, fault):
    frame = completed("answers", pd.DataFrame(index=range(2))).assign(**changes)
    with pytest.raises(InputError, match=re.escape(fault)):
        TABLES.of("answers").write(frame, tmp_path / "answers.parquet")


def test_shares_are_joined_as_they_were_stored_and_a_foreign_one_is_named(tmp_path):
    """A share whose counts are all missing, and one without rows, take no type from the others."""
    shares = []
    for place, chosen in enumerate(([3, 2**53 + 1], [None, None], [])):
        path = tmp_path / f"cell{place}" / "selections.parquet"
        path.parent.mkdir()
        frame = completed("selections", pd.DataFrame({"chosen": pd.array(chosen, dtype="Int64")}))
        frame.drop(columns="variant_id").to_parquet(path, index=False)
        shares.append((path, {"variant_id": f"v{place}"}))
    table = TABLES.of("selections")
    joined = table.joined(shares)
    assert joined["chosen"].tolist() == [3, 2**53 + 1, pd.NA, pd.NA]
    assert list(joined["variant_id"]) == ["v0", "v0", "v1", "v1"]
    pd.read_parquet(shares[1][0]).drop(columns="scores").to_parquet(shares[1][0])
    with pytest.raises(InputError, match=r"^cell 'cell1': table 'selections' has no column 'scores'$"):
        table.joined(shares)


def places(value: Any, before: str = "") -> Iterator[tuple[str, dict[str, Any], str]]:
    """Every key of a JSON value: where it stands, what holds it, and its name."""
    if isinstance(value, list):
        for number, inner in enumerate(value):
            yield from places(inner, f"{before}[{number}]")
    if isinstance(value, dict):
        for key, inner in value.items():
            place = f"{before}.{key}".lstrip(".")
            yield place, value, key
            yield from places(inner, place)


def test_every_key_of_a_verdict_is_named_where_it_is_missing_or_holds_something_else(tmp_path):
    run = write_run(tmp_path / "first")
    further = PREDICTION | {"about": "knowledge", "p_corrected": None}
    put_back = {name: SETTING[name] for name in ("model", "scope", "compression", "repair", "decision", "gain_bits")}
    verdict = read_verdict(run) | {"reinjections": [put_back | {"reasons": ["put back"]}]}
    verdict |= {"settings": [SETTING | {"share_of_gap": BITS, "further_predictions": [further]}], "controls": []}
    require_verdict(verdict)
    verdict = json.loads(json.dumps(verdict))  # nothing in it twice
    walked = list(places(verdict))
    assert len(walked) == 84
    for place, holder, key in walked:
        kept = holder.pop(key)
        assert verdict_fault(verdict) == f"{place}: field required"
        holder[key] = object()
        assert str(verdict_fault(verdict)).startswith(f"{place}: input should be ")
        holder[key] = kept
    assert verdict_fault(verdict) is None
    assert verdict_fault(verdict | {"flavour": 1}) == "flavour: extra inputs are not permitted"


def test_every_key_of_a_manifest_is_named_where_it_is_missing(tmp_path):
    sound = manifest({})
    (tmp_path / "manifest.json").write_text(json.dumps(sound))
    assert read_manifest(tmp_path) == sound
    for key in sound.keys() - {"schema"}:  # that one says which form it is of
        foreign = {name: one for name, one in sound.items() if name != key}
        (tmp_path / "manifest.json").write_text(json.dumps(foreign))
        with pytest.raises(InputError, match=f"'manifest.json': {key}: field required: run the study again"):
            read_manifest(tmp_path)


def test_a_part_of_a_page_names_the_column_that_it_needs_and_the_other_parts_show(root):
    path = root / "first" / "lens.parquet"
    pd.read_parquet(path).assign(value="high").to_parquet(path, index=False)
    page = opened("drift")
    assert errors_of(page) == []
    (told,) = {one.value.replace("\\", "") for one in page.warning}
    fault = "table 'lens': column 'value' is of type large_string, and double is declared"
    assert told == f"run 'first': {fault}: run the study again"
    assert 0 < len(page.get("plotly_chart")) < CHARTS["drift"]


def test_a_fault_of_a_page_is_told_as_one_and_not_blamed_on_the_run(root, monkeypatch, caplog):
    def seeded(*_):
        raise KeyError("flavour")

    monkeypatch.setattr(selecting, "flips", seeded)
    page = opened("recovery")
    told = [one.value.replace("\\", "") for one in page.error]
    assert told
    for one in told:
        assert one.startswith("KeyError: 'flavour'. This is a fault in Palimpsest, not in your run: please report it")
        assert "version" not in one
        assert "again" not in one
    assert not page.warning
    assert 0 < len(page.get("plotly_chart")) < CHARTS["recovery"]
    assert "KeyError" in caplog.text
    assert "in seeded" in caplog.text
