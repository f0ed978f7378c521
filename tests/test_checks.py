"""What does not fit together is found before the first batch: one clear line, exit code 2, nothing written."""

import re
from dataclasses import replace

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM

from analysis import opening, run
from analysis.__main__ import main
from analysis.cluster import RayEngine
from analysis.drift import Reference
from analysis.resolve import resolve
from analysis.study import load_study
from data.errors import InputError
from probes.adapter_folders import write_prompt
from probes.capture import Recorder
from probes.models import open_model
from probes.sites import Kind, sites_of
from tests.calling import call
from tests.sequences import sequences
from tests.studies import STUDY
from tests.tiny_models import tiny

LONG = "repairs=[{kind: prompt, length: 230, learning_rate: 0.1}]"


def saved(folder, **overrides):
    """A model with the atlas's tokenizer and a shape that differs from its in what is given."""
    atlas = open_model("atlas", dtype="float32", device="cpu")
    config = atlas.model.config.to_dict() | overrides
    model = type(atlas.model)(type(atlas.model.config).from_dict(config))
    model.save_pretrained(folder)
    atlas.tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["drift.length=250"], "drift.length: 250 tokens behind the 8 of prompt-8 are more than the 256 positions"),
        (["drift.length=30", LONG, "reported=[prompt-230]"], "drift.length: 30 tokens behind the 230 of prompt-230"),
        (["drift.length=4", LONG.replace("230", "251"), "reported=[prompt-251]"], "questions: '.*' has .* tokens"),
        (["drift.backend=nnsigth"], "drift.backend: .*'transformer_lens', 'nnsight', 'hooks' or 'nnsight_remote'"),
        (["placebos=9223372036854775808"], "placebos: .*less than or equal to 1000"),
    ],
)
def test_what_does_not_fit_stops_a_study(changes, words, tmp_path, monkeypatch, capsys):
    flags = [flag for change in changes for flag in ("--set", change)]
    code, error = call(monkeypatch, capsys, "run", "atlas", "--out", str(tmp_path / "runs"), *flags)
    assert code == 2
    assert len(error.strip().splitlines()) == 1
    assert re.search(words, error), error
    assert not (tmp_path / "runs").exists()


def test_a_prompt_in_a_folder_takes_its_place_too(tmp_path, monkeypatch, capsys):
    opened = open_model("atlas", dtype="float32", device="cpu")
    width = opened.model.config.hidden_size
    write_prompt(tmp_path / "long", torch.zeros(240, width), opened.model, "atlas")
    repair = f"repairs=[{{kind: prompt, length: 8, learning_rate: 0.1}}, {{kind: adapter, path: {tmp_path / 'long'}}}]"
    flags = ["--set", repair, "--set", "reported=[prompt-8]", "--set", "inside=null"]
    code, error = call(monkeypatch, capsys, "run", "atlas", "--out", str(tmp_path / "runs"), *flags)
    assert code == 2
    assert re.search("drift.length: [0-9]+ tokens behind the 240 of adapter-long are more than", error), error
    assert not (tmp_path / "runs").exists()


def test_a_key_that_leaves_the_question_no_room_is_refused():
    study = load_study("atlas")
    plan, facts = run.prepare(study)
    assert resolve(plan, facts).plan == plan
    with pytest.raises(InputError, match=r"with the key before it, has 3.. tokens"):
        resolve(plan, replace(facts, key="the " * 300))


@pytest.mark.parametrize(("field", "value"), [("vocab_size", 200), ("num_hidden_layers", 3)])
def test_a_checkpoint_of_another_shape_stops_a_study(field, value, tmp_path, monkeypatch, capsys):
    path = saved(tmp_path / "other", **{field: value})
    flags = ["--set", f"compressions=[{{method: checkpoint, path: {path}}}]"]
    code, error = call(monkeypatch, capsys, "run", "atlas", "--out", str(tmp_path / "runs"), *flags)
    assert code == 2
    assert f"its {field} is {value} and that of 'atlas'" in error
    assert not (tmp_path / "runs").exists()


def test_an_unknown_family_is_refused_by_name(tmp_path, monkeypatch, capsys):
    config = BloomConfig(vocab_size=64, hidden_size=16, n_layer=1, n_head=2)
    BloomForCausalLM(config).save_pretrained(tmp_path / "bloom")
    open_model("atlas", dtype="float32", device="cpu").tokenizer.save_pretrained(tmp_path / "bloom")
    code, error = call(monkeypatch, capsys, "doctor", str(tmp_path / "bloom"))
    assert code == 2
    assert "Models of type 'bloom' are not supported" in error


def test_doctor_prints_every_site_and_every_backend(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["analysis", "doctor", "atlas", "--length", "32", "--batch", "2"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    shown = capsys.readouterr().out
    assert all(kind.value in shown for kind in Kind)
    assert all(f"{backend}: parity passed" in shown for backend in ("transformer_lens", "nnsight", "hooks"))
    assert "2 x 4 x 32 x 32" in shown
    assert "2 x 32 tokens: one plain pass" in shown


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--memory", "1MB"], "allow more, or lower --batch or --length"),
        (["--memory", "lots"], "write an amount such as 8GB"),
        (["--length", "1000"], "longer than the model's 256 positions"),
    ],
)
def test_doctor_refuses_what_does_not_fit(flags, words, monkeypatch, capsys):
    code, error = call(monkeypatch, capsys, "doctor", "atlas", *flags)
    assert code == 2
    assert len(error.strip().splitlines()) == 1
    assert words in error


def test_run_respects_its_budget(tmp_path, monkeypatch, capsys):
    code, error = call(monkeypatch, capsys, "run", "atlas", "--out", str(tmp_path / "runs"), "--memory", "100MB")
    assert code == 2
    assert "the budget is 100 MB: allow more" in error
    assert not (tmp_path / "runs").exists()


def test_drift_is_not_measured_at_heads():
    model = tiny("llama")
    with pytest.raises(InputError, match=r"drift is not measured at 0\.query"):
        Reference.record(Recorder(model, backend="hooks"), sequences(model), sites_of(model, [Kind.QUERY]))  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_a_driver_without_a_gpu_hands_out_cells_of_one(device, tmp_path, monkeypatch):
    """On a cluster the GPUs are the workers'; a local worker has no other GPU than its driver's."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    study = STUDY.model_copy(update={"device": device})
    opened = []

    def stop(plan, store, engine, *_):
        opened.append(engine)
        raise InputError("as far as the engine")

    monkeypatch.setattr(run, "run_cells", stop)
    with pytest.raises(InputError, match="as far as the engine"):
        run.run(study, out=tmp_path / "runs", engine="ray")
    (engine,) = opened
    assert isinstance(engine, RayEngine)
    assert engine.device == device
    assert opening.models_open() == 0, "the driver keeps the model open"
    with pytest.raises(InputError, match=f"device '{device}': this machine has no usable GPU; set device: cpu"):
        run.run(study, out=tmp_path / "local")
    assert not (tmp_path / "local").exists()
