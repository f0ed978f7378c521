"""A damaged run: what a reader gives back is what was written, or one clear line; never a wrong number.

`pytest tests/test_damaged_runs.py --fuzz 2000` damages 500 runs; the suite damages few.
"""

import contextlib
import io
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from rich.console import Console

from analysis import launching, report, run_files
from analysis.locks import Locks
from analysis.reading import (
    LATENCY,
    list_runs,
    read_calibration,
    read_example,
    read_latency,
    read_manifest,
    read_table,
    read_verdict,
    run_below,
)
from analysis.run_files import sealed_text
from analysis.store import checksums
from data.atlas import load_world
from data.errors import InputError
from probes.adapter_folders import folder_sha
from probes.checkpoints import quantisation_of
from tests.calling import require_line
from tests.stored_runs import write_run

STEPS = ["..", ".", "/", "first", "examples", "x.npz", "~", "", "\x00", "etc"]


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """A run's folder as `analysis.run.finish` leaves it: tables, verdict, an example, sealed checksums."""
    folder = write_run(tmp_path_factory.mktemp("runs") / "first")
    (folder / "examples").mkdir(exist_ok=True)
    shown = {"tokens": np.array(["a", "b"]), "prompt": np.array(0), "attention": np.zeros((1, 1, 2, 2))}
    shown |= {name: np.zeros((1, 2)) for name in ("lens_top_log_prob", "lens_log_prob", "lens_rank")}
    shown["lens_top"] = np.array([["a", "b"]])
    about = dict.fromkeys(("item", "group", "question", "answer", "why"), np.array("x"))
    told: dict[str, Any] = (
        {f"0.{name}": value for name, value in shown.items()} | about | {"variant_ids": np.array(["v"])}
    )
    np.savez_compressed(folder / "examples" / "x.npz", **told)
    (folder / "report.md").write_text("# Report\n")
    manifest = json.loads((folder / "manifest.json").read_text())
    files = {name: sha for name, sha in checksums(folder).items() if name != "manifest.json"}
    (folder / "manifest.json").write_text(json.dumps(run_files.sealed(manifest | {"files": files})))
    return folder


def read_all(folder: Path, tables: list[str]) -> dict[str, Any]:
    """What every reader makes of every file: what it read, or None where it said one line."""
    run_files.forget_checksums()
    readers: dict[str, Any] = {name: lambda name=name: read_table(folder, name) for name in tables}
    readers |= {f"{name}, a column": lambda name=name: read_table(folder, name, FIRST[name]) for name in tables}
    readers |= {"manifest": lambda: read_manifest(folder), "verdict": lambda: read_verdict(folder)}
    readers |= {
        "example": lambda: read_example(folder, "x.npz"),
        "below": lambda: run_below(folder.parent, folder.name),
    }
    readers |= {"list": lambda: list_runs(folder.parent)}
    readers |= {"shown": lambda: shown(folder)}
    found = {}
    for name, reader in readers.items():
        try:
            found[name] = reader()
        except InputError as error:
            require_line(error)
            found[name] = None
    return found


FIRST: dict[str, list[str]] = {}
"""A column of each table."""


def shown(folder: Path) -> str:
    text = io.StringIO()
    report.show(Console(file=text, width=140), folder)
    return text.getvalue()


def same(ours: Any, sound: Any) -> bool:
    if isinstance(ours, pd.DataFrame):
        return ours.equals(sound)
    if hasattr(ours, "variants"):
        return repr(ours) == repr(sound)
    return bool(ours == sound)


def damage(path: Path, draw: random.Random) -> str:
    """Cut, flip, empty, overwrite or delete a file."""
    whole = bytearray(path.read_bytes())
    act = draw.choice(["cut", "flip", "flip", "flip", "empty", "zeros", "delete"])
    if act == "delete":
        path.unlink()
        return act
    place = draw.randrange(len(whole))
    if act == "flip":
        whole[place] ^= 1 << draw.randrange(8)
    elif act == "zeros":
        whole[place : place + 64] = bytes(len(whole[place : place + 64]))
    path.write_bytes(whole[:place] if act == "cut" else b"" if act == "empty" else whole)
    return f"{act} at {place}"


