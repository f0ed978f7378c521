"""What the command line prints: the recovery table and the verdict."""

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.predictions.registry import predictions_sha
from analysis.reading import (
    GROUP_NOTE,
    compact,
    p_words,
    place_of,
    read_manifest,
    read_table,
    read_verdict,
    recovery_rows,
)
from analysis.task_report import show_tasks

LOOK: dict[str, Any] = {"title_justify": "left", "box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0)}
WIDEST = 140
"""Columns of a table of intervals; in a narrower terminal its cells are folded, never cut."""


def show(console: Console, folder: Path) -> None:
    """Print the recovery table of each scope and group, then the verdict."""
    recovery = read_table(folder, "recovery")
    manifest = read_manifest(folder)
    for scope, group in recovery[["scope", "group"]].drop_duplicates().itertuples(index=False):
        rows = recovery_rows(recovery, scope, group, "candidates")
        table = Table(title=escape(f"{scope}, {group} people: {GROUP_NOTE.get(group, '')}"), **LOOK)
        table.add_column("variant", overflow="fold")
        for column in rows.columns:
            header = column.replace(", ", "\n").replace("_", "\n")
            table.add_column(header, justify="right", no_wrap=console.width >= WIDEST)
        for variant, *figures in rows.itertuples():
            table.add_row(escape(variant), *(f"{one:,}" if isinstance(one, int) else str(one) for one in figures))
        console.print(table)
    console.print(
        "Best of the fixed candidates; 95 % intervals over replicates and subjects; bits per fact, calibrated."
    )
    if manifest["study"]["tasks"] is not None:
        show_tasks(console, folder)
    if manifest["note"]:
        console.print(f"Note: {manifest['note']}.", markup=False)
    show_verdict(console, read_verdict(folder))


def show_verdict(console: Console, verdict: dict[str, Any]) -> None:
    """Print each setting's decision, account and reasons."""
    for title, entries in (("Verdict", verdict["settings"]), ("Controls (truth known)", verdict["controls"])):
        if not entries:
            continue
        table = Table(title=title, **LOOK)
        for column in ("setting", "decision", "expressed", "redirected", "relearned", "unreached", "p"):
            table.add_column(column, no_wrap=column != "setting")
        for one in entries:
            figures = [
                compact(found["estimate"], found["lower"], found["upper"]) if (found := one[f"{name}_bits"]) else "-"
                for name in ("expressed", "redirected", "relearned", "unreached")
            ]
            p = p_words(one["predictions"][0]["p_corrected"]) if one["predictions"] else "-"
            table.add_row(escape(place_of(one)), one["decision"], *figures, p)
        console.print(table)
        for reason, places in _shared_reasons(entries).items():
            console.print(f"  {reason}: {', '.join(places)}", markup=False, highlight=False)
    for one in verdict["reinjections"]:
        gain = one["gain_bits"]
        console.print(
            f"  {place_of(one)}: {one['decision']}, {compact(gain['estimate'], gain['lower'], gain['upper'])} bits put "
            f"back; {one['reasons'][0]}",
            markup=False,
            highlight=False,
        )
    show_further(console, verdict)


def show_further(console: Console, verdict: dict[str, Any]) -> None:
    """Say how many predictions stand beside those that decide, and whether they were written down before the run."""
    if verdict["predictions_sha"] != predictions_sha():
        console.print(
            "what is predicted (analysis/predictions) has changed since this run: it was not written down before it, "
            "so no test of the present predictions can be concluded from it; run the study again",
            markup=False,
        )
    beside = [found for one in verdict["settings"] for found in one["further_predictions"]]
    tested = {found["name"] for found in beside if found["estimate"] is not None}
    untested = sorted({found["name"] for found in beside} - tested)
    if beside:
        console.print(
            f"Beside what decides, in report.md: {', '.join(sorted(tested))}; and {len(verdict['claims'])} claims of "
            f"the paper. Not tested: {', '.join(untested) or 'none'}.",
            markup=False,
            highlight=False,
        )


def _shared_reasons(entries: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Every reason once, with the settings that it holds for."""
    found: dict[str, list[str]] = {}
    for one in entries:
        for reason in one["reasons"]:
            found.setdefault(reason, []).append(place_of(one))
    return found
