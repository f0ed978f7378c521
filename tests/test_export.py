"""A finished run's repairs are written from its own cells: the code may have changed since."""

import hashlib
import json

import pytest
from safetensors import safe_open

from analysis import code_keys, run
from analysis.export import export
from analysis.run_files import sealed
from analysis.store import CELL, Store
from analysis.study import Study
from analysis.worker import Job, compute
from data.errors import InputError
from probes.specs.variants import spec_of
from tests.declared import manifest

PROMPT, BANK = "magnitude-60% + prompt-2", "dense + idp-2,4-attention"
STUDY = Study.model_validate(
    {
        **{"name": "small", "model": "atlas", "facts": "atlas", "relations": ["instrument"], "groups": ["open"]},
        **{"text": "atlas", "seeds": [3], "reported": ["prompt-2"], "tuning": {"steps": 1, "batch": 2}},
        "compressions": [{"method": "magnitude", "sparsity": 0.6, "samples": 4, "block_length": 32}],
        "repairs": [
            {"kind": "prompt", "length": 2, "learning_rate": 0.03},
            {"kind": "idp", "lengths": [2, 4], "learning_rate": 0.03},
        ],
    }
)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A run with the cells of two repairs; of the scored ones only what they are."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    store, (plan, _) = Store(folder.parent), run.prepare(STUDY)
    wanted = [cell for cell in plan.of("scored") if spec_of(cell.fields["variant"]).name in (PROMPT, BANK)]
    for cell in wanted:
        for need in cell.needs.values():
            if need.kind != "scored" and not store.done(need.key):
                compute(Job.of(need, store))
        with store.writing(cell.key, cell.description):
            pass
    folder.mkdir()
    told = manifest(STUDY.model_dump(mode="json"), seeds=[3], cells=sorted(cell.key for cell in plan.cells))
    (folder / "manifest.json").write_text(json.dumps(sealed(told)))
    return folder


@pytest.fixture
def other_code(monkeypatch):
    """All code as after an edit of every module."""
    monkeypatch.setattr(code_keys, "tree_hash", lambda source: hashlib.sha256(f"{source}#".encode()).hexdigest())
    code_keys.forget()
    yield
    monkeypatch.undo()
    code_keys.forget()


def files_of(folder):
    """Every file's bytes; of safetensors, which may order its header anew, each tensor's and what is said of them."""
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".safetensors"}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="np") as file:
            found[path.name] = file.metadata(), {name: file.get_tensor(name).tobytes() for name in sorted(file.keys())}
    return found


def test_what_is_exported_after_an_edit_is_what_was_exported_before(stored, tmp_path, request):
    before = {name: files_of(export(stored, name, tmp_path / f"before {name}")) for name in (PROMPT, BANK)}
    keys = {cell.key for cell in run.prepare(STUDY)[0].cells}
    request.getfixturevalue("other_code")
    assert not keys & {cell.key for cell in run.prepare(STUDY)[0].cells}
    after = {name: files_of(export(stored, name, tmp_path / f"after {name}")) for name in (PROMPT, BANK)}
    assert before == after
    assert {"bank.safetensors"} == set(after[BANK])
    assert "adapter_config.json" in after[PROMPT]


@pytest.mark.parametrize(
    ("name", "told", "says"),
    [
        ("dense + nothing", {}, "no variant 'dense \\+ nothing' in scope main and replicate 3; there are dense"),
        (PROMPT, {"replicate": 4}, "replicate 4; there are none"),
        (PROMPT, {"scope": "locked"}, "in scope locked"),
    ],
)
def test_what_a_run_has_not_is_refused_with_what_it_has(stored, tmp_path, name, told, says):
    with pytest.raises(InputError, match=says):
        export(stored, name, tmp_path / "new", **told)


def test_a_cell_whose_description_was_changed_is_no_cell_of_the_run(stored, tmp_path):
    """Read as it is, it would export one repair under another's name."""
    path = next(
        path for path in (stored.parent / "cells").glob(f"*/{CELL}") if json.loads(path.read_text())["kind"] == "scored"
    )
    kept = path.read_text()
    path.write_text(kept.replace('"learning_rate": 0.03', '"learning_rate": 0.3'))
    try:
        with pytest.raises(InputError, match=r"cell '.*' of run 'small': its description is not what was written"):
            export(stored, PROMPT, tmp_path / "new")
    finally:
        path.write_text(kept)


def test_a_part_that_is_gone_or_damaged_is_said(stored, tmp_path):
    tuned = next(
        path
        for path in (stored.parent / "cells").glob(f"*/{CELL}")
        if json.loads(path.read_text())["kind"] == "compressed"
    ).parent
    weights = next(tuned.glob("*.safetensors"))
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1])
    with pytest.raises(InputError, match="is damaged"):
        export(stored, PROMPT, tmp_path / "new")
    weights.write_bytes(kept)
    tuned.rename(stored.parent / "elsewhere")
    with pytest.raises(InputError, match="are not in"):
        export(stored, PROMPT, tmp_path / "new")
    (stored.parent / "elsewhere").rename(tuned)
    export(stored, PROMPT, tmp_path / "new")
