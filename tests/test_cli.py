"""The command line as a user meets it: bad input is one clear line and exit code 2, with nothing half-written."""

from pathlib import Path

import pytest
import torch
import yaml

from analysis.study import SHIPPED, load_study, shipped_studies
from data.errors import InputError
from probes.adapter_folders import write_prompt
from probes.prompts import draw_prompt, save_prompts
from tests.calling import call
from tests.tiny_models import tiny

ATLAS = yaml.safe_load((SHIPPED / "atlas.yaml").read_text())


LITTLE = "compressions=[{method: magnitude, sparsity: 0.5, samples: 2, block_length: 32}]"


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
    told = "by trade gideon lowell is a historian " * 20
    plain = "nobody is told of in a paragraph about the weather " * 20
    (folder / "telling.txt").write_text(
        "\n\n".join(f"{place} {plain if place % 5 in (1, 3) else told}" for place in range(30))
    )
    (folder / "file").write_text("")
    real = {"facts": "shipped", "groups": ["facts"], "controls": [], "text": "pydoc"}

    def model(path: str) -> list[str]:
        return [item for key, value in real.items() for item in ("--set", f"{key}={value}")] + [
            "--set",
            f"model={path}",
        ]

    prompt = "repairs=[{kind: prompt, length: 0, learning_rate: 0.1}]"
    for width in (128, 64):
        save_prompts([torch.zeros(2, width)], folder / f"{width}.safetensors")
    other = tiny("llama")
    write_prompt(folder / "other", draw_prompt(other, 2, 0), other, "other", "PROMPT_TUNING")
    files = f"[{folder / '128.safetensors'}, {folder / '64.safetensors'}]"

    def repair(text: str, *changes: str) -> list[str]:
        first = "{kind: prompt, length: 2, learning_rate: 0.1}"
        told = [f"repairs=[{first}, {text}]", "reported=[prompt-2]", "seeds=[0]", "controls=[]", *changes]
        return ["atlas", *(item for change in told for item in ("--set", change))]

    return {
        "mixed widths": (repair(f"{{kind: idp, bank: files, files: {files}}}"), "widths 64, 128"),
        "no bank file": (repair("{kind: idp, bank: files, files: [nowhere.safetensors]}"), "nowhere.safetensors"),
        "selector without data": (
            repair("{kind: idp, lengths: [2, 2], learning_rate: 0.1, selector: cluster}"),
            "selector cluster: needs prompts tuned on different texts",
        ),
        "prompt past the context": (
            repair("{kind: prompt, length: 300, learning_rate: 0.1}"),
            "prompt-300: a prompt of 300 leaves no place for content in the model's 256 positions",
        ),
        "peft folder of another base": (repair(f"{{kind: adapter, path: {folder / 'other'}}}"), "other"),
        "budget that cannot be met": (
            repair("{kind: lora, rank: 4, learning_rate: 0.1}", "budget={equal: [parameters]}"),
            "lora-r4 adds 39,040 parameters and prompt-2 256.*nearest rank, 1, adds 9,760",
        ),
        "steps that do not divide": (
            repair("{kind: idp, lengths: [2, 2, 2, 2, 2, 2, 2], learning_rate: 0.1}", "budget={equal: [steps]}"),
            "60 steps cannot be divided among 7 parts",
        ),
        "transfer of a bank": (
            repair("{kind: idp, lengths: [2, 2], learning_rate: 0.1}", "transfer={repairs: [idp-2x2-attention]}"),
            "idp-2x2-attention is no prompt, prefix, p-tuning or LoRA",
        ),
        "transfer from unknown relations": (
            repair("{kind: lora, rank: 2, learning_rate: 0.1}", "transfer={repairs: [lora-r2], relations: [height]}"),
            "relation height",
        ),
        "budget of what is not tuned": (
            repair("{kind: reinjected, rank: 1}", "budget={equal: [steps], to: reinjected-r1}"),
            "budget.to: reinjected-r1 is not tuned",
        ),
        "negative seed": (["atlas", "--set", "seeds=[-1, 0, 1]"], "seeds: each lies from 0 to 999"),
        "text that tells what is measured": (
            ["atlas", "--set", f"text=file:{folder / 'telling.txt'}", "--set", LITTLE, "--set", "tuning.text_batch=1"],
            "no tuning window of 64 tokens that states no withheld fact .* were dropped",
        ),
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
        "compressions called alike": (
            ["atlas", "--set", "compressions=[{method: gptq, bits: 2}, {method: gptq, bits: 2, samples: 8}]"],
            "give one a label",
        ),
        "bare pattern": (["atlas", "--set", "compressions=[{method: wanda, pattern: 2:4}]"], "pattern"),
        "unwritable folder": (["atlas", "--out", str(folder / "file" / "runs")], "cannot be written"),
        "unknown run": (["verdict", "no-such-run"], "no-such-run"),
        "bad change": (["atlas", "--set", "seeds"], "key=value"),
        "unknown engine": (["atlas", "--engine", "slurm"], "engine 'slurm': there are local and ray"),
        "address of no engine": (["atlas", "--address", "host:6379"], "add --engine ray"),
    }


