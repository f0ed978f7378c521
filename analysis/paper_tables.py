"""Tables for a paper, in LaTeX (booktabs) and Markdown: bold and marks follow corrected tests, never the eye.

1. Each repair is compared with its own unrepaired copy on the same entities, two-sided: paired sign flips of entities,
   and over several replicates the larger of that p and Student's t over replicates and entities; Holm over all repairs.
   * p < .05, ** p < .01, *** p < .001.
2. In each block (a compression) every variant is compared with the best in the same way, Holm over the block. Bold: the
   best, and all that cannot be told from it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis import reading, saying
from analysis.figures.source import READING, Source
from analysis.literal import for_latex, for_markdown
from analysis.paper import file_name, untaken
from analysis.reading import compact
from analysis.scopes import MAIN
from analysis.significance import holm, paired_p
from analysis.task_report import results_table
from analysis.task_scores import seeded
from data.errors import InputError

LEVEL = 0.05
STARS = ((0.001, "***"), (0.01, "**"), (LEVEL, "*"))
STARS_SAID = "* p < .05, ** p < .01, *** p < .001"
DECIDED = ("displaced", "relearned", "re-injected", "unreached")
ANSWERS = ["group", "split", "phrasing", "reading", "entity", "correct", "variant_id"]


@dataclass(frozen=True)
class PaperTable:
    """A table as plain text, and which of its cells are bold."""

    name: str
    caption: str
    cells: pd.DataFrame
    """The first column names the rows."""
    bold: pd.DataFrame
    """True where bold; columns that are not named have none."""
    blocks: list[str]
    """Of each row: a line is drawn between two that differ."""

    def _is_bold(self, place: int, column: str) -> bool:
        return column in self.bold and bool(self.bold[column].iloc[place])

    def markdown(self) -> str:
        """The table in Markdown."""
        heads = [for_markdown(name, starts=False) for name in self.cells.columns]
        lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (self.cells.shape[1] - 1)}"]
        for place, row in enumerate(self.cells.to_dict("records")):
            told = [
                f"**{text}**" if self._is_bold(place, str(name)) else text
                for name, text in ((name, for_markdown(cell, starts=False)) for name, cell in row.items())
            ]
            lines.append(f"| {' | '.join(told)} |")
        return "\n".join([*lines, "", for_markdown(self.caption), ""])

    def latex(self) -> str:
        """The table in LaTeX; it needs the package booktabs."""
        lines = [r"\begin{table}[t]", r"\centering", r"\small", rf"\caption{{{for_latex(self.caption)}}}"]
        lines += [rf"\label{{tab:{self.name}}}", rf"\begin{{tabular}}{{l{'r' * (self.cells.shape[1] - 1)}}}"]
        lines += [r"\toprule", rf"{' & '.join(map(for_latex, self.cells.columns))} \\", r"\midrule"]
        for place, row in enumerate(self.cells.to_dict("records")):
            if place and self.blocks[place] != self.blocks[place - 1]:
                lines.append(r"\midrule")
            told = [
                rf"\textbf{{{for_latex(cell)}}}" if self._is_bold(place, str(name)) else for_latex(cell)
                for name, cell in row.items()
            ]
            # The end of a row takes a star or a bracket that follows for its own.
            lines.append(rf"{'{}' if told[0].startswith(('*', '[')) else ''}{' & '.join(told)} \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _note(over: str, corrected: str) -> str:
    return (
        f"Marks: {over} differs from that of the same copy without repair (paired sign flips and t, Holm over "
        f"{corrected}: {STARS_SAID}). Bold: best of its compression and all that cannot be told from it (Holm over "
        "the block)."
    )


def _recovery(source: Source) -> Iterator[PaperTable]:
    """A table per scope and group: accuracy and bits on subjects read and unread."""
    answers = reading.read_table(source.run, "answers", ANSWERS)
    asked = answers[(answers["reading"] == READING) & (answers["phrasing"] == "measure") & (answers["split"] == "test")]
    recovery = source.table("recovery")
    for scope in source.scopes():
        own = recovery[recovery["scope"] == scope]
        blocks = own.drop_duplicates("variant").set_index("variant")["compression"]
        for group in source.groups(scope):
            cells = reading.recovery_rows(recovery, scope, group, READING).drop(columns="replicates").reset_index()
            tests = significance(asked[asked["group"] == group], source.variants(scope)).reindex(cells["variant"])
            cells["parameters_added"] = [f"{count:,}" for count in cells["parameters_added"]]
            marked = zip(cells["accuracy, test"], tests["mark"].fillna(""), strict=True)
            cells["accuracy, test"] = [f"{cell}{mark}" for cell, mark in marked]
            subjects = int(own.loc[own["group"] == group, "entities"].max())
            yield PaperTable(
                name=f"recovery-{scope}-{group}",
                caption=f"Recovery, scope {scope}, group {group}: best of the fixed candidates, 95 % intervals over "
                f"replicates and subjects (n up to {subjects}). " + _note("accuracy on test subjects", "the table"),
                cells=cells.rename(columns={"parameters_added": "parameters added"}),
                bold=pd.DataFrame({"accuracy, test": tests["best"].to_numpy()}),
                blocks=blocks[cells["variant"]].to_list(),
            )


def significance(answers: pd.DataFrame, variants: pd.DataFrame) -> pd.DataFrame:
    """Per variant: `p` (Holm) and its `mark` against its unrepaired copy, and whether it is not told from the `best`.

    `answers` has `variant_id`, `entity` and `correct`; entities are subjects of facts, or items of a task.
    """
    known = seeded(variants).merge(answers, on="variant_id").astype({"correct": float})
    rows = []
    for compression, block in known.groupby("compression", sort=False):
        tables = {
            str(name): part.pivot_table(index="seed", columns="entity", values="correct", observed=True)
            for name, part in block.groupby("variant", sort=False)
        }
        best = max(tables, key=lambda name: float(tables[name].mean().mean()))
        rivals = [name for name in tables if name != best]
        ps = [_p(tables[name], tables[best]) for name in rivals]
        away = holm(ps) if ps else np.array([])
        told = dict(zip(rivals, away, strict=True))
        for name, table in tables.items():
            # A copy without repair bears its compression's name.
            has_copy = compression in tables and name != compression
            p = _p(table, tables[str(compression)]) if has_copy else np.nan
            rows.append({"variant": name, "p": p, "best": bool(told.get(name, 1.0) >= LEVEL)})
    found = pd.DataFrame(rows, columns=["variant", "p", "best"]).set_index("variant")
    compared = found["p"].notna()
    if compared.any():
        found.loc[compared, "p"] = holm(found.loc[compared, "p"].to_list())
    return found.assign(mark=[_stars(p) for p in found["p"]])


def _p(ours: pd.DataFrame, theirs: pd.DataFrame) -> float:
    """Two-sided p over the entities that both have (rows are replicates, dense has one); 1 where none differs."""
    shared = ours.columns[ours.notna().all()].intersection(theirs.columns[theirs.notna().all()])
    first, second = (one[shared].to_numpy(dtype=float) for one in (ours, theirs))
    if len(first) != len(second):  # the one replicate that there is holds under all
        few, many = sorted((first, second), key=len)
        first, second = np.broadcast_to(few[:1], many.shape), many
    return 1.0 if np.array_equal(first, second) else paired_p(first, second, seed=0)


def _stars(p: float) -> str:
    return next((mark for level, mark in STARS if p < level), "")


def _tasks(source: Source) -> Iterator[PaperTable]:
    """A row per variant, a column per task and per text; marks as in the results table (analysis/task_report.py)."""
    compared, perplexity = source.compared_tasks, source.perplexities
    cells = results_table(compared, perplexity)
    items, variants = source.table("tasks"), source.variants()
    items = items[items["plan"] == "main"].rename(columns={"item": "entity"})
    order = list(cells.index)
    blocks = variants.drop_duplicates("variant").set_index("variant")["compression"]
    bold = pd.DataFrame(
        {
            str(task): significance(own, variants).reindex(order)["best"].eq(True).to_numpy()
            for task, own in items.groupby("task", sort=False)
        }
    )
    yield PaperTable(
        name="tasks",
        caption="Accuracy on tasks, 95 % intervals over replicates and items (n = "
        f"{compared['items'].min()} to {compared['items'].max()}). Marks: * differs from dense, † from the same copy "
        "without repair (p < .05, Holm over variants and tasks). Bold: best of its compression on the task and all "
        "that cannot be told from it (paired sign flips and t, Holm over the block).",
        cells=cells.fillna("").rename_axis("variant").reset_index(),
        bold=bold,
        blocks=blocks[order].to_list(),
    )


def _evidence(source: Source) -> Iterator[PaperTable]:
    """A row per setting: the decision, the account and the p that decides, as the verdict corrected it."""
    settings = [*source.verdict["settings"], *source.verdict["controls"]]
    if not settings:
        raise InputError("the verdict holds no setting: name repairs under `reported` in the study")
    rows = []
    for one in settings:
        account = {
            words: compact(found["estimate"], found["lower"], found["upper"]) if found else ""
            for words, found in ((words, one[f"{name}_bits"]) for name, words in saying.QUANTITIES.items())
        }
        p = max((each["p_corrected"] for each in one["predictions"]), default=np.nan)
        told = "" if np.isnan(p) else f"{p:.3f}{_stars(p)}"
        rows.append({"setting": saying.place_of(one), "decision": one["decision"]} | account | {"p": told})
    cells = pd.DataFrame(rows)
    subjects = max((each["n"] for one in settings for each in one["predictions"]), default=0)
    yield PaperTable(
        name="evidence",
        caption="The four-way account in bits per fact on test subjects, 95 % intervals over replicates and subjects "
        f"(n up to {subjects}); p: the largest over all comparisons, Holm over settings ({STARS_SAID}). Bold: the "
        "evidence decides.",
        cells=cells,
        bold=pd.DataFrame({"decision": cells["decision"].isin(DECIDED)}),
        blocks=[one["compression"] if one["scope"] == MAIN else one["scope"] for one in settings],
    )


TABLES = {"recovery": _recovery, "tasks": _tasks, "evidence": _evidence}


def paper_tables(source: Source, names: Sequence[str] = ()) -> tuple[list[PaperTable], dict[str, str]]:
    """Every table that the run has data for, or those named, and why the others are left out."""
    found: list[PaperTable] = []
    left_out: dict[str, str] = {}
    for name, make in TABLES.items():
        if names and name not in names:
            continue
        try:
            for table in make(source):
                name = untaken(file_name(table.name, ""), {other.name for other in found})
                found.append(replace(table, name=name))
        except InputError as error:
            left_out[f"table {name}"] = str(error).removeprefix(f"run '{source.run.name}': ")
    return found, left_out
