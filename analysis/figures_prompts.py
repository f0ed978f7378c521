"""Figures of prompts: how long they must be, whether choosing among them helps, and what they cost in time."""

import re
from collections.abc import Mapping

import pandas as pd

from analysis.figures import Figure
from analysis.look import (
    GREY,
    NO_REPAIR,
    colour_of,
    dashes_of,
    dress,
    kind_of,
    label_bottom,
    marker,
    panels_of,
    reading_words,
    rows_of,
    symbols_of,
)
from analysis.marks import Marks, error_bars, name_rows, whiskers
from data.errors import InputError

LENGTH = re.compile(r"(?:prompt|prefix|ptuning|placebo)-(\d+)(?:-masked|-shuffled)?")
RIVALS = {
    "minus_random": ("more than a random choice", "#0072B2", "square"),
    "minus_best_single": ("more than the best single prompt", "#D55E00", "diamond-open"),
}


def length_figure(recovery: pd.DataFrame, scope: str, group: str, reading: str, split: str = "test") -> Figure:
    """How long must a prompt be?

    Accuracy on subjects no prompt read by the number of soft tokens, a panel per compression, a line per kind of
    prompt with 95 % intervals; the level line is the copy without a prompt.

    Raises:
        InputError: the run has prompts of one length alone.
    """
    part = recovery[(recovery["scope"] == scope) & (recovery["group"] == group) & (recovery["reading"] == reading)]
    part = part[(part["measure"] == "accuracy") & (part["split"] == split)]
    found = part["repair"].str.fullmatch(LENGTH.pattern)
    told = part[found].assign(
        length=[int(LENGTH.fullmatch(name)[1]) for name in part.loc[found, "repair"]],  # type: ignore[index]
        series=part.loc[found, "repair"].map(kind_of),
    )
    true = told[~told["series"].isin(["placebo"])]
    if true.groupby("series")["length"].nunique().max() in (0, 1) or true.empty:
        raise InputError("prompts of one length alone: name prompts of several lengths in the study")
    data = told.sort_values("length", kind="stable")
    figure, panels = panels_of(part["compression"])
    kinds = list(dict.fromkeys(data["series"]))
    symbols, dashes = symbols_of(kinds), dashes_of(part["compression"])
    shown: set[str] = set()
    for (compression, kind), rows in data.groupby(["compression", "series"], sort=False):
        figure.add_scatter(
            x=rows["length"],
            y=rows["value"],
            error_y=whiskers(rows["value"], rows["lower"], rows["upper"], colour_of(kind)),
            mode="lines+markers",
            line={"color": colour_of(kind), "width": 2, "dash": dashes[compression]},
            marker=marker(kind, symbols[kind], 9),
            name=kind,
            legendgroup=kind,
            showlegend=kind not in shown,
            **panels[compression],
        )
        shown.add(kind)
    longest = int(data["length"].max())
    for place, row in enumerate(part[part["repair"] == ""].itertuples()):
        figure.add_scatter(
            x=[data["length"].min(), longest],
            y=[row.value, row.value],
            mode="lines",
            line={"color": GREY, "width": 1.4, "dash": "dot"},
            name=NO_REPAIR,
            legendgroup=NO_REPAIR,
            showlegend=place == 0,
            **panels[row.compression],
        )
    label_bottom(figure, "soft tokens")
    lengths = sorted(set(data["length"]))
    figure.update_xaxes(type="log", tickvals=lengths, ticktext=[str(one) for one in lengths])
    figure.update_yaxes(range=[-0.03, 1.03], tickformat=".1f")
    figure.update_yaxes(title="accuracy (share right)", col=1)
    dress(
        figure,
        title=f"How long a prompt must be, group {group}, {reading_words(reading)}",
        subtitle=f"95 % intervals over replicates and subjects; n = {data['entities'].max()} {split} subjects",
        height=170 + 300 * rows_of(panels),
    )
    return Figure(figure, data)


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
                customdata=own[["selector"]],
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
            f"{row['variant']}: %{{x:.2f}} times the compressed model, %{{y:.3f}}",
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