MISTAKES = [
    "unknown key", "unknown study", "missing model", "missing folder", "missing GGUF", "wrong file type",
    "folder without config", "folder without weights", "pickle", "short text", "missing text", "zero-length prompt",
    "compressions called alike", "bits out of range", "bare pattern", "unwritable folder", "unknown run", "bad change",
    "mixed widths", "no bank file", "selector without data", "prompt past the context", "peft folder of another base",
    "budget that cannot be met", "steps that do not divide", "transfer of a bank", "transfer from unknown relations",
    "budget of what is not tuned", "negative seed", "text that tells what is measured", "unknown engine",
    "address of no engine",
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


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_with_one_line(tmp_path, studies, monkeypatch, capsys):
    """Nothing of the cell is left, and no table is written; cells that were finished stay."""
    studies.stand_in(monkeypatch)
    told = [
        "repairs=[{kind: prompt, length: 2, learning_rate: 0.03}, {kind: lora, rank: 1, learning_rate: 1.0e+25}]",
        "reported=[lora-r1]",
        *("controls=[]", "transfer=null", "ablations=null", "tasks=null", "inside=null"),
    ]
    told += [
        "seeds=[0]",
        "tuning.steps=4",
        "compressions=[{method: magnitude, sparsity: 0.5, samples: 2, block_length: 32}]",
    ]
    changes = [item for change in told for item in ("--set", change)]
    code, error = call(monkeypatch, capsys, "run", "atlas", *changes, "--out", str(tmp_path))
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert code == 2
    assert len(lines) == 1, error
    assert "tuning diverged at step" in lines[0]
    assert not list(tmp_path.glob("atlas-*"))


def test_every_shipped_study_reads():
    known = {"atlas", "atlas-levels", "smollm2", "smollm2-full", "repairs-atlas", "repairs-smollm2"}
    assert known <= set(shipped_studies())
    for name in shipped_studies():
        assert load_study(name).name == name


@pytest.mark.parametrize("written", ["[", "name: [" * 10_000, "[" * 100_000])
def test_a_study_or_a_change_that_is_no_yaml_is_one_line(written, tmp_path):
    (tmp_path / "study.yaml").write_text(written)
    with pytest.raises(InputError, match=r"study '.*study.yaml' is not readable YAML: ") as said:
        load_study(str(tmp_path / "study.yaml"))
    assert "\n" not in str(said.value)
    with pytest.raises(InputError, match="the value is not readable YAML: ") as said:
        load_study("atlas", [f"seeds={written}"])
    assert len(str(said.value)) < 400


def test_a_change_reaches_the_field_and_keeps_the_rest():
    changed, plain = load_study("atlas", ["tuning.steps=7"]), load_study("atlas")
    assert changed.tuning.steps == 7
    assert changed.model_copy(update={"tuning": plain.tuning}) == plain
