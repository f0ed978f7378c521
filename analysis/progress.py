"""How far a run is: a bar where a person sits at the terminal, else one line per finished cell that can be read back.

A line reads `12/138 cells, 34 s, about 310 s left; scored: gptq-2bit + prompt-8`.
"""

import re
import time
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE = re.compile(r"^(\d+)/(\d+) cells, (\d+) s(?:, about (\d+) s left)?; (.*)$")


class Work(Protocol):
    """What is told of a cell."""

    @property
    def kind(self) -> str:
        """What is done."""
        ...

    @property
    def label(self) -> str:
        """To what."""
        ...


@dataclass(frozen=True)
class Step:
    """How far a run was when it said so last."""

    done: int
    total: int
    seconds: int
    left: int | None
    """Seconds, where enough is done to foretell them."""
    last: str
    """What was finished last."""


class Bar:
    """Progress over the cells still to be done, with time left."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.started = time.perf_counter()
        self.done = self.total = 0
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )

    def start(self, name: str, cached: int, todo: int) -> None:
        """Open the bar."""
        self.total, self.started = todo, time.perf_counter()
        self.task = self.progress.add_task(f"{name}: {cached} cells cached,", total=todo)
        self.progress.start()
        self._say(f"{name}: {cached} cells cached")

    def cell(self, cell: Work, seconds: float) -> None:
        """Advance by one cell."""
        self.done += 1
        self.progress.update(self.task, advance=1, description=f"{cell.kind}: {cell.label}"[:60])
        self._say(f"{cell.kind}: {cell.label}")

    def note(self, sentence: str) -> None:
        """Say above the bar what a person should know of."""
        self.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Close the bar."""
        self.progress.stop()

    def _say(self, what: str) -> None:
        if self.console.is_terminal:
            return
        gone = time.perf_counter() - self.started
        left = f", about {gone / self.done * (self.total - self.done):.0f} s left" if self.done else ""
        line = f"{self.done}/{self.total} cells, {gone:.0f} s{left}; {what}"
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def last_step(log: str) -> Step | None:
    """The last line of progress in what a run has said so far, if it has said any."""
    for line in reversed(log.splitlines()):
        if found := LINE.match(line):
            done, total, seconds, left, last = found.groups()
            return Step(int(done), int(total), int(seconds), None if left is None else int(left), last)
    return None
