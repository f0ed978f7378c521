"""What no string of a study may hold: characters that no file can be named by, homes of users who are not there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PATHS = re.compile(r"(model|facts|text|.*\.path|.*\.files\.\d+)")
"""Places of a study where a path may stand."""
LONGEST = 255
"""Bytes of one name on the file systems in use."""


def strings_of(stored: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every string of nested keys and values with the dotted place it stands at."""
    if isinstance(stored, str):
        yield where, stored
    inner = (
        stored.items() if isinstance(stored, dict) else enumerate(stored) if isinstance(stored, list | tuple) else ()
    )
    for key, value in inner:
        place = f"{where}.{key}" if where else str(key)
        if isinstance(key, str):
            yield where, key
        yield from strings_of(value, place)


def check_strings(stored: Any) -> None:
    """Refuse what would only fail when a file is looked for.

    Raises:
        ValueError: naming the place and what is wrong there.
    """
    for where, text in strings_of(stored):
        odd = next((one for one in text if (ord(one) < 32 and one not in "\n\t") or 0xD800 <= ord(one) < 0xE000), None)
        if odd is not None:
            raise ValueError(f"{where}: holds the character U+{ord(odd):04X}, which no name or text may have")
        if PATHS.fullmatch(where) and any(len(name.encode()) > LONGEST for name in text.split("/")):
            raise ValueError(f"{where}: no file's name has more than {LONGEST} bytes; shorten it")
        path = text.removeprefix("file:").removeprefix("world:")
        if path.startswith("~"):
            try:
                Path(path).expanduser()
            except RuntimeError:
                raise ValueError(f"{where}: '{path}' begins in the home of a user who is not there") from None
