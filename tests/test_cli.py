"""The command line as a user meets it: bad input is one clear line and exit code 2, with nothing half-written."""

import sys
from pathlib import Path

import pytest
import yaml

from analysis.__main__ import main
from analysis.study import SHIPPED, load_study, shipped_studies

ATLAS = yaml.safe_load((SHIPPED / "atlas.yaml").read_text())


def call(monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["analysis", *arguments])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0), capsys.readouterr().err


def write(folder: Path, **changes: object) -> str:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**ATLAS, **changes}))
    return str(path)


def bad_studies(folder: Path) -> dict[str, tuple[list[str], str]]:
    """Name of each mistake: the arguments that make it, and words its one line must hold."""
    (folder / "note.gguf").write_text("not a model")
    (folder / "empty").mkdir()
    (folder / "weightless").mkdir()
    (folder / "weightless" / "config.json").write_text('{"model_type": "llama"}')
    (folder / "pickled").mkdir()
    (folder / "pickled" / "config.json").write_text('{"model_type": "llama"}')
    (folder / "pickled" / "pytorch_model.bin").write_bytes(b"\x80")
    (folder / "short.txt").write_text("\n\n".join(f"Paragraph {place} is short." for place in range(9)))
    (folder / "file").write_text("")
    real = {"facts": "shipped", "groups": ["facts"], "controls": [], "text": "pydoc"}

    def model(path: str) -> list[str]:
        return [item for key, value in real.items() for item in ("--set", f"{key}={value}")] + [
            "--set",
            f"model={path}",
        ]

    prompt = "repairs=[{kind: prompt, length: 0, learning_rate: 0.1}]"
    return {
        "unknown key": (["atlas", "--set", "tuning.stepz=3"], "tuning.stepz"),
        "unknown study": (["atlass"], "atlass"),
        "missing model": (["atlas", *model("no-such-owner/no-such-model")], "no-such-model"),
        "missing folder": (["atlas", *model(str(folder / "nowhere" / "at" / "all"))], "nowhere"),
        "missing GGUF": (["atlas", *model(str(folder / "none.gguf"))], "none.gguf"),
        "wrong file type": (["atlas", *model(str(folder / "note.gguf"))], "not a GGUF file"),
        "folder without config": (["atlas", *model(str(folder / "empty"))], "config.json"),
        "folder without weights": (["atlas", *model(str(folder / "weightless"))], "no weights"),
        "pickle": (["atlas", *model(str(folder / "pickled"))], "pickle"),
        "short text": (
            ["atlas", "--set", f"text=file:{folder / 'short.txt'}"],
            "calibration blocks|less than one block",
        ),
        "missing text": (["atlas", "--set", f"text=file:{folder / 'no.txt'}"], "no.txt"),
        "zero-length prompt": (["atlas", "--set", prompt], "length"),
        "bits out of range": (["atlas", "--set", "compressions=[{method: gptq, bits: 5}]"], "bits"),
        "bare pattern": (["atlas", "--set", "compressions=[{method: wanda, pattern: 2:4}]"], "pattern"),
        "unwritable folder": (["atlas", "--out", str(folder / "file" / "runs")], "cannot be written"),
        "unknown run": (["verdict", "no-such-run"], "no-such-run"),
        "bad change": (["atlas", "--set", "seeds"], "key=value"),
    }


MISTAKES = [
    "unknown key", "unknown study", "missing model", "missing folder", "missing GGUF", "wrong file type",
    "folder without config", "folder without weights", "pickle", "short text", "missing text", "zero-length prompt",
    "bits out of range", "bare pattern", "unwritable folder", "unknown run", "bad change",
]  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_exit_two_and_nothing_written(mistake, tmp_path, monkeypatch, capsys):
    import re

    inputs = tmp_path / "inputs"
    inputs.mkdir()
    arguments, words = bad_studies(inputs)[mistake]
    out = tmp_path / "runs"
    command = [] if arguments[0] == "verdict" else ["run"]
    place = [] if "--out" in arguments else ["--out", str(out)]
    code, error = call(monkeypatch, capsys, *command, *arguments, *place)
    lines = [line for line in error.splitlines() if line.strip()]
    assert code == 2
    assert len(lines) == 1, error
    assert lines[0].startswith("error: ")
    assert re.search(words, lines[0]), lines[0]
    assert not out.exists()


def test_every_shipped_study_reads():
    assert {"atlas", "smollm2", "smollm2-full"} <= set(shipped_studies())
    for name in shipped_studies():
        assert load_study(name).name == name


def test_a_change_reaches_the_field_and_keeps_the_rest():
    changed, plain = load_study("atlas", ["tuning.steps=7"]), load_study("atlas")
    assert changed.tuning.steps == 7
    assert changed.model_copy(update={"tuning": plain.tuning}) == plain
