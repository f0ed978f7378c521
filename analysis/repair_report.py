"""The repair table and the selector table of a finished run, for the terminal or as Markdown for the docs.

Every figure is in the run's tables already; latency ratios where they were timed (`analysis/latency.py`).
"""

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.literal import for_markdown
from analysis.reading import MERGED, compact, read_latency, read_table, recovery_rows
from analysis.selection import DRAWS, RESAMPLES

PHASES = ("prefill", "decode")


def repair_table(run: Path, scope: str, group: str) -> pd.DataFrame:
    """One row per variant: accuracy and bits with intervals, sizes, what is equal, and latency ratios if timed."""
    recovery, variants = read_table(run, "recovery"), read_table(run, "variants")
    rows = recovery_rows(recovery, scope, group, "candidates").drop(columns="replicates")
    first = variants[variants["scope"] == scope].drop_duplicates("variant").set_index("variant")
    about = first.loc[rows.index]
    rows = rows.assign(bytes=about["bytes_added"], tokens_seen=about["tokens_seen"], steps=about["steps"])
    rows = rows.assign(equal=about["budget"].fillna(""))
    latency = read_latency(run)
    if latency is not None:
        for phase in PHASES:
            for batch in sorted(set(latency["batch"])):
                rows[f"{phase}, batch {batch}"] = [_told(latency, phase, batch, one) for one in about["repair"]]
    return rows


def _told(latency: pd.DataFrame, phase: str, batch: int, repair: str) -> str:
    """The ratios of a repair to the unrepaired model, each form that it can have."""
    own = latency[(latency["phase"] == phase) & (latency["batch"] == batch) & (latency["repair"] == repair)]
    return ", ".join(f"{row.ratio:.2f} {row.form}".strip() for row in own.itertuples())


def latency_of(latency: pd.DataFrame) -> dict[str, float]:
    """Prefill of one question as a ratio to the unrepaired model, by repair as it is scored; without one it is 1."""
    own = latency[(latency["phase"] == "prefill") & (latency["batch"] == 1) & (latency["form"] == "")]
    return {"": 1.0} | dict(zip(own["repair"], own["ratio"].astype(float), strict=True))


def timing_scatter(latency: pd.DataFrame) -> float | None:
    """How far from 1 the same computation was timed: LoRA merged into the weights; None where none was merged."""
    same = latency[(latency["phase"] == "prefill") & (latency["batch"] == 1) & (latency["form"] == MERGED)]
    return None if same.empty else float((same["ratio"].astype(float) - 1).abs().max())


def selector_rows(run: Path, scope: str, group: str) -> pd.DataFrame:
    """One row per bank and selector: the right answer's log-probability, what dealing choices out gives, and p."""
    selectors, variants = read_table(run, "selectors"), read_table(run, "variants")
    if "selector" not in selectors:
        return pd.DataFrame()
    known = variants[variants["scope"] == scope].set_index("variant_id")["variant"]
    part = selectors[(selectors["group"] == group) & (selectors["measure"] == "log_prob")]
    part = part[part["variant_id"].isin(known.index)]
    found = []
    for row in part.to_dict("records"):
        found.append(
            {
                "bank": known[row["variant_id"]],
                "selector": row["selector"],
                "cost": row["cost"],
                "log-probability, nats": compact(row["value"], row["lower"], row["upper"]),
                "dealt out": _bare(row["expected"]),
                "p": _p(row["p"]),
                "p within relation": _p(row["p_within_relation"]),
                "beyond best single": compact(
                    row["minus_best_single"], row["minus_best_single_lower"], row["minus_best_single_upper"]
                ),
                "right prompt": ""
                if pd.isna(row["own_prompt"])
                else compact(row["own_prompt"], row["own_prompt_lower"], row["own_prompt_upper"]),
            }
        )
    return pd.DataFrame(found)


def _bare(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.2f}"


def _p(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.4f}"


def show_repairs(console: Console, run: Path, *, markdown: bool = False) -> None:
    """Print the repair table and the selector table of every scope and group."""
    recovery = read_table(run, "recovery")
    for scope, group in recovery[["scope", "group"]].drop_duplicates().itertuples(index=False):
        show_rows(console, f"Repairs: {scope}, {group}", repair_table(run, scope, group).reset_index(), markdown)
        selectors = selector_rows(run, scope, group)
        if len(selectors):
            show_rows(console, f"Choices among prompts: {scope}, {group}, test subjects", selectors, markdown)
    notes = [
        "Best of the fixed candidates; 95 % intervals over replicates and subjects; bits per fact, calibrated. Equal: "
        "what a tuned repair has in common with the budget's reference over the same parent.",
        f"Dealt out: the mean when a bank's choices are dealt out to other items; p, one-sided, {RESAMPLES:,} "
        f"permutations, not corrected. The random choice is told over {DRAWS} draws; the mixture keeps all prompts; "
        "the oracle picks by the right answers to another phrasing: no choice for use, and no upper bound.",
    ]
    if (latency := read_latency(run)) is not None:
        first = latency.iloc[0]
        notes.append(
            f"Prefill and decode: time as a ratio to {first['compression']} without a repair, timed in one go on this "
            f"run's own variants, {first['tokens']} content tokens a row, median of {first['rounds']} rounds."
        )
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def show_rows(console: Console, title: str, rows: pd.DataFrame, markdown: bool) -> None:
    """One table under its title."""
    shown = [[_cell(one) for one in row] for row in rows.itertuples(index=False)]
    names = [str(name).replace("_", " ") for name in rows.columns]
    if markdown:
        lines = [
            f"### {for_markdown(title, starts=False)}",
            "",
            _line(names),
            _line(["---"] * len(names)),
            *map(_line, shown),
            "",
        ]
        console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
        return
    table = Table(title=escape(title), title_justify="left")
    for place, name in enumerate(names):
        table.add_column(escape(name), no_wrap=not place, justify="left" if not place else "right")
    for row in shown:
        table.add_row(*map(escape, row))
    console.print(table)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(for_markdown(cell, starts=False) for cell in cells)} |"


def _cell(value: object) -> str:
    return f"{int(value):,}" if isinstance(value, int | float) and not pd.isna(value) else str(value)
