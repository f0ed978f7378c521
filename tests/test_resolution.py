"""What is found of a study is one result: doctor, a dry run and the form say the same, and refuse in the same words."""

import json

import pytest
from typer.testing import CliRunner

from analysis import launching
from analysis.__main__ import app
from analysis.resolution import Resolution
from data.errors import InputError
from tests.brought_studies import CHAT, FAULTS, brought
from tests.calling import call

GOOD = {"plain": {}, "chat, asked as plain text": {"chat": CHAT}, "chat": {"chat": CHAT, "template": "chat"}}
BAD = {
    **FAULTS,
    "an unknown key": ({"compresions": []}, "unknown key 'compresions'"),
    "a prompt as long as the context": (
        {"repairs": [{"kind": "prompt", "length": 96, "learning_rate": 0.01}], "reported": ["prompt-96"]},
        "prompt-96",
    ),
}


def form(path) -> Resolution:
    """What the form is told of a study."""
    return launching.resolution_of(path.read_text(), path.parent / "runs")


def commands(path, folder, monkeypatch) -> list[tuple[int, str]]:
    """Exit code and JSON of every command that looks at a study."""
    monkeypatch.chdir(folder)
    asked = [["doctor", "--study", path], ["run", path, "--dry-run"]]
    told = [CliRunner().invoke(app, [*one, "--json", "--out", str(folder / "runs")]) for one in asked]
    return [(int(isinstance(one.exception, InputError)), one.stdout) for one in told]


@pytest.mark.parametrize("case", GOOD)
def test_doctor_a_dry_run_and_the_form_find_the_same(case, tmp_path, monkeypatch):
    brought(tmp_path, **GOOD[case])
    (_, first), (_, second) = commands("study.yaml", tmp_path, monkeypatch)
    assert first == second
    found = Resolution.model_validate_json(first)
    assert form(tmp_path / "study.yaml") == found
    assert set(json.loads(first)) == set(Resolution.model_fields)
    assert found.refused is None
    assert found.model is not None
    assert found.model.family == "llama"
    assert found.left is not None
    assert len(found.left.cells) == len(found.cells) > 10
    assert bool(found.notes) == ("asked as plain text" in case)


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused_is_refused_in_the_same_words(case, tmp_path, monkeypatch, capsys):
    changes, words = BAD[case]
    brought(tmp_path, **changes)
    (failed, first), (_, second) = commands("study.yaml", tmp_path, monkeypatch)
    assert failed
    assert first == second
    found = Resolution.model_validate_json(first)
    assert found.refused is not None
    assert words in found.refused
    assert found == Resolution(study=found.study, refused=found.refused)
    capsys.readouterr()
    for command in (["run", "study.yaml", "--dry-run"], ["run", "study.yaml"], ["doctor", "--study", "study.yaml"]):
        code, error = call(monkeypatch, capsys, *command, "--out", str(tmp_path / "runs"))
        assert (code, error) == (2, f"error: {found.refused}\n")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("case", ["an unknown key", "windows past the positions"])  # a process each
def test_the_form_refuses_in_the_same_words(case, tmp_path, monkeypatch):
    brought(tmp_path, **BAD[case][0])
    (tmp_path / "study.yaml").rename(tmp_path / "brought.yaml")  # as the form calls it
    (_, told), _ = commands("brought.yaml", tmp_path, monkeypatch)
    with pytest.raises(InputError) as caught:
        form(tmp_path / "brought.yaml")
    assert str(caught.value) == Resolution.model_validate_json(told).refused
    assert not (tmp_path / "runs").exists()


def test_a_model_alone_has_the_same_keys(tmp_path):
    brought(tmp_path, chat=CHAT)
    told = CliRunner().invoke(app, ["doctor", str(tmp_path / "model"), "--json"])
    found = Resolution.model_validate_json(told.stdout)
    assert found.model is not None
    assert found.notes
    assert found == Resolution(model=found.model, notes=found.notes)
    refused = CliRunner().invoke(app, ["doctor", str(tmp_path / "nowhere"), "--json"])
    assert isinstance(refused.exception, InputError)
    assert Resolution.model_validate_json(refused.stdout).refused == str(refused.exception)


def test_what_is_left_is_what_is_not_computed():
    cells = [{"kind": "scored", "label": str(place), "seconds": 60.0, "bytes": 10} for place in range(6)]
    found = Resolution.model_validate({"study": "s", "cells": cells, "left": {"cells": [1, 2, 4], "workers": 2}})
    assert (found.finished, found.minutes) == (3, 1.5)
    assert [line.split()[0] for line in list(found.lines)[-6:]] == ["done", "todo", "todo", "done", "todo", "done"]
    assert found.kept.left is None
