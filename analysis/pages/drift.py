"""Drift: at which layer and site a variant parts from its reference, and whether a repair brings it back."""

import re
from typing import Any

import pandas as pd
import streamlit as st

from analysis import selecting
from analysis.figures.drift import closer_figure, layer_figure, layerwise_drift_figure
from analysis.figures.figure import Figure, chosen
from analysis.figures.inside import lens_figure
from analysis.literal import for_page
from analysis.look import METRICS
from analysis.metrics import registry
from analysis.pages.drawing import drawn, show
from analysis.pages.picking import pick, pick_measurement, pick_metric, unique
from analysis.pages.shared import View, go_to, panel, view
from data.errors import InputError


def layer_clicked(event: Any) -> str | None:
    """The layer of the point that was clicked on a layerwise chart, if one was."""
    points = (event or {}).get("selection", {}).get("points", [])
    layer = points[0].get("x") if points else None
    return None if layer is None or not re.fullmatch(r"\d+(\.0)?", str(layer)) else str(int(layer))


def words_of(metric: str) -> str:
    """What a metric measures."""
    return METRICS.get(metric, (metric, ""))[0]


def take_layer() -> None:
    """Carry a click on the chart over to the box that shows the layer."""
    layer = layer_clicked(st.session_state.get("drift_chart"))
    if layer is not None:
        st.session_state["layer"] = layer


@st.cache_resource(max_entries=16, show_spinner=False)
def measured(now: View) -> pd.DataFrame:
    """Drift of the chosen variants; shared, never changed in place."""
    table = now.rows("drift")
    return table[table["variant_id"].isin(now.variants()["variant_id"])]


@st.cache_resource(max_entries=64, show_spinner=False)
def closer_of(now: View, metric: str, site: str, group: str) -> pd.DataFrame:
    """By how much nearer to dense each repair brings its copy; shared, never changed in place."""
    closer = selecting.closer_to_dense(now.rows("drift"), now.variants(), metric, site, group)
    return closer[closer["compression"] != "dense"]


@drawn
def curves(now: View, metric: str, site: str, group: str, reference: str) -> Figure:
    return layerwise_drift_figure(measured(now), now.variants(), metric, site, group, reference)


@drawn
def one_layer(now: View, metric: str, layer: int, group: str, reference: str) -> Figure:
    return layer_figure(measured(now), now.variants(), metric, layer, group, reference)


@drawn
def closer_chart(now: View, metric: str, site: str, group: str) -> Figure:
    return closer_figure(closer_of(now, metric, site, group), metric, site, group)


@drawn
def lens_chart(now: View, metric: str, group: str) -> Figure:
    return lens_figure(now.rows("lens"), now.of_all_seeds(), metric, group)


@st.fragment
@panel
def show_drift(now: View) -> None:
    drift = measured(now)
    if drift.empty:
        raise InputError(
            f"no layerwise measurement of what is chosen at the side (scope {now.scope}): "
            + now.advice(
                "drift", "choose other compressions or repairs, since re-weighted answers have no inside of their own"
            )
        )
    with st.container(horizontal=True):
        metric, site, group, reference = pick_measurement(drift)
    show(
        curves(now, metric, site, group, reference),
        "drift_chart",
        "A line is the mean over replicates of a variant at content tokens, never at prompt tokens; a band is the "
        "widest of its replicates' 95 % intervals over sequences, and says nothing about other seeds. Within the grey "
        "floor (dense against itself in another batch plan) is arithmetic, not drift. Click a mark to go deeper.",
        on_select=take_layer,
        selection_mode="points",
    )
    show_direction(now, metric, site, group)
    st.subheader("One layer deeper")
    layers = [str(layer) for layer in sorted(drift["layer"].unique())]
    layer = pick("Layer", layers, "layer", help="or click a mark in the curves above")
    show(
        one_layer(now, metric, int(layer), group, reference),
        "layer_chart",
        "Attention and MLP write into the residual stream: what has moved after the block but in neither of the two "
        "came from an earlier layer.",
    )
    go_to("attention", f"Heads of layer {layer}", layer=layer)
    same = chosen(drift, metric=metric, site=site, reference=reference)
    for other in unique(same["group"]):  # while the page is read: the first choice of the other waits for no drawing
        curves(now, metric, site, other, reference)


@panel
def show_direction(now: View, metric: str, site: str, group: str) -> None:
    st.subheader("Towards dense, or away")
    if metric in registry.METRICS and not registry.METRICS[metric].is_distance:
        st.caption(
            f"The {for_page(words_of(metric))} is no distance from dense: choose another metric, such as "
            f"'{words_of('cosine')}', to see the direction."
        )
        return
    if closer_of(now, metric, site, group).empty:
        st.caption(
            "Nothing here: it takes a repair and its own copy without one, both measured against dense by "
            f"'{for_page(words_of(metric))}'. Choose a compression and a repair at the side, or another metric."
        )
        return
    show(
        closer_chart(now, metric, site, group),
        "closer_chart",
        "Above zero, the repaired copy is nearer to the dense model than the unrepaired one is; below, the repair "
        "works by going somewhere else. Both numbers are of the same replicate.",
    )
    if "direction" not in set(now.rows("drift")["metric"]):
        st.caption(
            "The angle of that movement was not measured in this run: "
            "`--set 'drift.metrics=[basic, direction]'` adds it as a metric."
        )


@st.fragment
@panel
def show_lens(now: View) -> None:
    """Where the model's own last norm and head first read the right answer."""
    st.subheader("Logit lens")
    lens, variants = now.rows("lens"), now.of_all_seeds()
    lens = lens[lens["variant_id"].isin(variants["variant_id"]) & (lens["layer"] >= 0)]
    if lens.empty:
        st.caption(
            "The lens was not read in what is chosen at the side: "
            + for_page(now.advice("lens", "choose other compressions or repairs"))
            + ", or run the study with `--set 'inside={lens: {items: 24}}'`."
        )
        return
    with st.container(horizontal=True):
        metric = pick_metric(lens, "lens_metric")
        group = pick("Group of facts", unique(lens.loc[lens["metric"] == metric, "group"]), "lens_group")
    show(
        lens_chart(now, metric, group),
        "lens_chart",
        "Each layer is read as if it were the last, with the model's own last norm and head. Compare a repaired line "
        "with the grey one of its panel, and that with dense's: where they part, the answer is read off otherwise.",
    )


now = view()
st.title("Where inside the model it parts from its reference")
show_drift(now)
show_lens(now)
