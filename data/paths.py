"""Paths as users type them: their home spelt out, and none so long that the system would refuse to look for it."""

import os
from pathlib import Path

from data.errors import InputError

NAME = 255
"""Bytes of one name on the file systems in use."""
LONGEST = 4095 - 1 - NAME
"""Bytes of a path below which a file still has its place: the system's own bound is under 4,096."""
SHOWN = 60


def path_fault(text: str) -> str | None:
    """Why no file can be named so, in half a sentence."""
    path = os.fsencode(text)
    if any(len(name) > NAME for name in path.split(b"/")):
        return f"no file's name has more than {NAME} bytes; shorten it"
    return f"no path has more than {LONGEST:,} bytes; shorten it" if len(path) > LONGEST else None


def user_path(text: str | Path) -> Path:
    """The path that a user means.

    Raises:
        InputError: it is too long, or begins in the home of a user who is not there.
    """
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise InputError(f"'{shown(text)}' begins in the home of a user who is not there") from None
    if fault := path_fault(str(path)):
        raise InputError(f"'{shown(text)}': {fault}")
    return path


def shown(text: str | Path) -> str:
    """A path as a sentence can hold it."""
    return str(text) if len(str(text)) <= SHOWN else f"{str(text)[:SHOWN]}…"
