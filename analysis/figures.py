"""One figure per question, each with the data frame that it draws; plotly and pandas, no browser and no model.

A repair has one hue and one marker and a compression one dash in every figure, so that a reader learns them once;
markers differ too, because a grey print has no hues.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.literal import for_plotly
from analysis.look import (
    DASHES,
    FLOOR_NAME,
    GREY,
    METRICS,
    REPAIR_COLOURS,
    SITES,
    against_words,
    colours_of,
    counts_of,
    dress,
    is_level,
    label_bottom,
    panels_of,
    places_axis,
    reading_words,
    reference_words,
    rows_of,
)
from analysis.marks import lines_by_layer, paired_marks
from data.errors import InputError

__all__ = [
    "DASHES",
    "REPAIR_COLOURS",
    "Figure",
    "attention_figure",
    "layerwise_drift_figure",
    "recovery_figure",
    "write_figure",
]

IMAGES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Figure:
    """A figure and exactly the rows that it draws."""

    figure: go.Figure
    data: pd.DataFrame


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


def layerwise_drift_figure(
    drift: pd.DataFrame, variants: pd.DataFrame, metric: str, site: str, group: str, reference: str
) -> Figure:
    """At which layer does a variant part from its reference, and by how much more than noise?

    A panel per compression, a line per variant: mean over its replicates; band: the widest of their 95 % intervals
    over sequences. `variants` holds the variants of one scope.
    """
    kept = chosen(drift, group=group, reference=reference, metric=metric, site=site)
    data = averaged(kept, variants, ["layer"])
    figure, panels = panels_of(data["compression"])
    floor = data.groupby("layer", as_index=False)["floor"].max()
    data["below_floor"] = data["value"].abs() <= data["floor"].abs()
    for place, panel in enumerate(panels.values()):
        figure.add_scatter(
            x=floor["layer"],
            y=floor["floor"],
            fill="tozeroy",
            fillcolor="rgba(118,118,118,0.35)",
            line={"color": GREY, "width": 1, "dash": "dot"},
            mode="lines",
            name=FLOOR_NAME,
            legendgroup=FLOOR_NAME,
            showlegend=place == 0 and bool(floor["floor"].notna().any()),
            **panel,
        )
    notes = data["below_floor"].map({True: ", below the floor", False: ""})
    lines_by_layer(figure, data, panels, variants["compression"], notes)
    words, unit = METRICS.get(metric, (metric, ""))
    label_bottom(figure, "layer")
    figure.update_xaxes(places_axis(data["layer"]))
    figure.update_yaxes(title=f"{words} ({unit})", col=1, rangemode="tozero", tickformat=".2~g")
    dress(
        figure,
        title=f"Drift from {reference_words(reference)}: {SITES.get(site, site)}",
        subtitle=f"{counts_of(data)} of {group}; bands: 95 % intervals over sequences; " + floor_words(data),
        height=170 + 300 * rows_of(panels),
    )
    return Figure(figure, data)


def floor_words(data: pd.DataFrame) -> str:
    """How high the floor is and how many points of a figure lie in it; no metric of direction has one."""
    if data["floor"].isna().all():
        return "no floor"
    below = int(data["below_floor"].sum())
    return f"floor at most {data['floor'].max():.1g}, {below} of {len(data)} points below the floor"


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


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, SVG, PDF or HTML by the path's ending, and its rows as CSV beside it.

    Raises:
        InputError: another ending, or an image is asked for and no Chromium is on the machine.
    """
    if path.suffix not in (*IMAGES, ".html"):
        raise InputError(f"figure '{path.name}': endings are {', '.join(IMAGES)} and .html")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".html":
        figure.figure.write_html(path)
    else:
        from choreographer.browsers.chromium import Chromium

        if Chromium.find_browser(skip_local=False) is None:
            raise InputError(f"figure '{path.name}': drawing an image needs Chrome or Chromium; .html needs neither")
        figure.figure.write_image(path, width=1000, scale=2 if path.suffix == ".png" else 1)
    figure.data.to_csv(path.with_suffix(".csv"), index=False)


def chosen(table: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    """The rows that have all the wanted values."""
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table


def averaged(table: pd.DataFrame, variants: pd.DataFrame, places: list[str]) -> pd.DataFrame:
    """A row per variant and place: the mean over replicates, the widest of their intervals, the highest floor."""
    if variants["scope"].nunique() > 1:
        raise ValueError("variants of one scope at a time: equal names in two scopes are different models")
    known = variants[["variant_id", "variant", "compression", "repair"]]
    joined = known.merge(table, on="variant_id", validate="one_to_many")
    return joined.groupby(["variant", "compression", "repair", *places], sort=False, as_index=False).agg(
        value=("value", "mean"),
        lower=("lower", "min"),
        upper=("upper", "max"),
        floor=("floor", "max"),
        tokens=("tokens", "min"),
        replicates=("variant_id", "nunique"),
    )
