"""Figures of what was read inside: the lens, linear probes and interventions, each with the rows that it draws.

Hues, markers and dashes are those of every other figure (analysis/look.py); arms of an intervention differ by dash and
marker as well as by hue.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures.entry import Drawn, RunFigure
from analysis.figures.figure import Figure
from analysis.figures.source import Source
from analysis.look import (
    DIVERGING,
    GREY,
    METRICS,
    SITES,
    dress,
    filled,
    label_bottom,
    panels_of,
    places_axis,
    rows_of,
)
from analysis.marks import lines_by_layer, whiskers

# Okabe-Ito; what is done to a model is no repair, so that the hues are told by the legend.
ARM_LOOKS = {
    "patched": ("#0072B2", "solid", "circle"),
    "other fact": ("#E69F00", "dash", "square"),
    "noise": (GREY, "dot", "diamond"),
    "prompt keys": ("#0072B2", "solid", "circle"),
    "random keys": ("#E69F00", "dash", "square"),
}
SIGNIFICANT = 0.05


def lens_figure(lens: pd.DataFrame, variants: pd.DataFrame, metric: str, group: str) -> Figure:
    """At which layer does a variant begin to say the right answer, and where does it part from dense?"""
    part = lens[(lens["metric"] == metric) & (lens["group"] == group)]
    return _by_layer(part, variants, metric, f"Logit lens, group {group}")


def probes_figure(
    probes: pd.DataFrame, variants: pd.DataFrame, group: str, way: str, metric: str = "probe_selectivity"
) -> Figure:
    """Can the answer be read off a layer by a linear map, whatever the model says?

    `way`: frozen (the dense model's probe), aligned (the same after a rotation) or refitted.
    """
    part = probes[(probes["metric"] == metric) & (probes["group"] == group) & (probes["way"] == way)]
    return _by_layer(part, variants, metric, f"Linear probes, {way}, group {group}")


def _by_layer(part: pd.DataFrame, variants: pd.DataFrame, metric: str, title: str) -> Figure:
    """A panel per compression, a line per variant with its band, by layer."""
    known = variants[["variant_id", "variant", "compression", "repair"]]
    joined = known.merge(part, on="variant_id", validate="one_to_many")
    data = joined.groupby(["variant", "compression", "repair", "layer"], sort=False, as_index=False).agg(
        value=("value", "mean"),
        lower=("lower", "min"),
        upper=("upper", "max"),
        items=("items", "min"),
        entities=("entities", "min"),
        replicates=("variant_id", "nunique"),
    )
    figure, panels = panels_of(data["compression"])
    lines_by_layer(figure, data, panels, variants["compression"])
    words, unit = METRICS.get(metric, (metric, ""))
    label_bottom(figure, "layer")
    figure.update_xaxes(places_axis(data["layer"]))
    figure.update_yaxes(title=f"{words} ({unit})", col=1, tickformat=".2~g")
    counts = "no questions" if data.empty else f"n = {data['items'].min()} questions, {data['entities'].min()} subjects"
    dress(
        figure,
        title=title,
        subtitle=f"{counts}; bands: 95 % intervals over subjects",
        height=170 + 300 * rows_of(panels),
    )
    return Figure(figure, data)


def interventions_figure(interventions: pd.DataFrame, variants: pd.DataFrame, variant: str, setting: str) -> Figure:
    """Where does a state bring the answer back, or does a prompt work, and does a placebo do as much?

    `variant` is an identity; `setting` the positions of a patch (last, all) or the form of a knockout. A panel per
    site, a line per arm; filled markers where the arm beats every placebo at p < .05 after max-T.
    """
    mine = interventions[(interventions["variant_id"] == variant) & (interventions["head"] < 0)]
    chosen = mine[(mine["positions"] == setting) & (mine["form"] == "") | (mine["form"] == setting)]
    # The knockout of all layers at once is no point of a layer: the subtitle has it.
    layers = int(chosen["last_layer"].max()) + 1 if len(chosen) else 0
    whole = chosen[(chosen["last_layer"] - chosen["layer"] + 1 == layers) & (chosen["intervention"] == "knockout")]
    data = chosen.drop(whole.index) if layers > 1 else chosen
    arms = data[data["arm"].isin(list(ARM_LOOKS))]
    figure, panels = panels_of(arms["site"].map(lambda site: SITES.get(site, site)))
    shown: set[str] = set()
    for (site, arm), rows in arms.groupby(["site", "arm"], sort=False):
        colour, dash, symbol = ARM_LOOKS[arm]
        beats = _beats(data[data["site"] == site], arm, rows["layer"])
        figure.add_scatter(
            x=rows["layer"],
            y=rows["value"],
            error_y=whiskers(rows["value"], rows["lower"], rows["upper"], colour),
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2},
            marker={"symbol": [filled(symbol, yes) for yes in beats], "size": 9, "color": colour},
            name=arm,
            legendgroup=arm,
            showlegend=arm not in shown,
            **panels[SITES.get(site, site)],
        )
        shown.add(arm)
    words, unit = METRICS["dropped" if (data["intervention"] == "knockout").any() else "restored"]
    label_bottom(figure, "layer (first of the window)")
    figure.update_xaxes(places_axis(arms["layer"]))
    figure.update_yaxes(title=f"{words} ({unit})", col=1, tickformat=".2~g")
    everywhere = ", ".join(f"{one.arm} {one.value:.2f}" for one in whole.itertuples() if one.arm in ARM_LOOKS)
    dress(
        figure,
        title=f"{words[0].upper()}{words[1:]}: {_name(variants, variant)}, {setting}",
        subtitle=f"{_count(data)}; filled: beyond every placebo, p < .05 (max-T)"
        + (f"; all layers: {everywhere}" if everywhere else ""),
        height=170 + 300 * rows_of(panels),
    )
    return Figure(figure, pd.concat([data, whole]) if layers > 1 else data)


def heads_figure(interventions: pd.DataFrame, variants: pd.DataFrame, variant: str, setting: str) -> Figure:
    """Which heads carry the answer, or the prompt? Layers x heads of one variant; × where a placebo does as much."""
    mine = interventions[(interventions["variant_id"] == variant) & (interventions["head"] >= 0)]
    chosen = mine[(mine["positions"] == setting) & (mine["form"] == "") | (mine["form"] == setting)]
    data = chosen[chosen["arm"].isin(["patched", "prompt keys"])].copy()
    differences = chosen[chosen["arm"].str.contains(" - ")]
    worst = differences.groupby(["layer", "head"])["p"].max()
    data["p_against_placebos"] = [worst.get((one.layer, one.head), np.nan) for one in data.itertuples()]
    grid = data.pivot(index="layer", columns="head", values="value")
    limit = float(data["value"].abs().max()) if len(data) else 1.0
    figure = go.Figure(
        go.Heatmap(
            z=grid.to_numpy(),
            x=grid.columns,
            y=grid.index,
            zmin=-limit,
            zmax=limit,
            colorscale=DIVERGING,  # signed, with zero in the middle
            xgap=1,
            ygap=1,
            colorbar={"title": {"text": "nats", "side": "top"}, "tickformat": ".2~g", "thickness": 16},
            hovertemplate="layer %{y}, head %{x}: %{z:.3g}<extra></extra>",
        )
    )
    marked = data[~(data["p_against_placebos"] < SIGNIFICANT)]
    figure.add_scatter(
        x=marked["head"],
        y=marked["layer"],
        mode="markers",
        marker={"symbol": "x", "size": 9, "color": "#FFFFFF", "line": {"color": "#222222", "width": 1}},
        name="not beyond every placebo",
        hoverinfo="skip",
        showlegend=False,
    )
    figure.update_xaxes(places_axis(data["head"]), title="head", showgrid=False)
    figure.update_yaxes(places_axis(data["layer"]), title="layer", showgrid=False)
    words, _ = METRICS["dropped" if (data["intervention"] == "knockout").any() else "restored"]
    dress(
        figure,
        title=f"{words[0].upper()}{words[1:]} by head: {_name(variants, variant)}, {setting}",
        subtitle=f"{_count(data)}; × not beyond every placebo (p < .05, max-T): {len(marked)} of {len(data)} heads",
        height=230 + 22 * max(8, len(grid)),
    )
    return Figure(figure, data)


def _beats(data: pd.DataFrame, arm: str, layers: pd.Series) -> list[bool]:
    """Whether an arm beats each of its placebos at each layer; a placebo beats nothing."""
    differences = data[data["arm"].str.startswith(f"{arm} - ")]
    worst = differences.groupby("layer")["p"].max()
    return [bool(worst.get(layer, 1.0) < SIGNIFICANT) for layer in layers]


def _name(variants: pd.DataFrame, variant: str) -> str:
    names = variants[variants["variant_id"] == variant]["variant"]
    return str(names.iloc[0]) if len(names) else variant


def _count(data: pd.DataFrame) -> str:
    if data.empty:
        return "no questions"
    return f"n = {data['items'].min()} questions ({data['lost'].min()} lost), {data['entities'].min()} subjects"


def _lens(source: Source) -> Drawn:
    lens = source.table("lens")
    for metric in ("lens_log_prob", "lens_divergence"):
        for group in [group for group in source.groups() if group in set(lens["group"])]:
            yield f"{metric.removeprefix('lens_')}-{group}", lens_figure(lens, source.shown_variants(), metric, group)


def _probes(source: Source) -> Drawn:
    probes = source.table("probes")
    for group in [group for group in source.groups() if group in set(probes["group"])]:
        for way in dict.fromkeys(probes["way"]):
            yield f"{group}-{way}", probes_figure(probes, source.variants(), group, str(way))


def _interventions(source: Source) -> Drawn:
    table, variants = source.table("interventions"), source.variants()
    for row in variants[variants["variant_id"].isin(table["variant_id"])].itertuples():
        own = table[table["variant_id"] == row.variant_id]
        for kind, setting in (("patching", "last"), ("knockout", "zeroed")):
            rows = own[own["intervention"] == kind]
            for heads, draw in ((False, interventions_figure), (True, heads_figure)):
                if len(rows[(rows["head"] >= 0) == heads]):
                    suffix = f"{kind}{'-heads' if heads else ''}-{row.variant}"
                    yield suffix, draw(rows, variants, row.variant_id, setting)


LENS = RunFigure(
    name="lens",
    question="at which layer does a variant begin to say the right answer?",
    draw=_lens,
    tables=("lens", "variants", "recovery"),
    each="metric and group of facts",
    narrow=True,
)
PROBES = RunFigure(
    name="probes",
    question="can a linear map read the answer off a layer?",
    draw=_probes,
    tables=("probes", "recovery", "variants"),
    each="group of facts and way of fitting",
    narrow=True,
)
INTERVENTIONS = RunFigure(
    name="interventions",
    question="where does a state bring the answer back?",
    draw=_interventions,
    tables=("interventions", "variants"),
    each="intervention and variant",
    narrow=True,
)
