"""Figures of the recovery table: accuracy before and after, its cost in parameters, and which answers turned over."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures.entry import Drawn, RunFigure
from analysis.figures.figure import Figure
from analysis.figures.source import READING, Source
from analysis.literal import for_plotly
from analysis.look import (
    GREY,
    NO_REPAIR,
    both_ways,
    colour_of,
    dress,
    label_bottom,
    marker,
    panels_of,
    reading_words,
    rows_of,
    symbols_of,
)
from analysis.marks import Marks, error_bars, name_rows, paired_marks, whiskers
from analysis.scopes import MAIN


def recovery_figure(
    recovery: pd.DataFrame,
    scope: str,
    group: str,
    reading: str,
    split_pair: tuple[str, str] = ("tune", "test"),
    *,
    chance: float | None = None,
) -> Figure:
    """Is what compression damaged answered again, and by subjects the repair never saw?

    Accuracy of every variant with its 95 % interval, a panel per compression, subjects tuned on (open) beside subjects
    held out (filled); lines mark chance, where there is one, and the dense model on held-out subjects.
    """
    part = recovery[(recovery["scope"] == scope) & (recovery["group"] == group) & (recovery["reading"] == reading)]
    data = part[(part["measure"] == "accuracy") & part["split"].isin(split_pair)].reset_index(drop=True)
    words = {name: f"{name} subjects" for name in split_pair}
    figure, panels = paired_marks(data, "split", words)
    rows = data["repair"].nunique()
    _recovery_lines(figure, data, panels, rows, split_pair[1], chance)
    counts = data.groupby("split")["entities"].max()
    subjects = ", ".join(f"{counts.get(name, 0)} {name}" for name in split_pair)
    dress(
        figure,
        title=f"Accuracy, group {group}, {reading_words(reading)}",
        subtitle=f"95 % intervals over replicates and subjects; n = {subjects} subjects",
        height=200 + (50 + 42 * rows) * rows_of(panels),
    )
    return Figure(figure, data)


def _recovery_lines(
    figure: go.Figure, data: pd.DataFrame, panels: dict[str, Any], rows: int, held_out: str, chance: float | None
) -> None:
    """Vertical lines in every panel: chance, and the dense model on held-out subjects."""
    dense = data[(data["compression"] == "dense") & (data["repair"] == "") & (data["split"] == held_out)]
    lines = [(f"dense, no repair, {held_out} subjects", float(dense["value"].iloc[0]), "solid")] if len(dense) else []
    lines += [(f"chance ({chance:.2f})", chance, "dot")] if chance is not None else []
    for name, value, dash in lines:
        for place, panel in enumerate(panels.values()):
            figure.add_scatter(
                x=[value, value],
                y=[-0.5, rows - 0.5],
                mode="lines",
                line={"color": GREY, "width": 1.2, "dash": dash},
                name=for_plotly(name),
                legendgroup=name,
                showlegend=place == 0,
                hoverinfo="skip",
                **panel,
            )


def parameters_figure(recovery: pd.DataFrame, scope: str, group: str, reading: str, split: str = "test") -> Figure:
    """What does an answer that comes back cost in parameters?

    Accuracy on subjects no repair read, with 95 % intervals, by the parameters a repair adds; a panel per compression.
    Those that add none stand at the left edge, apart.
    """
    part = recovery[(recovery["scope"] == scope) & (recovery["group"] == group) & (recovery["reading"] == reading)]
    data = part[(part["measure"] == "accuracy") & (part["split"] == split)].reset_index(drop=True)
    figure, panels = panels_of(data["compression"])
    added = data.loc[data["parameters_added"] > 0, "parameters_added"]
    decade = int(np.floor(np.log10(added.min()))) - 1 if len(added) else 0
    marks = Marks(figure, data["repair"], size=11)
    for (compression, _), rows in data.groupby(["compression", "repair"], sort=False):
        row = rows.iloc[0]
        marks.add(
            row,
            f"{for_plotly(row['variant'])}<br>%{{y:.3f}} [{row['lower']:.3f}, {row['upper']:.3f}]"
            f"<br>{row['parameters_added']:,} parameters added",
            panels[compression],
            x=[row["parameters_added"] or 10**decade],
            y=[row["value"]],
            error_y=error_bars(row),
        )
    label_bottom(figure, "parameters added")
    top = int(np.ceil(np.log10(added.max()))) if len(added) else decade + 1
    ticks = list(range(decade, top + 1))
    figure.update_xaxes(
        type="log",
        tickvals=[10.0**tick for tick in ticks],
        ticktext=["none", *(_power(tick) for tick in ticks[1:])],
        range=[decade - 0.3, top + 0.1],
    )
    figure.update_yaxes(range=[-0.03, 1.03], tickformat=".1f")
    figure.update_yaxes(title="accuracy (share right)", col=1)
    subjects = int(data["entities"].max()) if len(data) else 0
    dress(
        figure,
        title=f"What recovery costs, group {group}, {reading_words(reading)}",
        subtitle=f"95 % intervals over replicates and subjects; n = {subjects} {split} subjects",
        height=170 + 300 * rows_of(panels),
    )
    return Figure(figure, data)


def _power(exponent: int) -> str:
    """A power of ten as written on an axis."""
    if exponent < 3:
        return f"{10**exponent:,}" if exponent >= 0 else f"1e{exponent}"
    return f"{10 ** (exponent % 3)}{'kMGT'[exponent // 3 - 1]}"


def flips_figure(flips: pd.DataFrame, group: str, reading: str) -> Figure:
    """Which answers turned over against dense: how many were lost, and how many won that dense had wrong?

    Lost to the left, gained to the right of zero, as shares of test questions with 95 % intervals; a panel per
    compression.
    """
    # The first compression to be drawn is dense, which has no row without a repair.
    repairs = sorted(dict.fromkeys(flips["repair"]), key=bool)[::-1]
    symbols = symbols_of(repairs[::-1])
    figure, panels = panels_of(flips["compression"])
    for (variant, compression, repair), rows in flips.groupby(["variant", "compression", "repair"], sort=False):
        sign = rows["direction"].map({"lost": -1, "gained": 1})
        ends = pd.concat([sign * rows["lower"], sign * rows["upper"]], axis=1)
        turned = sign * rows["value"]
        told = rows[["direction", "value", "lower", "upper", "items", "entities", "replicates"]]
        figure.add_scatter(
            x=turned,
            y=[repairs.index(repair)] * len(rows),
            error_x=whiskers(turned, ends.min(axis=1), ends.max(axis=1), colour_of(repair)),
            mode="markers",
            marker=marker(repair, symbols[repair], 10) | {"color": colour_of(repair)},
            showlegend=False,
            customdata=told,
            hovertemplate=f"{for_plotly(variant)}, %{{customdata[0]}}: %{{customdata[1]:.3f}} "
            "[%{customdata[2]:.3f}, %{customdata[3]:.3f}]<br>%{customdata[4]} questions, %{customdata[5]} subjects, "
            "%{customdata[6]} replicates<extra></extra>",
            **panels[compression],
        )
    figure.add_vline(x=0, line_color=GREY, line_width=1.2)
    label_bottom(figure, "← lost · share of questions · gained →")
    most = float(flips["upper"].max()) if len(flips) else 1.0
    figure.update_xaxes(range=[-1.08 * most, 1.08 * most], **both_ways(most))
    name_rows(figure, [repair or NO_REPAIR for repair in repairs], edge=0.5)
    subjects, items = (int(flips[name].max()) if len(flips) else 0 for name in ("entities", "items"))
    dress(
        figure,
        title=f"Answers that turned over against dense, group {group}, {reading_words(reading)}",
        subtitle=f"95 % intervals over replicates and subjects; n = {items} questions on {subjects} test subjects",
        height=180 + (46 + 26 * len(repairs)) * rows_of(panels),
    )
    return Figure(figure, flips)


def _recovery(source: Source) -> Drawn:
    recovery = source.own_recovery
    for scope in source.scopes():
        for group in source.groups(scope):
            chance = source.chances.get(group)
            yield f"{scope}-{group}", recovery_figure(recovery, scope, group, READING, chance=chance)


def _parameters(source: Source) -> Drawn:
    for group in source.groups():
        yield group, parameters_figure(source.own_recovery, MAIN, group, READING)


RECOVERY = RunFigure(
    name="recovery",
    question="is what compression damaged answered again, and by subjects never read?",
    draw=_recovery,
    tables=("recovery", "variants", "answers"),
    each="scope and group of facts",
    in_report=True,
)
PARAMETERS = RunFigure(
    name="parameters",
    question="what does an answer that comes back cost in parameters?",
    draw=_parameters,
    tables=("recovery", "variants"),
    each="group of facts",
    narrow=True,
    in_report=True,
)
