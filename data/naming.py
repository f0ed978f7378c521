"""What to say when a name is asked for that is not there: the nearest that are."""

import difflib
from collections.abc import Iterable


def nearest(wanted: str, names: Iterable[str], most: int = 3) -> str:
    """The names most like the one wanted, or, where none is like it, all of them: `nearest: a, b`."""
    every = list(dict.fromkeys(names))
    alike = difflib.get_close_matches(wanted, every, n=most, cutoff=0.5)
    return f"nearest: {', '.join(alike)}" if alike else f"there are {', '.join(every) or 'none'}"
