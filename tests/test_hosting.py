"""A study whose drift is read on a host: what no host can hold is refused before any cell, the rest is measured."""

import shutil

import pandas as pd
import pytest
import torch
import yaml
from nnsight import CONFIG

from analysis import run
from analysis.__main__ import main
from analysis.checks import check_opened
from analysis.opening import close_models
from analysis.resolve import resolve
from analysis.store import Store
from analysis.study import load_study
from analysis.worker import Job, compute
from data.atlas import load_world
from data.errors import InputError
from probes import models
from probes.adapter_folders import write_lora, write_prompt
from probes.lora import add_lora
from probes.models import open_model
from tests.calling import call
from tests.hosts import NO_KEY, NOT_HOSTED


@pytest.fixture
def asked(tmp_path, hub):
    """A study of the atlas's model as if the hub had it, whose drift around dense is read on a host."""
    shutil.copytree(models.BUNDLED["atlas"], tmp_path / "atlas")
    known = load_world().facts.only(["instrument"])
    rows = [f"plays,{one.subject},{one.answer}" for one in known.select(["open"])[:60]]
    (tmp_path / "mine.csv").write_text("\n".join(["relation,subject,answer", *rows]) + "\n")
    phrasings = {
        "tune": ["{subject} plays", "played by {subject} :"],
        "damage": "with {subject}",
        "measure": "{subject} has",
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"plays": phrasings}))
    (tmp_path / "text.txt").write_text("\n\n".join(f"Paragraph {place} of a text." for place in range(80)))
    study = {
        "name": "hosted",
        "model": "owner/atlas",
        "facts": str(tmp_path / "mine.csv"),
        "groups": ["facts"],
        "text": f"file:{tmp_path / 'text.txt'}",
        "compressions": [{"method": "magnitude", "sparsity": 0.6, "samples": 2, "block_length": 16}],
        "seeds": [0],
        "repairs": [
            {"kind": "prompt", "length": 2, "learning_rate": 0.03},
            {"kind": "idp", "lengths": [2, 4], "learning_rate": 0.03},
        ],
        "reported": ["prompt-2"],
        "tuning": {"steps": 2, "batch": 4},
        "drift": {
            "questions": 4,
            "windows": 2,
            "length": 8,
            "batch": 2,
            "backend": "nnsight_remote",
            "around": "dense",
        },
    }
    (tmp_path / "hosted.yaml").write_text(yaml.safe_dump(study))
    return tmp_path / "hosted.yaml"


