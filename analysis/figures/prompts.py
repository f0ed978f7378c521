"""Figures of prompts: whether choosing among them helps, and what they cost in time."""

from collections.abc import Mapping

import pandas as pd

from analysis import reading
from analysis.figures.entry import Drawn, RunFigure
from analysis.figures.figure import Figure
from analysis.figures.source import READING, Source
from analysis.literal import for_plotly
from analysis.look import (
    GREY,
    dress,
    label_bottom,
    panels_of,
    reading_words,
    rows_of,
)
from analysis.marks import Marks, error_bars, name_rows, whiskers
from analysis.repair_report import latency_of
from analysis.scopes import MAIN
from data.errors import InputError

RIVALS = {
    "minus_random": ("more than a random choice", "#0072B2", "square"),
    "minus_best_single": ("more than the best single prompt", "#D55E00", "diamond-open"),
}


def selectors_figure(selectors: pd.DataFrame, variants: pd.DataFrame, repair: str, group: str) -> Figure:
    """Is it worth choosing among the prompts of a bank?

    A panel per compression, a row per way of choosing: log-probability of the right answer beyond a random choice and
    beyond the best single prompt; mean over replicates, the widest of their 95 % intervals over subjects.
    """
    known = variants.loc[variants["repair"] == repair, ["variant_id", "compression"]]
    part = selectors[(selectors["group"] == group) & (selectors["measure"] == "log_prob")]
    joined = known.merge(part, on="variant_id", validate="one_to_many")
    if joined.empty:
        raise InputError(f"no choices of {repair} in group '{group}'")
    rows = [
        joined.groupby(["compression", "selector"], sort=False, as_index=False)
        .agg(
            value=(name, "mean"),
            lower=(f"{name}_lower", "min"),
            upper=(f"{name}_upper", "max"),
            items=("items", "min"),
            entities=("entities", "min"),
            replicates=("variant_id", "nunique"),
        )
        .assign(against=name)
        for name in RIVALS
    ]
    data = pd.concat(rows, ignore_index=True).dropna(subset=["value"])
    names = list(dict.fromkeys(data["selector"]))
    figure, panels = panels_of(data["compression"])
    for place, (name, (words, colour, symbol)) in enumerate(RIVALS.items()):
        for number, (compression, own) in enumerate(data[data["against"] == name].groupby("compression", sort=False)):
            figure.add_scatter(
                x=own["value"],
                y=[names.index(one) + 0.3 * (place - 0.5) for one in own["selector"]],
                error_x=whiskers(own["value"], own["lower"], own["upper"], colour),
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 8},
                name=words,
                legendgroup=name,
                showlegend=number == 0,
                customdata=own[["selector"]].map(for_plotly),
                hovertemplate=f"%{{customdata[0]}}, {words}: %{{x:+.3f}} nats<extra></extra>",
                **panels[str(compression)],
            )
    for panel in panels.values():
        figure.add_vline(x=0, line_color=GREY, line_width=1.2, **panel)
    label_bottom(figure, "nats")
    figure.update_xaxes(tickformat=".2~g", zeroline=False, nticks=5)
    name_rows(figure, names, down=True)
    dress(
        figure,
        title=f"What choosing among prompts was worth: {repair}, group {group}",
        subtitle=f"log-probability of the right answer; 95 % intervals over subjects, n = {data['entities'].min()} "
        f"subjects, {data['replicates'].max()} replicates; the oracle knows the answers",
        height=170 + (40 + 22 * len(names)) * rows_of(panels),
    )
    return Figure(figure, data)


def latency_figure(
    recovery: pd.DataFrame, ratios: Mapping[str, float], scope: str, group: str, reading: str, split: str = "test"
) -> Figure:
    """What does an answer that comes back cost in time?

    Accuracy on subjects no repair read by latency as a ratio to the compressed model; `ratios` by repair. A panel per
    compression.
    """
    part = recovery[(recovery["scope"] == scope) & (recovery["group"] == group) & (recovery["reading"] == reading)]
    part = part[(part["measure"] == "accuracy") & (part["split"] == split)]
    data = part[part["repair"].isin(list(ratios))].assign(latency=lambda rows: rows["repair"].map(ratios))
    if data.empty:
        raise InputError("no repair of this scope was timed")
    figure, panels = panels_of(data["compression"])
    marks = Marks(figure, data["repair"], size=10)
    for _, row in data.iterrows():
        marks.add(
            row,
            f"{for_plotly(row['variant'])}: %{{x:.2f}} times the compressed model, %{{y:.3f}}",
            panels[row["compression"]],
            x=[row["latency"]],
            y=[row["value"]],
            error_y=error_bars(row),
        )
    label_bottom(figure, "latency / compressed model")
    figure.update_xaxes(tickformat=".2~f", nticks=5, zeroline=False)
    figure.update_yaxes(range=[-0.03, 1.03], tickformat=".1f")
    figure.update_yaxes(title="accuracy (share right)", col=1)
    dress(
        figure,
        title=f"What recovery costs in time, group {group}, {reading_words(reading)}",
        subtitle=f"prefill of one row, timed on the run's own variants; 95 % intervals over replicates and subjects, "
        f"n = {data['entities'].max()} {split} subjects",
        height=170 + 300 * rows_of(panels),
    )
    return Figure(figure, data)


def _selectors(source: Source) -> Drawn:
    selectors, variants = source.table("selectors"), source.variants()
    group = source.groups()[0]
    for repair in dict.fromkeys(variants.loc[variants["variant_id"].isin(selectors["variant_id"]), "repair"]):
        yield repair, selectors_figure(selectors, variants, repair, group)


def _latency(source: Source) -> Drawn:
    latency = reading.read_latency(source.run)
    if latency is None:
        raise InputError(f"nothing was timed: `python -m analysis repairs {source.run.name} --latency` does it")
    ratios = latency_of(latency)
    for group in source.groups():
        yield group, latency_figure(source.table("recovery"), ratios, MAIN, group, READING)


SELECTORS = RunFigure(
    name="selectors",
    question="is it worth choosing among the prompts of a bank?",
    draw=_selectors,
    tables=("selectors", "variants", "recovery"),
    each="bank",
)
LATENCY = RunFigure(
    name="latency",
    question="what does an answer that comes back cost in time?",
    draw=_latency,
    tables=("recovery",),
    beside=lambda run: [run / reading.LATENCY],
    each="group of facts",
    narrow=True,
)
