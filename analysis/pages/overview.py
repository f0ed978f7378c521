"""First comparison: the verdict, the recovery table, and where inside the model a variant parts from its reference."""

from typing import Any

import pandas as pd
import streamlit as st

from analysis import figures, look, reading
from analysis.pages.shared import View, pick, unique, view
from data.errors import InputError

HUES = {"displaced": "green", "relearned": "orange", "re-injected": "orange", "unreached": "blue", "undecided": "gray"}
CONFIG = {"displaylogo": False, "toImageButtonOptions": {"format": "svg"}}


def show_head(now: View) -> None:
    manifest = now.manifest()
    study = manifest["study"]
    st.title(study.get("title") or f"Study {study['name']}")
    if manifest.get("note"):
        st.caption(f":material/info: Note: {manifest['note']}.")


def show_settings(settings: list[dict[str, Any]]) -> None:
    """One line per decision and reason, with all the settings that share them."""
    places: dict[tuple[str, str], list[str]] = {}
    for one in settings:
        places.setdefault((one["decision"], reading.sentence_of(one)), []).append(f"`{reading.place_of(one)}`")
    lines = [
        f"- {', '.join(named)} :{HUES.get(decision, 'gray')}-badge[{decision}] {sentence}"
        for (decision, sentence), named in places.items()
    ]
    st.markdown("\n".join(lines))


def show_verdict(now: View) -> None:
    verdict = now.verdict()
    with st.container(border=True):
        st.subheader("What the evidence licenses")
        show_settings(verdict["settings"])
        if verdict["controls"]:
            st.markdown("**Controls, where the truth is known**")
            show_settings(verdict["controls"])
        st.caption(
            "Bits per fact on subjects the repair never saw, best of the fixed candidates, calibrated, with 95 % "
            "intervals over replicates and subjects. The choices at the side do not change the verdict."
        )


def show_recovery(now: View) -> None:
    recovery = now.table("recovery")
    groups = unique(recovery.loc[recovery["scope"] == now.scope, "group"])
    group = pick("Group", groups, "group")
    st.caption(f"Scope {now.scope}, group {group}: {reading.GROUP_NOTE.get(group, 'as the study names them')}.")
    rows = reading.recovery_rows(recovery, now.scope, group, now.reading).reset_index()
    st.dataframe(
        rows,
        hide_index=True,
        height="content",
        key="recovery_table",
        column_config={
            "variant": st.column_config.TextColumn(width=270, pinned=True),
            "parameters_added": st.column_config.NumberColumn("parameters added", format="localized"),
        },
    )
    figure = figures.recovery_figure(recovery, now.scope, group, now.reading, chance=now.chance(group))
    st.plotly_chart(figure.figure, key="recovery_chart", config=CONFIG)
    st.caption(
        "Tune subjects are named in the text that repairs are tuned on; test subjects are not. Accuracy: share of "
        "questions answered right; bits: information about the answer that can be read out, per fact. Brackets and "
        "bars: 95 % intervals over replicates (seeds; draws, for a placebo) and subjects; with two or three seeds they "
        "are wide and may pass the ends of the axis, where the chart cuts them. Only what exceeds the placebo, the "
        "recalibrated model and the same repair of the dense model can count as knowledge that came back."
    )


def of_scope(now: View, table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The variants of the chosen scope whose inside was read, and their rows."""
    variants = now.table("variants")
    variants = variants[(variants["scope"] == now.scope) & variants["variant_id"].isin(table["variant_id"])]
    return variants, table[table["variant_id"].isin(variants["variant_id"])]


@st.fragment
def show_drift(variants: pd.DataFrame, drift: pd.DataFrame) -> None:
    st.subheader("Where inside the model it parts from its reference")
    if drift.empty:
        st.caption("This scope has no layerwise measurement.")
        return
    with st.container(horizontal=True):
        metric = pick("Metric", unique(drift["metric"]), "metric", help=metric_help(drift))
        site = pick("Site", unique(drift["site"])[::-1], "site", help=site_help(drift))
        group = pick("Read on", unique(drift["group"]), "read_on")
        reference = pick("Reference", unique(drift["reference"]), "reference")
    figure = figures.layerwise_drift_figure(drift, variants, metric, site, group, reference)
    st.plotly_chart(figure.figure, key="drift_chart", config=CONFIG)
    st.caption(
        "A line is the mean over replicates of a variant at content tokens, never at prompt tokens; a band is the "
        "widest of its replicates' 95 % intervals over sequences, and says nothing about other seeds. The floor is the "
        "dense model against itself in another batch plan: what lies within it is arithmetic, not drift."
    )


@st.fragment
def show_attention(variants: pd.DataFrame, attention: pd.DataFrame, reported: list[str]) -> None:
    st.subheader("Which heads attend elsewhere")
    if attention.empty:
        st.caption("This scope has no measurement of attention.")
        return
    # A reader opens this chart to see a repair; dense against itself is empty by construction.
    repaired = variants["repair"].isin(reported)
    names = unique(variants.loc[repaired, "variant"]) + unique(variants.loc[~repaired, "variant"])[::-1]
    with st.container(horizontal=True):
        variant = pick("Variant", names, "variant")
        rows = attention[attention["variant_id"].isin(variants.loc[variants["variant"] == variant, "variant_id"])]
        metric = pick("Attention metric", unique(rows["metric"]), "attention_metric", help=metric_help(rows))
        group = pick("Read on", unique(rows["group"]), "attention_read_on")
        reference = pick("Reference", unique(rows["reference"]), "attention_reference")
    figure = figures.attention_figure(attention, variants, variant, metric, group, reference)
    st.plotly_chart(figure.figure, key="attention_chart", config=CONFIG)
    st.caption(
        "A cell is one head: mean over content queries, sequences and replicates. Jensen-Shannon: rows renormalised "
        "over content keys, in bits from 0 to 1. Prompt and first-token shares are the variant's own attention, "
        "compared with dense's share rather than with a floor. All variants of this scope share one colour scale."
    )


def metric_help(table: pd.DataFrame) -> str:
    return "; ".join(f"{name}: {look.METRICS[name][0]}" for name in unique(table["metric"]) if name in look.METRICS)


def site_help(table: pd.DataFrame) -> str:
    return "; ".join(f"{name}: {look.SITES[name]}" for name in unique(table["site"]) if name in look.SITES)


now = view()
try:
    show_head(now)
    show_verdict(now)
    show_recovery(now)
    # Read outside the fragment: what fails inside one is shown as a traceback.
    show_drift(*of_scope(now, now.table("drift")))
    show_attention(*of_scope(now, now.table("attention")), now.manifest()["study"]["reported"])
except InputError as error:
    st.error(str(error), icon=":material/error:")
