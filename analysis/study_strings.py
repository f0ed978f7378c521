"""What no string of a study may hold: characters that no file can be named by, homes of users who are not there."""

import re
from collections.abc import Iterator
from typing import Any

from data.errors import InputError
from data.paths import path_fault, user_path

PATHS = re.compile(r"(model|facts|text|.*\.path|.*\.files|.*\.files\.\d+)")
"""Places of a study where a path may stand."""


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
        path = text.removeprefix("file:").removeprefix("world:")
        if PATHS.fullmatch(where) and (fault := path_fault(path)):
            raise ValueError(f"{where}: {fault}")
        if path.startswith("~"):
            try:
                user_path(path)
            except InputError as error:
                raise ValueError(f"{where}: {error}") from None
