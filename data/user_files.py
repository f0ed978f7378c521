"""Text files as users have them: UTF-8 with or without a byte order mark, whatever their line ends."""

import codecs
import re
from pathlib import Path

from data.errors import InputError

_WIDE = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_MARK = re.compile("^\ufeff", re.MULTILINE)
_SAVE = "save it as UTF-8"


def read_text(path: Path, what: str) -> str:
    r"""The text of a user's file, its line ends `\n`, and no byte order mark at the beginning of any line.

    Files that were put behind one another have such a mark inside.

    Args:
        path: The file.
        what: What it is to the user, as an error begins: `task file`.

    Raises:
        InputError: it cannot be opened, or is no UTF-8 text.
    """
    try:
        stored = path.read_bytes()
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise InputError(f"{what} '{path}' cannot be read: {why.lower()}") from None
    if stored.startswith(_WIDE):
        raise InputError(f"{what} '{path}' cannot be read as UTF-8 text: it is UTF-16 or UTF-32; {_SAVE}")
    if (nul := stored.find(b"\x00")) >= 0:
        raise InputError(
            f"{what} '{path}' cannot be read as UTF-8 text: it holds a NUL byte in line {_line(stored, nul)}, as "
            f"UTF-16 and files of no text do; {_SAVE}"
        )
    try:
        text = stored.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{what} '{path}' cannot be read as UTF-8 text: line {_line(stored, error.start)} holds the byte "
            f"0x{stored[error.start]:02X}; {_SAVE}"
        ) from None
    return _MARK.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def _line(stored: bytes, place: int) -> int:
    """The line of a byte, counted from 1."""
    return stored[:place].count(b"\n") + 1
