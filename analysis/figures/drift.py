"""Figures of drift: layer by layer, one layer at every site, and whether a repair comes nearer to dense."""

from collections.abc import Callable

import pandas as pd
from plotly.subplots import make_subplots

from analysis.figures.entry import Drawn, RunFigure
from analysis.figures.figure import Figure, averaged, chosen
from analysis.figures.source import Source
from analysis.literal import for_plotly
from analysis.look import (
    FLOOR_NAME,
    GREY,
    METRICS,
    SITES,
    colour_of,
    counts_of,
    dashes_of,
    dress,
    label_bottom,
    marker,
    panels_of,
    places_axis,
    reference_words,
    rows_of,
    symbols_of,
)
from analysis.marks import Marks, apart, error_bars, lines_by_layer, name_rows


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


def layer_figure(
    drift: pd.DataFrame, variants: pd.DataFrame, metric: str, layer: int, group: str, reference: str
) -> Figure:
    """At one layer, which part of the block moved: attention, MLP, or the stream that they write into?

    A row per site, a mark per repair with the widest of its replicates' 95 % intervals, a panel per compression; the
    floor is marked.
    """
    rows = chosen(drift, group=group, reference=reference, metric=metric)
    data = averaged(rows[rows["layer"] == layer], variants, ["site"])
    data["below_floor"] = data["value"].abs() <= data["floor"].abs()
    sites = [site for site in SITES if site in set(data["site"])][::-1]
    repairs = list(dict.fromkeys(data["repair"]))
    figure, panels = panels_of(data["compression"])
    marks = Marks(figure, repairs, size=9)
    for _, row in data.iterrows():
        marks.add(
            row,
            for_plotly(f"{row['variant']}, {SITES[row['site']]}")
            + f"<br>%{{x:.3g}} [{row['lower']:.3g}, {row['upper']:.3g}]",
            panels[row["compression"]],
            x=[row["value"]],
            y=[sites.index(row["site"]) - apart(repairs.index(row["repair"]), len(repairs))],
            error_x=error_bars(row),
        )
    words, unit = METRICS.get(metric, (metric, ""))
    label_bottom(figure, f"{words} ({unit})")
    figure.update_xaxes(rangemode="tozero", tickformat=".2~g", nticks=5)
    name_rows(figure, [SITES[site] for site in sites], edge=0.5)
    dress(
        figure,
        title=f"Layer {layer}, every site: drift from {reference_words(reference)}",
        subtitle=f"{counts_of(data)} of {group}; 95 % intervals over sequences; {floor_words(data)}",
        height=190 + (40 + 62 * len(sites)) * rows_of(panels),
    )
    return Figure(figure, data)


def closer_figure(closer: pd.DataFrame, metric: str, site: str, group: str) -> Figure:
    """Does a repair move the inside towards the dense model, or further away?

    Drift of the unrepaired copy from dense less that of the repaired one, by layer; a mark per replicate, a line
    through their mean. Above zero is nearer to dense.
    """
    repairs = list(dict.fromkeys(closer["repair"]))
    symbols = symbols_of(repairs)
    figure, panels = panels_of(closer["compression"])
    shown: set[str] = set()
    for (compression, repair, variant), rows in closer.groupby(["compression", "repair", "variant"], sort=False):
        look = marker(repair, symbols[repair], 7)
        mean = rows.groupby("layer", as_index=False)["closer"].mean()
        common = {"legendgroup": repair, "name": for_plotly(repair), **panels[compression]}
        figure.add_scatter(
            x=mean["layer"],
            y=mean["closer"],
            mode="lines",
            line={"color": look["color"], "width": 2},
            showlegend=False,
            hoverinfo="skip",
            **common,
        )
        figure.add_scatter(
            x=rows["layer"],
            y=rows["closer"],
            mode="markers",
            marker=look,
            showlegend=repair not in shown,
            hovertemplate=f"{for_plotly(variant)}, layer %{{x}}: %{{y:.3g}}<extra></extra>",
            **common,
        )
        shown.add(repair)
    figure.add_hline(y=0, line_color=GREY, line_width=1.2)
    words, unit = METRICS.get(metric, (metric, ""))
    label_bottom(figure, "layer")
    figure.update_xaxes(places_axis(closer["layer"]))
    figure.update_yaxes(tickformat=".2~g", zeroline=False)
    figure.update_yaxes(title=f"nearer to dense by ({unit})", col=1)
    replicates = closer.groupby("variant")["variant_id"].nunique().max() if len(closer) else 0
    tokens = int(closer["tokens"].min()) if len(closer) else 0
    dress(
        figure,
        title=f"Towards dense or away: {words}, {SITES.get(site, site)}",
        subtitle=f"a mark per replicate, up to {replicates}; n = {tokens} content tokens of {group}",
        height=170 + 280 * rows_of(panels),
    )
    return Figure(figure, closer)


def typed_drift_figure(drift: pd.DataFrame, tokens: int) -> Figure:
    """On one typed text, at which layer does each variant's residual stream part from dense's?

    `drift`: a row per variant and layer with `variant`, `compression`, `repair`, `layer` and `value` (1 - cosine).
    """
    symbols, dashes = symbols_of(drift["repair"]), dashes_of(drift["compression"])
    figure = make_subplots(rows=1, cols=1)
    for (variant, compression, repair), rows in drift.groupby(["variant", "compression", "repair"], sort=False):
        figure.add_scatter(
            x=rows["layer"],
            y=rows["value"],
            mode="lines+markers",
            line={"color": colour_of(repair), "width": 2, "dash": dashes[compression]},
            marker=marker(repair, symbols[repair], 8),
            name=for_plotly(variant),
            hovertemplate=f"{for_plotly(variant)}, layer %{{x}}: %{{y:.3g}}<extra></extra>",
        )
    words, unit = METRICS["cosine"]
    figure.update_xaxes(places_axis(drift["layer"]), title="layer")
    figure.update_yaxes(title=f"{words} ({unit})", rangemode="tozero", tickformat=".2~g")
    dress(
        figure,
        title=f"Drift from the dense model: {SITES['resid_post']}",
        subtitle=f"n = 1 text, mean over its {tokens} tokens; no interval",
        height=400,
    )
    return Figure(figure, drift)


def _drift(site: str, metric: str = "relative_l2") -> Callable[[Source], Drawn]:
    def draw(source: Source) -> Drawn:
        drift = source.table("drift")
        groups = list(dict.fromkeys(drift["group"]))
        for group in groups:
            yield group, layerwise_drift_figure(drift, source.shown_variants(), metric, site, group, "dense")

    return draw


STREAM = RunFigure(
    name="drift-residual",
    question="at which layer does the residual stream part from dense?",
    draw=_drift("resid_post"),
    tables=("drift", "variants"),
    each="group of texts",
    narrow=True,
    in_report=True,
)
MLP = RunFigure(
    name="drift-mlp",
    question="at which layer do MLP activations part from dense?",
    draw=_drift("mlp_out"),
    tables=("drift", "variants"),
    each="group of texts",
    narrow=True,
)
