"""Figures of attention by head and by layer: one variant, two and their difference, and every variant at one head."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.entry import Drawn, RunFigure
from analysis.figures.figure import Figure, averaged, chosen
from analysis.figures.source import Source
from analysis.literal import for_plotly
from analysis.look import (
    DIVERGING,
    FLOOR_NAME,
    GREY,
    METRICS,
    against_words,
    colours_of,
    counts_of,
    dress,
    is_level,
    label_bottom,
    panels_of,
    places_axis,
    rows_of,
)
from analysis.marks import Marks, error_bars, lines_by_layer, name_rows


def attention_figure(
    attention: pd.DataFrame, variants: pd.DataFrame, variant: str, metric: str, group: str, reference: str
) -> Figure:
    """Which heads attend elsewhere than the reference does?

    Layers x heads, a mean over replicates, for one variant by name or identity. The colour scale ends at the
    largest value of any variant given, so that two maps can be laid side by side. Heads that cannot be told from
    the floor are marked; for a share of attention and for entropy the stored floor is dense's own.
    """
    kept = chosen(attention, group=group, reference=reference, metric=metric)
    everyone = averaged(kept, variants, ["layer", "head"])
    asked = variants[(variants["variant"] == variant) | (variants["variant_id"] == variant)]
    data = averaged(kept, asked, ["layer", "head"])
    level = is_level(metric)
    inside = (data["lower"] <= data["floor"]) & (data["floor"] <= data["upper"])
    data["at_floor"] = inside if level else data["value"].abs() <= data["floor"].abs()
    grid = data.pivot(index="layer", columns="head", values="value")
    words, unit = METRICS.get(metric, (metric, ""))
    figure = go.Figure(
        go.Heatmap(
            z=grid.to_numpy(),
            x=grid.columns,
            y=grid.index,
            **colours_of(everyone["value"]),
            xgap=1,
            ygap=1,
            colorbar={"title": {"text": unit, "side": "top"}, "tickformat": ".2~g", "thickness": 16},
            hovertemplate="layer %{y}, head %{x}: %{z:.3g}<extra></extra>",
        )
    )
    marked = data[data["at_floor"]]
    figure.add_scatter(
        x=marked["head"],
        y=marked["layer"],
        mode="markers",
        # White in a dark edge: seen on either end of the scale.
        marker={"symbol": "x", "size": 9, "color": "#FFFFFF", "line": {"color": "#222222", "width": 1}},
        name="not told from dense" if level else "not above the floor",
        hoverinfo="skip",
        showlegend=False,
    )
    figure.update_xaxes(places_axis(data["head"]), title="head", showgrid=False)
    figure.update_yaxes(places_axis(data["layer"]), title="layer", showgrid=False)
    mark = "dense's own value in the 95 % interval" if level else f"not above the {FLOOR_NAME}"
    name = asked["variant"].iloc[0] if len(asked) else variant
    dress(
        figure,
        title=f"{words[0].upper()}{words[1:]}: {name}{against_words(metric, reference)}",
        subtitle=f"mean over {counts_of(data)} of {group}; × {mark}: {len(marked)} of {len(data)} heads",
        height=230 + 22 * max(8, len(grid)),
    )
    return Figure(figure, data)


def heads_figure(
    attention: pd.DataFrame, variants: pd.DataFrame, pair: tuple[str, str], metric: str, group: str, reference: str
) -> Figure:
    """Which heads attend elsewhere, in which of two variants more?

    Layers x heads of one variant, of another, and of the first less the second, each a mean over replicates. A heat
    map gives nothing back when it is clicked, so that a mark that is not seen lies on every cell and does.
    """
    rows = chosen(attention, group=group, reference=reference, metric=metric)
    data = averaged(rows, variants[variants["variant"].isin(pair)], ["layer", "head"])
    grids = [data[data["variant"] == name].pivot(index="layer", columns="head", values="value") for name in pair]
    titles = [*(for_plotly(name).replace(" + ", "<br>+ ") for name in pair), "first − second"]
    figure = make_subplots(rows=1, cols=3, shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.03)
    difference = grids[0] - grids[1]
    reach = float(np.abs(difference).max().max()) or 1.0
    unit = METRICS.get(metric, (metric, ""))[1]
    scales = [colours_of(data["value"])] * 2 + [{"colorscale": DIVERGING, "zmin": -reach, "zmax": reach}]
    for place, (grid, scale) in enumerate(zip([*grids, difference], scales, strict=True), 1):
        figure.add_heatmap(
            z=grid.to_numpy(),
            x=grid.columns,
            y=grid.index,
            **scale,
            showscale=place > 1,
            colorbar=_bar(unit, 0.85, 0.28) if place == 3 else _bar(unit, 0.33, 0.6),
            xgap=1,
            ygap=1,
            hoverinfo="skip",
            row=1,
            col=place,
        )
        cells = grid.stack().rename("value").reset_index()
        figure.add_scatter(
            x=cells["head"],
            y=cells["layer"],
            customdata=cells[["layer", "head", "value"]],
            mode="markers",
            marker={"symbol": "square", "size": 22, "opacity": 0},
            showlegend=False,
            hovertemplate="layer %{customdata[0]}, head %{customdata[1]}: %{customdata[2]:.3g}<extra></extra>",
            row=1,
            col=place,
        )
    figure.update_xaxes(places_axis(data["head"]), title="head", showgrid=False)
    figure.update_yaxes(places_axis(data["layer"]), showgrid=False)
    figure.update_yaxes(title="layer", col=1)
    words = METRICS.get(metric, (metric, ""))[0]
    dress(
        figure,
        title=f"{words[0].upper()}{words[1:]}{against_words(metric, reference)}",
        subtitle=f"mean over {counts_of(data)} of {group}",
        height=270 + 24 * max(8, len(grids[0])),
    )
    return Figure(figure, data)


def _bar(unit: str, place: float, length: float) -> dict[str, Any]:
    """A colour bar that lies under its grids, where it covers none of them."""
    where = {"orientation": "h", "x": place, "xanchor": "center", "y": -0.3, "yanchor": "top", "len": length}
    return where | {"title": {"text": unit, "side": "bottom"}, "thickness": 10, "tickformat": ".2~g", "nticks": 4}


def cell_of(event: Any) -> tuple[str, str] | None:
    """The layer and the head of the cell that was clicked, if one was."""
    points = (event or {}).get("selection", {}).get("points", [])
    told = points[0].get("customdata") if points else None
    if isinstance(told, dict):
        told = [told[name] for name in sorted(told)]
    return None if not told or len(told) < 2 else (str(int(told[0])), str(int(told[1])))


def widest_cell(heads: pd.DataFrame, pair: tuple[str, str]) -> tuple[str, str] | None:
    """The layer and the head at which two variants differ most, of the rows of their grids; None where no cell can."""
    first, second = (heads[heads["variant"] == name].set_index(["layer", "head"])["value"] for name in pair)
    apart = (first - second).abs().dropna()
    if apart.empty:
        return None
    layer, head = apart.idxmax()
    return str(layer), str(head)


def head_figure(
    attention: pd.DataFrame, variants: pd.DataFrame, metric: str, layer: int, head: int, group: str, reference: str
) -> Figure:
    """At one head, how does every variant attend?

    A row per variant with the widest of its replicates' 95 % intervals; the dotted line is the floor (for a share of
    attention, dense's own).
    """
    rows = chosen(attention, group=group, reference=reference, metric=metric)
    rows = rows[(rows["layer"] == layer) & (rows["head"] == head)]
    data = averaged(rows, variants, ["layer", "head"])
    names = list(data["variant"])[::-1]
    figure = make_subplots(rows=1, cols=1)
    marks = Marks(figure, data["repair"], size=9)
    for _, row in data.iterrows():
        marks.add(
            row,
            f"{for_plotly(row['variant'])}<br>%{{x:.3g}} [{row['lower']:.3g}, {row['upper']:.3g}]",
            {"row": 1, "col": 1},
            x=[row["value"]],
            y=[names.index(row["variant"])],
            error_x=error_bars(row),
        )
    if len(data) and data["floor"].notna().any():
        figure.add_vline(x=float(data["floor"].max()), line_color=GREY, line_width=1.2, line_dash="dot")
    words, unit = METRICS.get(metric, (metric, ""))
    figure.update_xaxes(title=unit, tickformat=".2~g", rangemode="tozero", nticks=6)
    name_rows(figure, names)
    dress(
        figure,
        title=f"Layer {layer}, head {head}: {words}",
        subtitle=f"{counts_of(data)} of {group}; 95 % intervals over sequences",
        height=210 + 21 * max(4, len(names)),
    )
    return Figure(figure, data)


def attention_drift_figure(
    attention: pd.DataFrame, variants: pd.DataFrame, metric: str, group: str, reference: str
) -> Figure:
    """At which layer does a variant attend elsewhere than its reference?

    A panel per compression, a line per variant: the mean over heads and replicates; band: from the heads' mean lower to
    their mean upper ends, each the widest over replicates, so it is no narrower than an interval of the mean.
    """
    rows = chosen(attention, group=group, reference=reference, metric=metric)
    by_head = averaged(rows, variants, ["layer", "head"])
    data = by_head.groupby(["variant", "compression", "repair", "layer"], sort=False, as_index=False).agg(
        value=("value", "mean"),
        lower=("lower", "mean"),
        upper=("upper", "mean"),
        floor=("floor", "mean"),
        tokens=("tokens", "min"),
        replicates=("replicates", "min"),
    )
    figure, panels = panels_of(data["compression"])
    lines_by_layer(figure, data, panels, variants["compression"])
    words, unit = METRICS.get(metric, (metric, ""))
    label_bottom(figure, "layer")
    figure.update_xaxes(places_axis(data["layer"]))
    figure.update_yaxes(title=f"{words.split(' over ')[0]} ({unit})", col=1, rangemode="tozero", tickformat=".2~g")
    dress(
        figure,
        title=f"{words[0].upper()}{words[1:]}{against_words(metric, reference)}",
        subtitle=f"mean over heads, {counts_of(data)} of {group}; bands: mean of the heads' 95 % intervals over "
        f"sequences; floor at most {data['floor'].max():.1g}",
        height=170 + 300 * rows_of(panels),
    )
    return Figure(figure, data)


def _attention(source: Source) -> Drawn:
    attention = source.table("attention")
    for group in dict.fromkeys(attention["group"]):
        yield group, attention_drift_figure(attention, source.shown_variants(), "jensen_shannon", group, "dense")


ATTENTION = RunFigure(
    name="drift-attention",
    question="at which layer does attention part from dense?",
    draw=_attention,
    tables=("attention", "variants"),
    each="group of texts",
    narrow=True,
    in_report=True,
)
