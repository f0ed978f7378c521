"""Locks on a shared folder: who computes which cell, told by files alone, so that any network folder will do.

A lock is a file `NAME.N`, made with O_EXCL; the highest N holds it. Its owner changes the file every `BEAT` seconds.
Whoever waits never compares clocks: a lock counts as left behind when its bytes stay the same for `STALE` seconds of
the waiter's own monotonic clock, or at once where its owner was a process of this machine that is gone. It is taken
over by making N + 1, which one of several waiters alone can do. A lock that is given back without a result is marked
so and stays, because a number that vanished could be made a second time; what is finished needs no lock, and its
files are removed.
"""

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from analysis.processes import began, machine

BEAT = 5.0
STALE = 60.0
"""Seconds; a network folder may show another machine's writes up to half a minute late."""
GIVEN_BACK = b"given back"
FREEING = "freeing"
"""The lock of whoever removes cells that nobody needs."""


@dataclass
class Lock:
    """A lock that this process holds."""

    path: Path
    owner: str
    beats: int = 0

    @property
    def text(self) -> bytes:
        """What the file holds: the owner and how often it has said that it lives."""
        return f"{self.owner}\n{self.beats}\n".encode()


@dataclass
class _Seen:
    """What a waiter saw in a lock's file, and since when it has not changed."""

    number: int
    text: bytes
    since: float


@dataclass
class Locks:
    """The locks of one driver below a runs folder; enter it to keep them alive, leave it to give them back."""

    root: Path
    beat: float = BEAT
    stale: float = STALE
    _held: dict[str, Lock] = field(default_factory=dict)
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _left: threading.Event = field(default_factory=threading.Event)

    @property
    def folder(self) -> Path:
        """Where the lock files are."""
        return self.root / "locks"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._left.clear()
        self._pulse = threading.Thread(target=self._keep_alive, daemon=True)
        self._pulse.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._pulse.join()
        for name in list(self._held):
            self.give_back(name)

    def take(self, name: str) -> bool:
        """Hold a lock, unless another driver does."""
        number, text = self._highest(name)
        if number >= 0 and not self._is_left(name, number, text):
            return False
        lock = Lock(self.folder / f"{name}.{number + 1}", _owner())
        try:
            # O_EXCL: of several who saw the same number one alone makes the next.
            file = lock.path.open("xb")
        except FileExistsError:
            return False
        try:
            with file:
                file.write(lock.text)
        except OSError:
            lock.path.unlink(missing_ok=True)
            raise
        with self._guard:
            self._held[name] = lock
        return True

    def give_back(self, name: str) -> None:
        """Let others have a lock whose work was not finished."""
        with self._guard:
            lock = self._held.pop(name)
            # Only over one's own file: one that was taken for left behind may have been removed.
            with contextlib.suppress(OSError):
                _overwrite(lock.path, GIVEN_BACK)

    def finish(self, name: str) -> None:
        """Remove a lock whose work is finished, and those it was taken over from; whoever took it over keeps theirs."""
        with self._guard:
            own = _number(self._held.pop(name).path)
            for path in self.folder.glob(f"{name}.*"):
                if 0 <= _number(path) <= own:
                    path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def holding(self, name: str) -> Iterator[None]:
        """Wait for a lock, hold it for a while and remove it."""
        while not self.take(name):
            time.sleep(0.1)
        try:
            yield
        finally:
            self.finish(name)

    def live(self) -> frozenset[str]:
        """Names of the locks that others hold and live; whose owner cannot be looked up is watched for `stale` seconds.

        An owner on another machine shows that it lives by its next beat.
        """
        seen = {path.stem: self._highest(path.stem) for path in self.folder.glob("*.*")}
        open_ = {name: one for name, one in seen.items() if name not in self._held and not self._is_left(name, *one)}
        found = {name for name, (_, text) in open_.items() if is_of_this_machine(text)}
        while watched := open_.keys() - found:
            for name in watched:
                now = self._highest(name)
                if now[0] < 0 or (now == open_[name] and self._is_left(name, *now)):
                    del open_[name]
                elif now != open_[name]:
                    found.add(name)
            time.sleep(min(self.beat, 0.1))
        return frozenset(found)

    def _highest(self, name: str) -> tuple[int, bytes]:
        """The number that holds a lock, -1 where none does, and its bytes."""
        number = max(map(_number, self.folder.glob(f"{name}.*")), default=-1)
        try:
            return number, (self.folder / f"{name}.{number}").read_bytes() if number >= 0 else b""
        except FileNotFoundError:  # finished meanwhile: seen again, it will be gone
            return number, b""

    def _is_left(self, name: str, number: int, text: bytes) -> bool:
        """Whether nobody holds this lock any more."""
        if text == GIVEN_BACK or _is_gone(text):
            return True
        seen = self._seen.get(name)
        if seen is None or (seen.number, seen.text) != (number, text):
            self._seen[name] = _Seen(number, text, time.monotonic())
            return False
        return time.monotonic() - seen.since > self.stale

    def _keep_alive(self) -> None:
        while not self._left.wait(self.beat):
            with self._guard:
                for lock in self._held.values():
                    lock.beats += 1
                    # A folder that cannot be reached for a while is no reason to stop; the next beat tries again.
                    with contextlib.suppress(OSError):
                        _overwrite(lock.path, lock.text)


def _number(path: Path) -> int:
    """How often a lock had been taken over when this file of it was made; -1 for a file of another kind."""
    told = path.suffix[1:]
    return int(told) if told.isdecimal() else -1


def _overwrite(path: Path, text: bytes) -> None:
    """Replace a file's bytes in place, never making one: an open file is seen anew by every reader of a share."""
    with path.open("r+b") as file:
        file.write(text)
        file.truncate()


def _owner() -> str:
    """This process, in a way that others of this machine can look up and that never comes again."""
    told = {"machine": machine(), "process": os.getpid(), "started": began(os.getpid()), "id": uuid.uuid4().hex}
    return json.dumps(told)


def is_of_this_machine(text: bytes) -> bool:
    """Whether the owner is a process of this machine, so that it can be looked up whether it lives."""
    try:
        where = json.loads(text.splitlines()[0])["machine"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return False
    return where is not None and where == machine()


@contextlib.contextmanager
def under_way(root: Path) -> Iterator[None]:
    """Show everyone that work on a runs folder is under way, so that nothing of it is taken for what nobody needs.

    Waits for whoever is freeing cells there.
    """
    name = f"driver-{uuid.uuid4().hex}"
    with Locks(root) as locks:
        with locks.holding(FREEING):
            locks.take(name)
        try:
            yield
        finally:
            locks.finish(name)


def _is_gone(text: bytes) -> bool:
    """Whether the owner was a process of this machine that has ended; False wherever that cannot be known."""
    try:
        told = json.loads(text.splitlines()[0])
        where, process, started = told["machine"], int(told["process"]), told["started"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return False
    return where is not None and where == machine() and began(process) != started
