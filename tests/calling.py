"""The command line as a user calls it, and what an error of it must look like."""

import sys

import pytest

from analysis.__main__ import main
from data.errors import InputError


def call(monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    """Call the command line without a network; return its exit code and what it wrote to stderr."""
    monkeypatch.setattr(sys, "argv", ["analysis", *arguments])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0), capsys.readouterr().err


def require_line(error: InputError) -> None:
    """A user reads it as one line."""
    assert str(error).strip()
    assert "Traceback" not in str(error)
