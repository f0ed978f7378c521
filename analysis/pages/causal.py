"""Causal: what patching the source's states restores, and what taking the prompt's keys away costs."""

import pandas as pd
import streamlit as st

from analysis import causal
from analysis.figures.figure import Figure
from analysis.figures.inside import heads_figure, interventions_figure
from analysis.literal import for_page
from analysis.look import SITES
from analysis.pages.drawing import drawn, show, take, without_minus_zero
from analysis.pages.picking import pick, unique
from analysis.pages.shared import View, go_to, panel, view
from analysis.reading import p_words
from data.errors import InputError

KINDS = {"patching": "Patching", "knockout": "Knockout of the prompt"}
SAYS = {
    "patching": "Into the damaged model goes one state of the source (dense; the key's or the twin's in a control) at "
    "one layer. *Other fact* and *noise* go in the same way and carry nothing of the answer: only what exceeds both "
    "is knowledge that was put back. Over questions that damage lost, as far as there are any.",
    "knockout": "The repaired model may no longer attend to its prompt from one layer on; *random keys* takes as many "
    "of the content's own keys away. What drops more than that is what the prompt does there.",
}


@st.cache_resource(max_entries=8, show_spinner=False)
def places(now: View) -> pd.DataFrame:
    """Every place of the chosen variants; shared, never changed in place."""
    return causal.places_of(now.table("interventions", *causal.COLUMNS), now.of_all_seeds())


@drawn
def layers_chart(now: View, identity: str, setting: str) -> Figure:
    return interventions_figure(now.table("interventions", *causal.COLUMNS), now.of_all_seeds(), identity, setting)


@drawn
def heads_chart(now: View, identity: str, setting: str) -> Figure:
    return heads_figure(now.table("interventions", *causal.COLUMNS), now.of_all_seeds(), identity, setting)


@st.fragment
@panel
def show_page(now: View) -> None:
    found = places(now)
    if found.empty:
        raise InputError(
            f"no intervention on what is chosen at the side (scope {now.scope}): "
            + now.advice("interventions", "choose other compressions or repairs")
            + ", or name `inside: {interventions: {}}` in a study"
        )
    with st.container(horizontal=True):
        kinds = [KINDS[kind] for kind in unique(found["intervention"])]
        named = pick("Intervention", kinds, "intervention")
        kind = next(key for key, words in KINDS.items() if words == named)
        own = found[found["intervention"] == kind]
        variant = pick("Variant", unique(own["variant"]), "patched_variant", help="what is patched, or knocked out in")
        own = own[own["variant"] == variant]
        replicate = pick("Replicate", [str(one) for one in unique(own["replicate"])], "patched_replicate")
        own = own[own["replicate"] == int(replicate)]
        if kind == "patching":
            setting = pick("At", unique(own["positions"]), "positions", help="the last token alone, or all of them")
        else:
            setting = pick("Form", unique(own["form"]), "form", help="renormalised: the other keys share the rest")
        own = own[(own["positions"] if kind == "patching" else own["form"]) == setting]
    identity = own["variant_id"].iloc[0]
    show(layers_chart(now, identity, setting), "layers_chart", SAYS[kind])
    if (own["head"] >= 0).any():
        show(
            heads_chart(now, identity, setting),
            "intervened_heads_chart",
            "A cell is one head of one layer. × marks heads that no test tells from every placebo.",
        )
    else:
        st.caption("This run has no intervention head by head at this setting.")
    show_places(own, kind, f"{variant}, replicate {replicate}, {setting}")
    with st.container(horizontal=True):
        go_to("facts", "See which questions")
        go_to("attention", "Where attention moved")


def show_places(own: pd.DataFrame, kind: str, told: str) -> None:
    """Every place with its placebo and corrected p; `told` says of what."""
    st.subheader("Every place")
    st.caption(for_page(told))
    shown = own.assign(
        layers=own.apply(causal.layers_said, axis=1),
        head=own["head"].astype(str).where(own["head"] >= 0, "all"),
        site=own["site"].map(lambda site: SITES.get(site, site)),
        p_placebo=own["p_placebo"].map(lambda p: p_words(p) if pd.notna(p) else ""),
    ).sort_values("value", ascending=False)
    number = st.column_config.NumberColumn
    st.dataframe(
        without_minus_zero(
            shown[["site", "layers", "head", "value", "lower", "upper", "placebo", "p_placebo", "items", "lost"]]
        ),
        hide_index=True,
        height=300,
        key="places_table",
        column_config={
            "value": number(f"{causal.WORDS[kind]}, nats", format="%+.2f", help="log-odds of the right answer"),
            "lower": number("from", format="%+.2f", help="95 % interval over subjects"),
            "upper": number("to", format="%+.2f", help="95 % interval over subjects"),
            "placebo": number("strongest placebo", format="%+.2f"),
            "p_placebo": st.column_config.TextColumn("p, max-T", help="against every placebo, corrected over places"),
            "items": number("n", help="questions"),
            "lost": number("of them lost", help="right in the source, wrong in what is patched"),
        },
    )
    take(own, "places")


now = view()
st.title("Which states carry the answer")
show_page(now)
