"""What a runs folder holds that no finished run of this schema needs, and freeing it.

1. A finished run names its cells in its manifest; whatever manifest of this schema, or a newer one, names is kept.
2. While anybody works on the folder, nothing is freed: which finished cells that work needs is written nowhere yet.
3. Where a run's manifest cannot be read, or its tables were left half written, what it needs is unknown: refused.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from analysis.locks import FREEING, Locks
from analysis.run_files import MANIFEST, read_json, require_sealed
from analysis.store import SCHEMA, SCHEMA_KEY, Store
from data.errors import InputError

Step = Callable[[int, int], None]
"""Told how many of how many cells were looked at, or freed."""


@dataclass(frozen=True)
class Waste:
    """What can be freed, and what is kept."""

    cells: tuple[str, ...]
    """Keys of cells that no run names."""
    drafts: tuple[Path, ...]
    """Folders that killed writers left half done."""
    failures: tuple[Path, ...]
    """Traces of cells that were computed since."""
    bytes: int
    kept: int
    """Cells that runs name."""
    runs: int
    """Finished runs that name them."""
    older: tuple[str, ...]
    """Runs of an older schema, whose cells this version does not read."""
    busy: bool
    """Whether somebody works on the folder, so that no cell is freed."""

    @property
    def sentence(self) -> str:
        """What can be freed, how much it is and what is kept, in words."""
        kept = f"{count(self.runs, 'finished run')} {'need' if self.runs != 1 else 'needs'} {count(self.kept, 'cell')}"
        if self.busy:
            return (
                f"a run is under way in this folder: no cell is freed, since which it needs is not written yet; "
                f"{kept}; {count(len(self.failures), 'old error trace')} ({size(self.bytes)}) not needed"
            )
        said = (
            f"not needed: {count(len(self.cells), 'cell')}, {count(len(self.drafts), 'draft')} of killed runs and "
            f"{count(len(self.failures), 'old error trace')}, {size(self.bytes)} in all; {kept}"
        )
        if self.older:
            said += f"; of an older schema, and not read by this version: {', '.join(self.older)}"
        return said


def find_waste(root: Path, on_cell: Step = lambda done, total: None, *, locks: Locks | None = None) -> Waste:
    """Look for what no finished run needs; nothing is removed.

    Args:
        root: the runs folder.
        on_cell: is told how far it is.
        locks: the caller's own, which do not count as work under way.

    Raises:
        InputError: there is no such folder, or what one of its runs needs cannot be known.
    """
    store = Store(root)
    if not root.is_dir():
        raise InputError(f"there is no runs folder '{root}': name one with --out")
    needed, runs, older = _needed(root)
    busy = bool((Locks(root) if locks is None else locks).live())
    there = [path for path in store.cells.iterdir() if path.is_dir()] if store.cells.is_dir() else []
    drafts = [] if busy else [path for path in there if path.name.startswith(".")]
    cells = [] if busy else [path for path in there if not path.name.startswith(".") and path.name not in needed]
    failures = [path for path in store.failures.glob("*.txt") if store.done(path.stem)]
    total = 0
    for place, path in enumerate((*cells, *drafts, *failures), start=1):
        total += _bytes(path)
        on_cell(place, len(cells) + len(drafts) + len(failures))
    return Waste(
        cells=tuple(sorted(path.name for path in cells)),
        drafts=tuple(sorted(drafts)),
        failures=tuple(sorted(failures)),
        bytes=total,
        kept=sum(path.name in needed for path in there),
        runs=runs,
        older=tuple(older),
        busy=busy,
    )


def free_waste(root: Path, on_found: Callable[[Waste], None], on_cell: Step = lambda done, total: None) -> Waste:
    """Remove what no finished run needs, after `on_found` was told how much that is; a run that starts now waits.

    Raises:
        InputError: as `find_waste`.
    """
    if not root.is_dir():
        raise InputError(f"there is no runs folder '{root}': name one with --out")
    store = Store(root)
    with Locks(root) as locks, locks.holding(FREEING):
        waste = find_waste(root, on_cell, locks=locks)
        on_found(waste)
        for place, key in enumerate(waste.cells, start=1):
            store.forget([key])
            on_cell(place, len(waste.cells))
        for draft in waste.drafts:
            shutil.rmtree(draft, ignore_errors=True)
        for trace in waste.failures:
            trace.unlink(missing_ok=True)
    return waste


def _needed(root: Path) -> tuple[set[str], int, list[str]]:
    """Keys that finished runs name, how many runs these are, and the runs of an older schema.

    Raises:
        InputError: what a run needs cannot be known.
    """
    needed: set[str] = set()
    runs, older = 0, []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if not (folder / MANIFEST).is_file():
            if any(folder.glob("*.parquet")):
                raise InputError(
                    f"run '{folder.name}': its tables were not written to the end, so which cells it needs is unknown: "
                    "run its study again, or remove its folder, and then free what is left"
                )
            continue
        manifest = read_json(folder, MANIFEST)
        require_sealed(folder, manifest)
        schema = manifest.get(SCHEMA_KEY)
        if not isinstance(schema, int) or schema < SCHEMA:
            older.append(folder.name)
            continue
        runs += 1
        needed |= set(map(str, manifest["cells"]))
    return needed, runs, older


def _bytes(path: Path) -> int:
    """Of a file, or of every file below a folder; links are counted as what they are."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(one.lstat().st_size for one in files if not one.is_dir())


def count(number: int, thing: str) -> str:
    """`1 cell`, `1,234 cells`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def size(number: int) -> str:
    """Bytes as read: `812 B`, `3.4 MB`."""
    value = float(number)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
