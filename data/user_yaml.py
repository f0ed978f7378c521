"""YAML as users write it: plain values alone, and a fault in it is a line."""

from typing import Any

import yaml

from data.errors import InputError


def read_yaml(text: str, where: str) -> Any:
    """What a piece of YAML says; `where` begins the sentence about one that says nothing.

    Raises:
        InputError: it is not readable.
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        # What is said of a recursion is Python's own trouble, not the reader's.
        why = "brackets within brackets without end" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{where} is not readable YAML: {' '.join(why.split())}") from None
