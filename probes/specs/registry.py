"""A list of named kinds to which an entry can be added for a while: of selectors, of ways to compress."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from data.errors import InputError
from data.naming import nearest


class Named(Protocol):
    """What a registry holds."""

    @property
    def name(self) -> str:
        """As a study names it."""
        ...


Entry = TypeVar("Entry", bound=Named)


class Registry(Generic[Entry]):
    """Entries by name, in the order of their list."""

    def __init__(self, what: str, entries: Iterable[Entry]) -> None:
        """`what` is what one entry is called in a sentence."""
        self._what = what
        self._held = {one.name: one for one in entries}

    def every(self) -> tuple[Entry, ...]:
        """All entries."""
        return tuple(self._held.values())

    def of(self, name: str) -> Entry:
        """The entry of a name.

        Raises:
            InputError: there is none; names the nearest.
        """
        if name not in self._held:
            raise InputError(f"no {self._what} is called '{name}'; {nearest(name, self._held)}")
        return self._held[name]

    @contextmanager
    def with_one_more(self, entry: Entry) -> Iterator[None]:
        """Within it there is one more: for what is tried in a notebook or a test, in this process alone.

        Raises:
            ValueError: there is one of this name already.
        """
        if entry.name in self._held:
            raise ValueError(f"there is a {self._what} '{entry.name}' already")
        self._held[entry.name] = entry
        try:
            yield
        finally:
            del self._held[entry.name]
