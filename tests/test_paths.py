"""Paths that no system would take are one line, wherever a user may type one."""

import sys
from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.run import open_run
from analysis.study import load_study
from analysis.study_strings import check_strings
from data.errors import InputError
from data.paths import LONGEST, path_fault, user_path
from data.tasks import find_tasks
from data.text import load_text, text_sha
from probes.models import hub_name, locate

NAME = "n" * 300
DEEP = "/" + "/".join(["deep"] * 1000)
LONG = {NAME: "no file's name has more than 255 bytes", DEEP: "no path has more than 3,839 bytes"}


def test_a_path_is_too_long_by_its_bytes():
    assert LONGEST == 3839
    assert path_fault("n" * 255) is path_fault("é" * 127) is path_fault("") is None
    assert "255 bytes" in str(path_fault("é" * 128))
    whole = "/".join(["d" * 255] * 15)
    assert len(whole) == LONGEST
    assert path_fault(whole) is None
    assert "3,839 bytes" in str(path_fault(f"{whole}/"))
    assert not Path(whole, "f" * 255).exists()  # the system takes it


def test_a_home_counts_as_it_is_spelt_out(monkeypatch):
    monkeypatch.setenv("HOME", "/" + "h" * 200)
    assert user_path("~/mine") == Path("/" + "h" * 200, "mine")
    monkeypatch.setenv("HOME", DEEP)
    with pytest.raises(InputError, match="no path has more than"):
        user_path("~/mine")
    with pytest.raises(InputError, match="'~nobody-there/x' begins in the home of a user who is not there"):
        user_path("~nobody-there/x")


@pytest.mark.parametrize(("path", "told"), LONG.items(), ids=("name", "path"))
def test_whatever_looks_for_a_file_says_that_it_is_called_too_long(path, told, tmp_path):
    for look in (
        lambda: find_tasks(None, path),
        lambda: text_sha(f"file:{path}"),
        lambda: load_text(f"file:{path}", "tuning"),
        lambda: hub_name(path),
        lambda: locate(path),
        lambda: load_study(path),
        lambda: open_run(path, tmp_path),
        lambda: open_run("first", Path(path)),
    ):
        with pytest.raises(InputError, match=told) as said:
            look()
        assert len(str(said.value)) < 200


@pytest.mark.parametrize(("path", "told"), LONG.items(), ids=("name", "path"))
@pytest.mark.parametrize(
    "change",
    [
        "model={}",
        "facts={}",
        "facts=world:{}",
        "text=file:{}",
        "tasks={{files: {}}}",
        "compressions=[{{method: checkpoint, path: {}}}]",
        "repairs=[{{kind: bank, name: b, bank: files, files: [{}]}}]",
    ],
)
def test_a_study_is_refused_before_anything_is_looked_for(change, path, told):
    with pytest.raises(InputError, match=told) as said:
        load_study("atlas", [change.format(path)])
    assert len(str(said.value)) < 200


def test_a_name_of_255_bytes_may_stand_behind_a_prefix():
    check_strings({"text": f"file:{'n' * 255}", "tasks": {"files": "n" * 255}})


@pytest.mark.parametrize("path", LONG, ids=("name", "path"))
@pytest.mark.parametrize(
    "arguments",
    [
        ("doctor", "{}"),
        ("run", "{}"),
        ("run", "atlas", "--dry-run", "--set", "model={}"),
        ("run", "atlas", "--dry-run", "--out", "{}"),
        ("verdict", "{}"),
        ("verdict", "first", "--out", "{}"),
        ("calibrate", "--add", "--organisms", "1", "--table", "{}"),
    ],
)
def test_the_command_line_says_it_in_one_line(arguments, path, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["analysis", *(one.format(path) for one in arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
