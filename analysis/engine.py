"""Run the cells of a plan on an engine, each as soon as what it needs is there, together with other runs on the folder.

Results do not depend on the engine, nor on how many workers there are: a cell reads nothing but its own description
and the folders of the cells it needs, and computes with `threads` threads whatever the machine offers. A cell that
fails takes only what needs it with it; a worker that is lost is replaced and its cell computed again; a mistake in
the study stops the run after the cells under way.
"""

import time
from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Protocol, Self

from analysis.cell import Cell, Plan
from analysis.locks import Locks
from analysis.store import Store, write_atomically
from analysis.worker import Job, Outcome, failed
from data.errors import InputError

ATTEMPTS = 3
"""How often a cell is begun whose worker is lost each time."""
POLL = 0.5
"""Seconds between looks at cells that another run has under way."""
LOOK = 5.0
"""Seconds between looks at the room there is, where nothing else is heard."""
PATIENCE = 600.0
"""Seconds in which a machine may come back to a run that has room for nothing."""
NAMED = 5
"""Failures that a summary names; the rest is counted."""
Report = Callable[[Cell, float], None]
"""Told of each finished cell and its seconds, 0 where another run computed it."""
Note = Callable[[str], None]
"""Told in a sentence what a person should know of: a lost worker, a failed cell, another run."""


class UnfinishedError(InputError):
    """Some cells could not be computed; the rest is finished, and the same run again goes on from there."""