ELSE = "or set another drift.backend"
REFUSED = {
    "a compressed copy": (
        ["drift.around=all"],
        "drift.backend: nnsight_remote reads a model as it is hosted, and drift around 'magnitude-60%' reads a "
        "compressed copy: set drift.around=dense, or another drift.backend",
    ),
    "an adapter": (
        ["repairs=[{kind: prompt, length: 2, learning_rate: 0.1}, {kind: lora, rank: 1, learning_rate: 0.1}]"],
        "drift.backend: nnsight_remote reads a model as it is hosted, with prompts before it, and 'dense + lora-r1' is "
        f"changed inside: leave lora-r1 out, {ELSE}",
    ),
    "prompts over an adapter": (
        [
            "repairs=[{kind: prompt, length: 2, learning_rate: 0.1}, {kind: idp, lengths: [2, 4], learning_rate: 0.1, "
            "adapter: {rank: 1, learning_rate: 0.1}}]"
        ],
        "drift.backend: nnsight_remote reads a model as it is hosted, with prompts before it, and 'dense + "
        "idp-2,4-attention-on-lora-r1' is changed inside: leave idp-2,4-attention-on-lora-r1 out, " + ELSE,
    ),
    "a prefix": (
        [
            "repairs=[{kind: prompt, length: 2, learning_rate: 0.1}, {kind: sparse, sparsity: 0.5, of: {kind: prefix, "
            "length: 1, learning_rate: 0.1}}]"
        ],
        "drift.backend: nnsight_remote reads a model as it is hosted, with prompts before it, and 'dense + "
        f"prefix-1-sparse-50%' is changed inside: leave prefix-1-sparse-50% out, {ELSE}",
    ),
    "another precision": (
        ["drift.floors=[batch_plan, bfloat16]"],
        "drift.floors: bfloat16 takes a model that no host holds, and nnsight_remote reads hosted ones: set "
        "drift.floors=[batch_plan], or another drift.backend",
    ),
    "a folder": (
        ["model={folder}/atlas"],
        "drift.backend: nnsight_remote reads a model where the hub's weights are hosted, and '{folder}/atlas' is not "
        f"of the hub: name one that is (model: owner/name), {ELSE}",
    ),
    "no key": ([], NO_KEY),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_study_that_no_host_can_read_stops_before_any_cell(mistake, asked, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(CONFIG.API, "APIKEY", None)
    changes, line = REFUSED[mistake]
    flags = [item.replace("{folder}", str(tmp_path)) for change in changes for item in ("--set", change)]
    code, error = call(monkeypatch, capsys, "run", str(asked), *flags, "--out", str(tmp_path / "runs"))
    assert code == 2
    assert error.strip() == "error: " + line.replace("{folder}", str(tmp_path))
    assert not (tmp_path / "runs").exists()


def test_prompts_of_peft_folders_are_read_and_adapters_in_them_not(asked, tmp_path):
    model = open_model("owner/atlas", dtype="float32", device="cpu").model
    write_prompt(tmp_path / "soft", torch.zeros(2, model.config.hidden_size), model, "owner/atlas")
    write_lora(tmp_path / "low", add_lora(model, rank=1, targets="all", seed=0), model, "owner/atlas")

    def planned(name):
        repairs = [
            {"kind": "prompt", "length": 2, "learning_rate": 0.1},
            {"kind": "adapter", "path": str(tmp_path / name)},
        ]
        return run.prepare(load_study(str(asked), [f"repairs={repairs}"]))

    assert planned("soft")
    with pytest.raises(InputError, match=r"'dense \+ adapter-low' is changed inside"):
        planned("low")


def test_drift_around_dense_is_what_hooks_measure(asked, tmp_path, simulated):
    tables: dict[str, pd.DataFrame] = {}
    store = Store(tmp_path / "runs")
    for backend in ("hooks", "nnsight_remote"):
        plan, facts = run.prepare(load_study(str(asked), [f"drift.backend={backend}"]))
        check_opened(resolve(plan, facts))
        (cell,) = plan.of("drift")
        names = [stored["repair"] and stored["repair"]["kind"] for stored in cell.fields["variants"]]
        assert names == [None, "placebo", "prompt", "prompt", "prompt", "idp"]
        assert {one.kind for one in cell.needs.values()} == {"tuned"}
        for one in (*cell.needs.values(), cell):
            if not store.folder(one.key).exists():
                compute(Job.of(one, store))
        tables[backend] = pd.read_parquet(store.folder(cell.key) / "drift.parquet")
    close_models()
    pd.testing.assert_frame_equal(tables["nnsight_remote"], tables["hooks"], rtol=1e-4, atol=1e-5)
    assert (tables["hooks"]["value"].abs() > 1e-3).any()


# --- In `doctor` ---------------------------------------------------------------------------------------


def test_doctor_asks_a_host_only_where_it_is_told_to(asked, simulated, monkeypatch, capsys):
    for flags, tried in (([], False), (["--remote"], True)):
        arguments = ["analysis", "doctor", "owner/atlas", "--length", "16", "--batch", "2", *flags]
        monkeypatch.setattr("sys.argv", arguments)
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code
        assert ("nnsight_remote: parity passed" in capsys.readouterr().out) == tried


def test_doctor_says_why_a_host_cannot_be_asked(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["analysis", "doctor", "atlas", "--length", "16", "--batch", "2", "--remote"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    shown = " ".join(capsys.readouterr().out.split())
    assert f"nnsight_remote: {NOT_HOSTED}" in shown
    assert "hooks: parity passed" in shown
