"""`python -m benchmarks`: what Palimpsest costs, as ratios within one run; a missed target is said, never hidden."""

import csv
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from analysis.store import write_atomically
from benchmarks.drift import drift_ratios, memory_ratios
from benchmarks.engine import engine_ratios
from benchmarks.kills import demo_kill_counts, kill_counts
from benchmarks.latency import latency_ratios
from benchmarks.measure import Ratio
from benchmarks.models import Bench
from benchmarks.pages import page_seconds
from benchmarks.sizes import SUBJECTS, size_ratios
from benchmarks.tasks import task_ratios

BENCHMARKS: dict[str, Callable[[int], dict[str, Ratio]]] = {
    "latency": latency_ratios,
    "drift": drift_ratios,
    "memory": memory_ratios,
    "tasks": task_ratios,
    "engine": engine_ratios,
    "pages": page_seconds,
    "kills": kill_counts,
    "demo_kills": demo_kill_counts,
    **{name: partial(size_ratios, name) for name in SUBJECTS},
}
ON_REQUEST = ("pages", "kills", "demo_kills", *SUBJECTS)
"""What needs a finished run and a browser, takes half an hour and measures no speed, or takes 14 GB a copy."""
KEPT = Path("runs/bench.json")
COLUMNS = ("benchmark", "ratio", "target", "met", "unit", "against")


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"{', '.join(BENCHMARKS)}; the last five if told")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="interleaved repetitions; the median counts")] = 5,
    out: Annotated[Path | None, typer.Option(help="a CSV file for the table")] = None,
) -> None:
    """Run the benchmarks and print their ratios."""
    names = only or [name for name in BENCHMARKS if name not in ON_REQUEST]
    if unknown := set(names) - set(BENCHMARKS):
        raise typer.BadParameter(f"no benchmark is called {', '.join(sorted(unknown))}; there are {list(BENCHMARKS)}")
    console = Console(width=150)
    found: dict[str, Ratio] = {}
    for name in names:
        Console(stderr=True).print(f"{name}: {names.index(name) + 1} of {len(names)}", highlight=False)
        found |= BENCHMARKS[name](rounds)
    table = Table(title=f"Ratios, median of {rounds} rounds; model: {Bench.open().source}", title_justify="left")
    for column in COLUMNS:
        table.add_column(column)
    rows = [_row(name, ratio) for name, ratio in found.items()]
    for row in rows:
        table.add_row(*row)
    console.print(table)
    _keep(found)
    if out is not None:
        with out.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


def _keep(found: dict[str, Ratio]) -> None:
    """Write the figures beside those of benchmarks that were not run this time."""
    KEPT.parent.mkdir(exist_ok=True)
    held = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}
    write_atomically(KEPT, json.dumps(held | {name: asdict(one) for name, one in found.items()}, indent=1) + "\n")


def _row(name: str, ratio: Ratio) -> tuple[str, ...]:
    target = "" if ratio.target is None else f"{ratio.target:.2f}"
    met = "" if ratio.target is None else "yes" if ratio.met else "missed"
    return name, f"{ratio.value:.2f}", target, met, ratio.unit, ratio.baseline


if __name__ == "__main__":
    typer.run(main)
