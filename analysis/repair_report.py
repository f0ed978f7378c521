"""The repair table and the selector table of a finished run, for the terminal or as Markdown for the docs.

Every figure is in the run's tables already; latency ratios come from a file of `python -m benchmarks --only latency`.
"""

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from analysis.reading import compact, read_table, recovery_rows
from data.errors import InputError

LATENCY = ("prefill", "decode")
BATCHES = (1, 8)


def repair_table(run: Path, scope: str, group: str, latency: Path | None = None) -> pd.DataFrame:
    """One row per variant: accuracy and bits with intervals, sizes, what is equal, and latency ratios where given."""
    recovery, variants = read_table(run, "recovery"), read_table(run, "variants")
    rows = recovery_rows(recovery, scope, group, "candidates").drop(columns="replicates")
    first = variants[variants["scope"] == scope].drop_duplicates("variant").set_index("variant")
    about = first.loc[rows.index]
    rows = rows.assign(bytes=about["bytes_added"], tokens_seen=about["tokens_seen"], steps=about["steps"])
    rows = rows.assign(equal=about["budget"].fillna(""))
    if latency is not None:
        ratios = read_latency(latency)
        for phase in LATENCY:
            for batch in BATCHES:
                told = [_ratio(ratios, phase, batch, kind, repair) for kind, repair in _named(about)]
                rows[f"{phase}, batch {batch}"] = told
    return rows


def _named(about: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(about["kind"], about["repair"], strict=True))


def read_latency(path: Path) -> dict[str, str]:
    """Ratios by name from the CSV that the benchmark writes.

    Raises:
        InputError: it is not there, or no such file.
    """
    try:
        table = pd.read_csv(path, dtype=str)
        return dict(zip(table["benchmark"], table["ratio"], strict=True))
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"latency '{path}' cannot be read ({type(error).__name__}): write it with "
            "`python -m benchmarks --only latency --out FILE.csv`"
        ) from None


def _forms(phase: str, kind: str, repair: str) -> dict[str, str]:
    """The forms that a repair of this kind can have at inference, with the benchmark's name of each."""
    if kind in ("prompt", "ptuning", "quantised", "sparse", "placebo"):
        return {"": "prompt", " as tokens": "prompt_as_tokens"}
    if kind == "lora":
        return {"": "lora", " merged": "lora_merged"}
    if kind == "idp" and "-on-" not in repair:
        # Once it has chosen, it decodes as one prompt does.
        name = repair.rsplit("-", 1)[-1]
        return {"": "prompt" if phase == "decode" else f"idp_{name}"}
    return {}


def _ratio(ratios: dict[str, str], phase: str, batch: int, kind: str, repair: str) -> str:
    """The benchmark's ratios of a repair of this kind to the compressed model, and of each form it can have."""
    told = [(ratios.get(f"{phase}_{name}_batch_{batch}"), form) for form, name in _forms(phase, kind, repair).items()]
    return ", ".join(f"{ratio}{form}" for ratio, form in told if ratio is not None)


def latency_of(ratios: dict[str, str], variants: pd.DataFrame) -> dict[str, float]:
    """Prefill of one question as a ratio to the compressed model, by repair as it is made; without one it is 1."""
    found = {"": 1.0}
    for kind, repair in variants[["kind", "repair"]].drop_duplicates().itertuples(index=False):
        name = _forms("prefill", kind, repair).get("")
        if name is not None and (ratio := ratios.get(f"prefill_{name}_batch_{BATCHES[0]}")) is not None:
            found[repair] = float(ratio)
    return found


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


def show_repairs(console: Console, run: Path, *, latency: Path | None = None, markdown: bool = False) -> None:
    """Print the repair table and the selector table of every scope and group."""
    recovery = read_table(run, "recovery")
    for scope, group in recovery[["scope", "group"]].drop_duplicates().itertuples(index=False):
        show_rows(
            console, f"Repairs: {scope}, {group}", repair_table(run, scope, group, latency).reset_index(), markdown
        )
        selectors = selector_rows(run, scope, group)
        if len(selectors):
            show_rows(console, f"Choices among prompts: {scope}, {group}, test subjects", selectors, markdown)
    notes = [
        "Best of the fixed candidates; 95 % intervals over replicates and subjects; bits per fact, calibrated. Equal: "
        "what a tuned repair has in common with the budget's reference over the same parent.",
        "Dealt out: the mean when a bank's choices are dealt out to other items; p, one-sided, 2,000 permutations, not "
        "corrected. The mixture keeps all prompts and the oracle knows answers: a bound.",
    ]
    if latency is not None:
        notes.append(
            f"Latency: ratios to the compressed model of the benchmark in the same run ({latency.name}), for the "
            "benchmark's own model and prompts of its own length."
        )
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def show_rows(console: Console, title: str, rows: pd.DataFrame, markdown: bool) -> None:
    """One table under its title."""
    shown = [[_cell(one) for one in row] for row in rows.itertuples(index=False)]
    names = [str(name).replace("_", " ") for name in rows.columns]
    if markdown:
        lines = [f"### {title}", "", _line(names), _line(["---"] * len(names)), *map(_line, shown), ""]
        console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
        return
    table = Table(title=title, title_justify="left")
    for place, name in enumerate(names):
        table.add_column(name, no_wrap=not place, justify="left" if not place else "right")
    for row in shown:
        table.add_row(*row)
    console.print(table)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: object) -> str:
    return f"{int(value):,}" if isinstance(value, int | float) and not pd.isna(value) else str(value)
