"""A run's results on standard tasks as people read them, printed or as Markdown; `analysis/task_scores.py` computes."""

from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from analysis.reading import compact, p_words, read_table
from analysis.repair_report import show_rows
from analysis.task_scores import POOLED, REFERENCES, compared_of, floors, perplexities


def results_table(compared: pd.DataFrame, perplexity: pd.DataFrame) -> pd.DataFrame:
    """Scores by variant (rows) and task, perplexity beside them.

    A star stands at a score that differs from dense, a dagger at one that differs from the parent (p < .05 after Holm).
    """
    cells: dict[str, dict[str, str]] = {}
    for (variant, task), part in compared.groupby(["variant", "task"], sort=False):
        one = part.iloc[0]
        found = dict(zip(part["reference"], part["p_holm"], strict=True))
        marks = "".join(mark for name, mark in zip(REFERENCES, "*†", strict=True) if found.get(name, 1.0) < 0.05)
        cells.setdefault(variant, {})[task] = compact(one["score"], one["lower"], one["upper"]) + marks
    table = pd.DataFrame(cells).T
    for one in perplexity.itertuples():
        table.loc[one.variant, f"perplexity, {one.text}"] = f"{one.perplexity:.1f} [{one.lower:.1f}, {one.upper:.1f}]"
    return table


COMPARED = {
    **{"task": "task", "variant": "variant", "score": "right", "score_norm": "right by length"},
    **{"reference": "against", "items": "items"},
    **{"difference": "difference", "lost": "lost", "won": "won", "alike": "alike", "p": "p", "p_holm": "p, Holm"},
    **{"items_needed": "items needed", "cut": "cut"},
}
"""Columns of the table of comparisons, as stored and as shown."""


def shown(compared: pd.DataFrame) -> pd.DataFrame:
    """The comparisons as text."""
    told = compared[compared["reference"] != ""]
    difference = [compact(*row) for row in told[["difference", "difference_lower", "difference_upper"]].to_numpy()]
    needed = ["never" if not np.isfinite(one) else f"{one:,.0f}" for one in told["items_needed"]]
    table = told.assign(
        score=told["score"].map("{:.2f}".format),
        score_norm=["" if np.isnan(one) else f"{one:.2f}" for one in told["score_norm"]],
        difference=difference,
        items_needed=needed,
        alike=told["alike"].map("{:.2f}".format),
        p=told["p"].map(p_words),
        p_holm=told["p_holm"].map(p_words),
    )
    return table[list(COMPARED)].rename(columns=COMPARED)


def show_tasks(console: Console, run: Path, *, markdown: bool = False) -> None:
    """Print a run's results on tasks, every comparison, and the floor."""
    compared = compared_of(run)
    scores = results_table(compared, perplexities(read_table(run, "perplexity"), read_table(run, "variants")))
    show_rows(console, "Tasks: share right", scores.rename_axis("variant").reset_index().fillna(""), markdown)
    _say(console, "95 % intervals over items. * differs from dense, † from the parent: p < .05 after Holm.")
    show_rows(console, "Compared item by item", shown(compared), markdown)
    _say(
        console,
        "lost, won: right answers that the reference had and that only the variant has. alike: answered as the "
        "reference did. right by length: the choice whose log-likelihood is greatest per character, where lm-eval "
        "scores that too. items needed: for a difference as large as found, power .8 at .05 before correction. cut: "
        "items whose context lost tokens to the window. Holm over tasks and variants of one reference; the pooled rows "
        "among themselves.",
    )
    for task, part in compared[~compared["task"].isin(POOLED)].drop_duplicates(["variant", "task"]).groupby("task"):
        if part["cut"].any():
            told = ", ".join(f"{one.variant} {one.cut}" for one in part[part["cut"] > 0].itertuples())
            _say(console, f"Cut to the window, {task}: {told}.")
    for one in floors(read_table(run, "tasks")).itertuples():
        _say(
            console,
            f"Floor, {one.task}: in another batch plan dense answers {one.flips} of {one.items} items otherwise.",
        )


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
