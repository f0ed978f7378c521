"""Figures of standard tasks: every variant on every task, and perplexity against what the tasks say."""

import numpy as np
import pandas as pd
from plotly.subplots import make_subplots

from analysis.figures.entry import Drawn, RunFigure
from analysis.figures.figure import Figure
from analysis.figures.source import Source
from analysis.literal import for_plotly
from analysis.look import (
    GREY,
    colour_of,
    dashes_of,
    dress,
    label_bottom,
    panels_of,
    rows_of,
)
from analysis.marks import Marks, apart, error_bars, name_rows
from analysis.task_scores import ALL
from data.errors import InputError


def task_scores(compared: pd.DataFrame) -> pd.DataFrame:
    """One row per variant and task, and over all tasks together: accuracy with its 95 % interval.

    `compared` is `task_report.compare_tasks`. Columns: variant, compression, repair, task, domain, value, lower, upper,
    items, replicates.
    """
    columns = ["variant", "compression", "repair", "task", "domain", "score", "lower", "upper", "items", "replicates"]
    return compared.drop_duplicates(["variant", "task"])[columns].rename(columns={"score": "value"})


def tasks_figure(scores: pd.DataFrame) -> Figure:
    """On which task does a repair bring back what compression took?

    A panel per compression, a row per task, a mark per repair with its 95 % interval.
    """
    names, repairs = list(dict.fromkeys(scores["task"])), list(dict.fromkeys(scores["repair"]))
    figure, panels = panels_of(scores["compression"])
    marks = Marks(figure, repairs, size=8)
    for _, row in scores.iterrows():
        marks.add(
            row,
            for_plotly(f"{row['variant']}, {row['task']}")
            + f": %{{x:.3f}} [{row['lower']:.3f}, {row['upper']:.3f}]<br>{row['items']} items",
            panels[row["compression"]],
            x=[row["value"]],
            y=[names.index(row["task"]) + apart(repairs.index(row["repair"]), len(repairs))],
            error_x=error_bars(row),
        )
    label_bottom(figure, "accuracy (share right)")
    # One scale in every panel: compressions are compared across panels.
    figure.update_xaxes(tickformat=".1f", nticks=6, range=[scores["lower"].min() - 0.02, scores["upper"].max() + 0.02])
    name_rows(figure, names, down=True)
    dress(
        figure,
        title="Tasks",
        subtitle=f"95 % intervals over replicates and items; n = {scores['items'].min()} to {scores['items'].max()} "
        f"items per task, {scores['replicates'].max()} replicates",
        height=170 + (40 + 58 * len(names)) * rows_of(panels),
    )
    return Figure(figure, scores)


def perplexity_figure(perplexity: pd.DataFrame, accuracy: pd.DataFrame, of: str) -> Figure:
    """Does perplexity tell what happened to the answers?

    A panel per text; a mark per variant at its perplexity and its accuracy (`of`: on what), joined by its compression's
    dash to the copy without a repair: a line that leans left and down got better in perplexity and worse in answers.
    `perplexity` is `task_report.perplexities`; `accuracy` has a row per variant with variant, compression, repair and
    value.
    """
    data = accuracy[["variant", "compression", "repair", "value"]].merge(
        perplexity[["variant", "text", "perplexity", "lower", "upper", "documents"]], on="variant"
    )
    if data.empty:
        raise InputError(f"table 'perplexity' has no variant whose accuracy on {of} is known")
    texts = list(dict.fromkeys(data["text"]))
    figure = make_subplots(
        rows=1,
        cols=len(texts),
        subplot_titles=[for_plotly(text) for text in texts],
        shared_yaxes=True,
        horizontal_spacing=0.04,
    )
    marks, dashes = Marks(figure, data["repair"], size=9), dashes_of(data["compression"])
    for (text, compression), rows in data.groupby(["text", "compression"], sort=False):
        place = {"row": 1, "col": texts.index(str(text)) + 1}
        bare = rows[rows["repair"] == ""]
        for _, row in rows.iterrows():
            repair = row["repair"]
            if len(bare) and repair:
                figure.add_scatter(
                    x=[bare["perplexity"].iloc[0], row["perplexity"]],
                    y=[bare["value"].iloc[0], row["value"]],
                    mode="lines",
                    line={"color": colour_of(repair), "width": 1.2, "dash": dashes[str(compression)]},
                    showlegend=False,
                    hoverinfo="skip",
                    **place,
                )
            marks.add(
                row,
                f"{for_plotly(row['variant'])}: perplexity %{{x:.3g}}, accuracy %{{y:.3f}}",
                place,
                x=[row["perplexity"]],
                y=[row["value"]],
                error_x=error_bars(row.drop("value").rename({"perplexity": "value"})) | {"thickness": 1},
            )
    for compression, dash in dashes.items():
        if compression in set(data["compression"]):
            figure.add_scatter(
                x=[None], y=[None], mode="lines", line={"color": GREY, "dash": dash}, name=for_plotly(compression)
            )
    spread = float(np.log10(data["perplexity"].max() / data["perplexity"].min()))
    figure.update_xaxes(title="perplexity", type="log" if spread > 1 else "linear", nticks=5)
    if spread > 1:  # plotly would write the powers of ten large and the digits between them alone
        ticks = [digit * 10.0**power for power in range(0, 7) for digit in (1, 2, 5)]
        figure.update_xaxes(tickvals=ticks, ticktext=[f"{tick:,.0f}" for tick in ticks])
    figure.update_yaxes(title=f"accuracy, {for_plotly(of)}", tickformat=".2~g", col=1)
    dress(
        figure,
        title="Perplexity against answers",
        subtitle=f"perplexity of a token with 95 % intervals, n = {data['documents'].min()} to "
        f"{data['documents'].max()} documents; lines join a repair to its copy without one",
        height=500,
    )
    return Figure(figure, data)


def _tasks(source: Source) -> Drawn:
    yield "", tasks_figure(task_scores(source.compared_tasks))


def _perplexity(source: Source) -> Drawn:
    source.table("perplexity")  # which says why where there is none
    scores = task_scores(source.compared_tasks)
    whole = scores[scores["task"] == ALL] if ALL in set(scores["task"]) else scores
    yield "", perplexity_figure(source.perplexities, whole, "all tasks")


TASKS = RunFigure(
    name="tasks",
    question="on which task does a repair bring back what compression took?",
    draw=_tasks,
    tables=("tasks", "variants"),
)
PERPLEXITY = RunFigure(
    name="perplexity",
    question="does perplexity tell what happened to the answers?",
    draw=_perplexity,
    tables=("perplexity", "tasks", "variants"),
)