class Engine(Protocol):
    """Where cells are computed; entered while a run lasts."""

    @property
    def lost(self) -> tuple[type[Exception], ...]:
        """What a future raises whose worker is gone."""
        ...

    @property
    def capacity(self) -> int:
        """Cells at once."""
        ...

    def homeless(self, keys: Iterable[str]) -> set[str]:
        """Of these cells those that fit no machine that is there now."""
        ...

    def require_room(self, keys: Iterable[str]) -> None:
        """Refuse cells that fit no machine that is there now.

        Raises:
            InputError: what the largest of them needs.
        """
        ...

    def submit(self, job: Job) -> Future[Outcome]:
        """Start a cell."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def missing(plan: Plan, store: Store) -> list[Cell]:
    """Cells that are not in the store yet, each after what it needs."""
    return [cell for cell in plan.cells if not store.done(cell.key)]


def drop_damaged(plan: Plan, store: Store, note: Note) -> None:
    """Compare every finished cell with its checksums; one that is damaged is named and dropped, to be computed anew."""
    for cell in plan.cells:
        if store.done(cell.key) and (why := store.damage(cell.key)):
            note(f"damaged: '{cell.label}' ({why}); it is computed anew")
            store.forget([cell.key])


def run_cells(plan: Plan, store: Store, engine: Engine, report: Report, note: Note) -> None:
    """Compute every missing cell; those that another run on the folder has under way are waited for.

    Raises:
        InputError: a mistake in the study, or no room for results; what is finished stays.
        UnfinishedError: cells failed or lost their workers too often; names them, after everything else is done. Or
            no machine had room for any cell that is left, for as long as `PATIENCE`.
    """
    todo = missing(plan, store)
    if not todo:
        return
    with Locks(store.root) as locks:
        progress = _Progress(plan, todo, store, locks, engine, report, note)
        try:
            with engine:
                progress.go()
        finally:
            progress.settle_locks()
    if progress.failures:
        raise UnfinishedError(progress.summary())


class _Progress:
    """What of a plan is ready, under way, finished and failed."""

    def __init__(
        self, plan: Plan, todo: list[Cell], store: Store, locks: Locks, engine: Engine, report: Report, note: Note
    ) -> None:
        self.plan, self.store, self.locks, self.engine = plan, store, locks, engine
        self.report, self.note = report, note
        self.place = {cell.key: place for place, cell in enumerate(plan.cells)}
        self.open = {cell.key for cell in todo}
        self.lacking = {cell.key: {need.key for need in cell.needs.values()} & self.open for cell in todo}
        self.needed_by: dict[str, list[Cell]] = defaultdict(list)
        for cell in plan.cells:
            for key in {need.key for need in cell.needs.values()}:
                self.needed_by[key].append(cell)
        self.ready = [self.place[cell.key] for cell in todo if not self.lacking[cell.key]]
        """Places in the plan, in order: cells of one compressed copy stand together, and a worker keeps it open."""
        self.running: dict[Future[Outcome], Cell] = {}
        self.begun: Counter[str] = Counter()
        self.failures: dict[str, str] = {}
        self.told_of_others = self.told_of_room = False
        self.moved = time.monotonic()
        """When a cell could be computed last, here or by another run."""

    def go(self) -> None:
        """Hand out and gather until nothing is left that could be computed; an error lets cells under way finish."""
        try:
            self._go()
        except InputError:
            self._let_finish()
            raise

    def _go(self) -> None:
        while True:
            homeless = self.engine.homeless(self._waiting())
            others = self._hand_out(homeless)
            self._watch_room(homeless, others)
            pause = POLL if others else LOOK
            if self.running:
                finished, _ = wait(self.running, timeout=pause, return_when=FIRST_COMPLETED)
                for future in finished:
                    self._gather(future, self.running.pop(future))
            elif self.ready:
                time.sleep(pause)
            else:
                return

    def _waiting(self) -> set[str]:
        """Cells that are handed out or ready to be."""
        return {cell.key for cell in self.running.values()} | {self.plan.cells[place].key for place in self.ready}

    def _let_finish(self) -> None:
        """Wait for the cells under way; one whose machine is gone would be waited for without end."""
        while True:
            homeless = self.engine.homeless(cell.key for cell in self.running.values())
            _, left = wait([one for one, cell in self.running.items() if cell.key not in homeless], timeout=LOOK)
            if not left:
                return

    def _watch_room(self, homeless: set[str], others: int) -> None:
        """Say when no machine has room for any cell that is left, and end the run when that lasts.

        Raises:
            UnfinishedError: no machine came back in time.
        """
        waiting = self._waiting()
        if others or not waiting or waiting - homeless:
            self.moved, self.told_of_room = time.monotonic(), False
            return
        if not self.told_of_room:
            self.told_of_room = True
            self.note(
                f"no machine that is there has room for any of the {len(self.open)} cells that are left: the run waits "
                f"{PATIENCE / 60:.0f} minutes for one"
            )
        if time.monotonic() - self.moved > PATIENCE:
            self._require_room(waiting)

    def _require_room(self, waiting: set[str]) -> None:
        try:
            self.engine.require_room(waiting)
        except InputError as error:
            raise UnfinishedError(
                f"{len(self.open)} of {len(self.plan.cells)} cells are missing, all others are finished: {error}; then "
                "run the same again to go on"
            ) from None

    def _hand_out(self, homeless: set[str]) -> int:
        """Start cells that are ready, as many as there is room for; returns how many another run has under way."""
        others = 0
        # What is queued for a machine that left takes no room from the others.
        queued = sum(cell.key in homeless for cell in self.running.values())
        for place in list(self.ready):
            busy = len(self.running) - queued
            # Without room the homeless are looked through nevertheless: another run may have finished them.
            if busy and busy >= self.engine.capacity:
                break
            cell = self.plan.cells[place]
            if self.store.done(cell.key):
                self._finish(cell, 0.0)
            elif cell.key in homeless:
                continue
            elif not self.locks.take(cell.key):
                others += 1
            elif self.store.done(cell.key):  # finished between the look and the lock
                self.locks.finish(cell.key)
                self._finish(cell, 0.0)
            else:
                self.store.clear_drafts(cell.key)
                self.ready.remove(place)
                self._start(cell)
        if others and not self.told_of_others:
            self.told_of_others = True
            self.note("another run on this folder has cells under way: the work is shared")
        return others

    def _start(self, cell: Cell) -> None:
        self.begun[cell.key] += 1
        try:
            self.running[self.engine.submit(Job.of(cell, self.store))] = cell
        except self.engine.lost as error:
            self._begin_again(cell, f"it could not be handed out ({type(error).__name__})")

    def _gather(self, future: Future[Outcome], cell: Cell) -> None:
        """Take in how a cell ended."""
        try:
            outcome = future.result()
        except self.engine.lost as error:
            self._begin_again(cell, f"its worker was lost ({type(error).__name__}: killed, or out of memory)")
            return
        except Exception as error:
            # Whatever else an engine raises is of this cell alone: the others go on.
            outcome = failed(error)
        if outcome.kind == "done":
            self.locks.finish(cell.key)
            self.store.failure(cell.key).unlink(missing_ok=True)
            self._finish(cell, outcome.seconds)
        elif outcome.kind == "input":
            raise InputError(f"{cell.label}: {outcome.said}")
        elif outcome.kind == "damaged":
            self._mend(cell, outcome.said)
        else:
            self._fail(cell, outcome.said, outcome.trace)

    def _finish(self, cell: Cell, seconds: float) -> None:
        """Count a cell as finished and see what can begin now."""
        place = self.place[cell.key]
        if place in self.ready:
            self.ready.remove(place)
        self.open.discard(cell.key)
        self.moved = time.monotonic()
        self.report(cell, seconds)
        for other in self.needed_by[cell.key]:
            if other.key in self.open and cell.key in self.lacking[other.key]:
                self.lacking[other.key].remove(cell.key)
                if not self.lacking[other.key]:
                    insort(self.ready, self.place[other.key])

    def _begin_again(self, cell: Cell, why: str) -> None:
        if self.begun[cell.key] >= ATTEMPTS:
            self._fail(cell, f"{why}, {ATTEMPTS} times", "")
            return
        self.note(f"'{cell.label}': {why}; it begins again")
        self.store.clear_drafts(cell.key)
        self._start(cell)

    def _mend(self, cell: Cell, damaged: str) -> None:
        """A cell found that one it reads was damaged meanwhile: that one first, then this one again."""
        need = next(one for one in cell.needs.values() if one.key == damaged)
        why = f"'{need.label}', which it reads, is damaged"
        if self.begun[cell.key] >= ATTEMPTS:
            self._fail(cell, f"{why}, {ATTEMPTS} times", "")
            return
        self.note(f"'{cell.label}': {why}; that is computed anew")
        self.locks.give_back(cell.key)
        if damaged not in self.open:  # else another cell found it too, and it is under way
            self.store.forget([damaged])
            self.open.add(damaged)
            self.lacking[damaged] = set()
            insort(self.ready, self.place[damaged])
        self.lacking[cell.key].add(damaged)

    def _fail(self, cell: Cell, said: str, trace: str) -> None:
        self.locks.give_back(cell.key)
        self.failures[cell.key] = said
        self.note(f"failed: '{cell.label}': {said}")
        if trace:
            path = self.store.failure(cell.key)
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, f"{cell.label}\n{trace}")

    def settle_locks(self) -> None:
        """Leave no lock behind of a cell that was finished while the run was stopping."""
        for cell in self.running.values():
            if self.store.done(cell.key):
                self.locks.finish(cell.key)

    def summary(self) -> str:
        """Which cells failed and why, how many were left out with them, and how to go on."""
        named = [f"'{self.plan.cells[self.place[key]].label}' ({said})" for key, said in self.failures.items()]
        more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        left = len(self.open) - len(self.failures)
        behind = f", and {left} that need them" if left else ""
        traces = f"; how it came to that is in '{self.store.failures}'" if self.store.failures.is_dir() else ""
        return (
            f"{len(self.open)} of {len(self.plan.cells)} cells are missing: {'; '.join(named[:NAMED])}{more}{behind}; "
            f"all others are finished{traces}: run the same again to go on"
        )