def test_a_damaged_run_is_read_as_it_was_written_or_refused(request, stored, tmp_path):
    tables = [path.stem for path in stored.glob("*.parquet")]
    FIRST.update({name: parquet.read_schema(stored / f"{name}.parquet").names[:1] for name in tables})
    sound = read_all(stored, tables)
    assert not [name for name, one in sound.items() if one is None], "the run is read whole before it is damaged"
    refused = 0
    for seed in range(request.config.getoption("--fuzz") // 4):
        draw = random.Random(seed)
        folder = tmp_path / "first"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(stored, folder)
        path = draw.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
        how = damage(path, draw)
        found = read_all(folder, tables)
        wrong = [
            name for name, one in found.items() if one is not None and not same_but_place(one, sound[name], folder)
        ]
        # A run whose manifest is gone is not listed; nothing else may differ from what was written.
        assert set(wrong) <= ({"list"} if path.name == "manifest.json" else set()), (seed, path.name, how, wrong)
        refused += any(one is None for one in found.values())
    assert refused, "no damage was found: the test proves nothing"


def same_but_place(ours: Any, sound: Any, folder: Path) -> bool:
    return ours == folder if isinstance(ours, Path) else same(ours, sound)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.sampled_from(STEPS), max_size=5))
def test_no_name_leads_out_of_the_runs_folder(stored, parts):
    name = "/".join(parts)
    root = stored.parent.resolve()
    with contextlib.suppress(InputError):
        assert run_below(root, name).resolve().parent == root
    with contextlib.suppress(InputError):
        read_example(stored, name)
        assert name == "x.npz"


def test_times_are_read_as_they_were_written_or_refused(tmp_path):
    """Beside the tables, in no manifest: the file holds its own checksum."""
    row = {"repair": "prompt-2", "phase": "decode", "batch": 1, "form": "", "ratio": 1.25}
    row |= {"compression": "dense", "tokens": 64, "rounds": 5}
    written = pd.DataFrame([row])
    path = tmp_path / LATENCY
    path.write_text(sealed_text(written.to_csv(index=False)))
    pd.testing.assert_frame_equal(read_latency(tmp_path), written)
    whole = path.read_text()
    path.write_text(sealed_text(written.drop(columns="ratio").to_csv(index=False)))
    with pytest.raises(InputError, match=r"latency.csv: table 'latency' has no column 'ratio': `python"):
        read_latency(tmp_path)
    cut = written.to_csv(index=False)
    changed = (whole.replace("1.25", "1.35"), whole[:-3] + "\n", whole.replace("# sha256", "# sha257"))
    for harmed in (*changed, cut, cut[:-2]):
        path.write_text(harmed)
        with pytest.raises(InputError, match=r"latency.csv cannot be read \(.*Error\): `python -m analysis repairs"):
            read_latency(tmp_path)


@pytest.mark.parametrize("name", ["manifest.json", "verdict.json"])
def test_brackets_without_end_are_one_line(name, stored, tmp_path):
    folder = Path(shutil.copytree(stored, tmp_path / "first"))
    (folder / name).write_text("[" * 100_000)
    if name != "manifest.json":  # else its checksum would tell
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(run_files.sealed(manifest | {"files": {}})))
    with pytest.raises(InputError, match=rf"'{name}' cannot be read \(RecursionError\)"):
        (read_manifest if name == "manifest.json" else read_verdict)(folder)


def test_brackets_without_end_are_one_line_wherever_json_is_read(tmp_path):
    for name in ("process.json", "adapter_config.json", "facts.json", "config.json", "recipe.json"):
        (tmp_path / name).write_text("[" * 100_000)
    for name in ("summary", "organisms"):
        (tmp_path / f"{name}.csv").write_text("a\n1\n")
    for reader in (
        launching.look_at,
        folder_sha,
        load_world,
        lambda folder: quantisation_of(str(folder), folder),
        read_calibration,
    ):
        with pytest.raises(InputError) as said:
            reader(tmp_path)
        require_line(said.value)
    locks = Locks(tmp_path)
    locks.folder.mkdir()
    (locks.folder / "cell.0").write_bytes(b"[" * 100_000)
    assert not locks.take("cell"), "its owner may live"
