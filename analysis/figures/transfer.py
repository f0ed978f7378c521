"""The figure of the transfer matrix: does a repair help where it was not tuned?"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.entry import Drawn, RunFigure
from analysis.figures.figure import Figure
from analysis.figures.source import READING, Source
from analysis.literal import for_plotly
from analysis.look import dress, reading_words
from analysis.reading import compact
from data.errors import InputError

DIVERGING = "RdBu"


def transfer_figure(
    transfer: pd.DataFrame, group: str, reading: str, split: str = "test", measure: str = "accuracy"
) -> Figure:
    """Gain over the target without repair: a row per compression tuned on, a column per compression used on.

    A panel per repair; on the diagonal stands the repair where it was tuned; figures with their 95 % intervals.

    Raises:
        InputError: the table has no such matrix.
    """
    keep = {"group": group, "reading": reading, "split": split, "measure": measure, "read": "all", "asked": "all"}
    data = transfer
    for name, value in keep.items():
        data = data[data[name] == value]
    if data.empty:
        raise InputError(f"no transfer of group '{group}' ({reading}, {split}, {measure}): the study names no transfer")
    data = data.reset_index(drop=True)
    repairs, names = list(dict.fromkeys(data["repair"])), list(dict.fromkeys(data["target"]))
    figure = make_subplots(
        rows=1,
        cols=len(repairs),
        subplot_titles=[for_plotly(one) for one in repairs],
        shared_yaxes=True,
        horizontal_spacing=0.04,
    )
    most = float(np.abs(data["gain"]).max()) or 1.0
    for column, repair in enumerate(repairs, start=1):
        part = data[data["repair"] == repair].set_index(["source", "target"])
        cells = [
            [part.loc[(source, target)] if (source, target) in part.index else None for target in names]
            for source in names
        ]
        figure.add_trace(_heatmap(cells, names, most, shown=column == len(repairs)), row=1, col=column)
    figure.update_xaxes(title="used on", type="category")
    figure.update_yaxes(title="tuned on", col=1)
    figure.update_yaxes(autorange="reversed", type="category")
    unit = "share right" if measure == "accuracy" else "bits per fact"
    dress(
        figure,
        title=f"Gain of a repair used elsewhere, group {group}, {split} subjects",
        subtitle=f"{measure} ({unit}) beyond the target without repair, {reading_words(reading)}; 95 % intervals; "
        f"n = {int(data['entities'].max())} subjects, {int(data['replicates'].max())} replicates",
        height=230 + 70 * len(names),
    )
    return Figure(figure, data)


def _heatmap(cells: list[list[pd.Series | None]], names: list[str], most: float, *, shown: bool) -> go.Heatmap:
    """One repair's matrix, every cell with its figure and interval."""

    def text(cell: pd.Series | None) -> str:
        if cell is None:
            return ""
        return compact(cell["gain"], cell["gain_lower"], cell["gain_upper"]).replace(" [", "<br>[")

    return go.Heatmap(
        z=[[None if cell is None else cell["gain"] for cell in row] for row in cells],
        x=[for_plotly(name) for name in names],
        y=[for_plotly(name) for name in names],
        zmin=-most,
        zmax=most,
        colorscale=DIVERGING,
        showscale=shown,
        colorbar={"title": "gain"},
        text=[[text(cell) for cell in row] for row in cells],
        texttemplate="%{text}",
        hovertemplate="tuned on %{y}, used on %{x}<br>%{text}<extra></extra>",
    )


def _transfer(source: Source) -> Drawn:
    transfer = source.table("transfer")
    for group in dict.fromkeys(transfer["group"]):
        yield str(group), transfer_figure(transfer, str(group), READING)


TRANSFER = RunFigure(
    name="transfer",
    question="does a repair help where it was not tuned?",
    draw=_transfer,
    tables=("transfer",),
    each="group of facts",
)
