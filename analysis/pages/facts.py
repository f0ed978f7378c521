"""Facts: search any question; what every variant answers, and how probable the right answer is to it."""

from contextlib import suppress

import pandas as pd
import streamlit as st

from analysis import selecting
from analysis.causal import COLUMNS as PATCHED
from analysis.causal import places_of, strongest
from analysis.figures.facts import answer_figure
from analysis.figures.figure import Figure
from analysis.figures.inside import SIGNIFICANT
from analysis.figures.tokens import first_layers, item_lens_figure
from analysis.literal import for_page
from analysis.look import SITES
from analysis.pages.drawing import drawn, show, take, without_minus_zero
from analysis.pages.picking import pick, question_words, unique
from analysis.pages.shared import ANSWERS, View, go_to, group_of, groups_of, panel, view
from analysis.reading import compact, p_words
from data.errors import InputError

MOST = 200  # rows of questions sent to the browser at once
READ = "read by the lens"
LENS = ("variant_id", "item", "layer", "log_prob", "rank")
WHICH = ("all", "lost by compression", "returned by a repair", "still lost", READ)


@st.cache_resource(max_entries=16, show_spinner=False)
def asked(now: View, group: str) -> pd.DataFrame:
    """Answers of one group in the chosen reading; shared, never changed in place."""
    answers = now.rows("answers", *ANSWERS)
    answers = answers[(answers["group"] == group) & (answers["reading"] == now.reading)]
    return answers[
        (answers["phrasing"] == "measure") & answers["variant_id"].isin([*now.variants()["variant_id"], now.dense_id()])
    ]


@st.cache_resource(max_entries=16, show_spinner=False)
def questions(now: View, group: str) -> pd.DataFrame:
    """One row per question, with the share of right replicates of every variant."""
    return selecting.items_of(asked(now, group), now.variants(), now.dense_id())


def chosen_of(now: View, table: pd.DataFrame, which: str, copy: str, repaired: str) -> pd.DataFrame:
    """Questions that a compressed copy lost, and that a repair of it returned or did not."""
    if which == WHICH[0]:
        return table
    if which == READ:
        return table[table["item"].isin(now.table("lens_items", "item")["item"])]
    lost = table["was"].astype(bool) & (table[copy] < 0.5)
    if which == WHICH[1]:
        return table[lost]
    back = table[repaired] > 0.5
    return table[lost & (back if which == WHICH[2] else ~back)]


def settings_of(now: View) -> list[str]:
    """Repaired variants of compressed copies; of the dense model, in scopes that are never damaged."""
    variants = now.variants()
    repaired = variants[variants["repair"] != ""]
    damaged = repaired[repaired["compression"] != "dense"]
    names = unique((damaged if len(damaged) else repaired)["variant"])
    reported = now.manifest()["study"]["reported"]
    return sorted(names, key=lambda name: name.split(" + ")[-1] not in reported)


@st.fragment
@panel
def show_search(now: View, group: str) -> None:
    table, settings = questions(now, group), settings_of(now)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        words = st.text_input("Search", key="find", bind="query-params", placeholder="a subject, relation or answer")
        which, variant = WHICH[0], ""
        if settings:
            which = pick("Which questions", list(WHICH), "which", help="against dense; most replicates decide")
            variant = pick("Setting", settings, "of", help="whose losses and returns are listed")
    kept = chosen_of(now, table, which, variant.split(" + ")[0], variant)
    kept = found_in(kept, words)
    names = unique(kept["item"])
    told = f"{len(kept):,} of {len(table):,} questions of group {group}"
    told += "" if which == WHICH[0] else f", {which}" if which == READ else f", {which}: {variant}"
    told = for_page(told)
    st.caption(told if len(names) <= MOST else f"{told}; the first {MOST} are listed, so narrow the search")
    if not names:
        st.info(f"No question fits: {for_page(advice_of(now, group, words))}.", icon=":material/search_off:")
        return
    shown = kept[["item", "relation", "entity", "answer", "split"]].head(MOST)
    st.dataframe(shown.drop(columns="item"), hide_index=True, height=200, key="questions")
    linked, telling = st.query_params.get("item", st.session_state.get("item")), telling_of(now, names)
    options = names[:MOST] + [name for name in dict.fromkeys((linked, telling)) if name in set(names[MOST:])]
    item = pick("Question", options, "item", first=telling, words={name: question_words(name) for name in options})
    show_item(now, group, item)
    show_steps(now, item, variant)


def found_in(table: pd.DataFrame, words: str) -> pd.DataFrame:
    """The questions of which every word is in the subject, the relation or the answer."""
    for word in words.lower().split():
        hit = table["entity"].str.lower().str.contains(word, regex=False)
        for column in ("relation", "answer"):
            hit |= table[column].str.lower().str.contains(word, regex=False)
        table = table[hit]
    return table


def advice_of(now: View, group: str, words: str) -> str:
    """What to do where no question fits: another group may have what is searched."""
    others = [other for other in groups_of(now) if other != group and len(found_in(questions(now, other), words))]
    if words and others:
        return f"group {' and group '.join(others)} above has what is searched"
    return "clear the search, or choose other questions"


def telling_of(now: View, names: list[str]) -> str:
    """Of these questions the first that was looked into, token by token or by the lens; without one, the first."""
    listed, shown = set(names), set(now.variants()["variant_id"])
    for table in ("examples", "lens_items"):
        with suppress(InputError):  # what is wrong with the table is said where it is shown
            held = now.table(table, "variant_id", "item")
            own = unique(held.loc[held["variant_id"].isin(shown), "item"])
            if found := next((item for item in own if item in listed), None):
                return found
    return names[0]


@st.cache_resource(max_entries=64, show_spinner=False)
def told_of(now: View, group: str, item: str) -> pd.DataFrame:
    """What every variant answered to one question; shared, never changed in place."""
    answers = asked(now, group)
    return selecting.answers_to(answers[answers["item"] == item], now.variants())


@drawn
def answer_chart(now: View, group: str, item: str, answer: str) -> Figure:
    return answer_figure(told_of(now, group, item), answer)


def show_item(now: View, group: str, item: str) -> None:
    """What every variant answered to one question."""
    answers = asked(now, group)
    fact = answers[answers["item"] == item].iloc[0]
    told = told_of(now, group, item)
    read = "read by repairs" if fact["split"] == "tune" else "never read by a repair"
    asked_of, answer = for_page(f"{fact['relation']} of {fact['entity']}"), for_page(fact["answer"])
    st.markdown(f"**{asked_of}**: {answer} ({fact['split']} subject, {read})")
    st.dataframe(
        without_minus_zero(told[["variant", "answers", "right", "log_prob", "replicates"]]),
        hide_index=True,
        height=min(38 + 35 * len(told), 420),
        key="answers_table",
        column_config={
            "variant": st.column_config.TextColumn(width=270, pinned=True),
            "answers": st.column_config.TextColumn(
                "answer", help="how many replicates, where they differ", width="medium"
            ),
            "right": st.column_config.ProgressColumn("right", format="%.2f", min_value=0, max_value=1),
            "log_prob": st.column_config.NumberColumn("log-probability, nats", format="%.2f"),
        },
    )
    take(told, "answers")
    among = "among the candidates" if now.reading == "candidates" else "over the whole vocabulary"
    show(
        answer_chart(now, group, item, str(fact["answer"])),
        "answer_chart",
        f"The right answer's log-probability {among}: nearer to zero is surer. One question decides nothing; it shows "
        "what a number on the other pages is made of.",
    )
    show_lens(now, item, str(fact["answer"]))


@panel
def show_steps(now: View, item: str, variant: str) -> None:
    """Where to go on with a question: Attention opens on it where it was kept token by token."""
    table = now.table("examples", "variant_id", "item")
    names = unique(now.variants().merge(table[table["item"] == item], on="variant_id")["variant"])
    if not names:
        st.caption("No variant chosen at the side kept this question token by token: Attention shows others.")
    with st.container(horizontal=True):
        if names:
            first = variant if variant in names else max(names, key=lambda name: " + " in name)
            second = first.split(" + ")[0]
            go_to("attention", "Where attention moved on it", example=item, first=first, second=second)
        else:
            go_to("attention", "Where attention moved")
        go_to("choices", "Which prompt was kept", item=item)


@st.cache_resource(max_entries=64, show_spinner=False)
def lens_of(now: View, item: str) -> pd.DataFrame:
    """What the lens reads of one question, by variant and layer; shared, never changed in place."""
    table = now.table("lens_items", *LENS)
    own = now.of_all_seeds()[["variant_id", "variant", "compression", "repair"]].merge(
        table[table["item"] == item], on="variant_id"
    )
    own["rank"] = own["rank"].astype(float)
    return own.groupby(["variant", "compression", "repair", "layer"], sort=False, as_index=False).agg(
        log_prob=("log_prob", "mean"), rank=("rank", "median"), replicates=("variant_id", "nunique")
    )


@drawn
def lens_chart(now: View, item: str, answer: str) -> Figure:
    return item_lens_figure(lens_of(now, item), answer)


@panel
def show_lens(now: View, item: str, answer: str) -> None:
    """Where the lens first shows the answer to one question."""
    st.subheader("Where inside the answer shows")
    rows = lens_of(now, item)
    if rows.empty:
        st.caption(
            f"The lens was not read on this question: choose questions '{READ}' above"
            if len(now.table("lens_items", *LENS))
            else "This run did not read the lens: `--set 'inside={lens: {items: 24}}'` adds it."
        )
        return
    show(
        lens_chart(now, item, answer),
        "item_lens_chart",
        "The lens reads each layer with the model's own last norm and head. An answer that stands on top in the "
        "middle and is lost again at the end had been found and was then overruled.",
    )
    st.dataframe(
        first_layers(rows),
        hide_index=True,
        height="content",
        key="first_layers",
        column_config={
            "variant": st.column_config.TextColumn(width=270),
            "first": st.column_config.NumberColumn("first on top, layer", help="empty: never"),
            "stays": st.column_config.NumberColumn("stays on top from layer", help="empty: not on top at the end"),
            "last": st.column_config.NumberColumn("rank at the end", format="%.0f"),
        },
    )


@st.cache_resource(max_entries=16, show_spinner=False)
def patched(now: View, group: str) -> pd.DataFrame:
    """Where patching restores most in each variant; shared, never changed in place."""
    table = now.table("interventions", *PATCHED)
    asked_of = table["group"].str.split(", ").map(lambda names: group in names).astype(bool)  # of no rows, of no type
    found = places_of(table[asked_of], now.of_all_seeds())
    return strongest(found[found["intervention"] == "patching"])


@panel
def show_patching(now: View, group: str) -> None:
    """What patching restores: over the questions that were patched, since no single one is kept."""
    st.subheader("What patching restores")
    found = patched(now, group)
    if found.empty:
        st.caption("Nothing that is chosen at the side was patched in this run.")
        return
    for _, one in found.iterrows():
        beyond = "beyond every placebo" if one["p_placebo"] < SIGNIFICANT else "no more than a placebo may"
        nats = compact(one["value"], one["lower"], one["upper"])
        where = f"the {SITES.get(one['site'], one['site'])} of layer {one['layer']} (positions: {one['positions']})"
        st.markdown(
            f"- {for_page(one['variant'])}: most comes back with {for_page(where)}: {nats} nats of log-odds, {beyond} "
            f"(p {p_words(one['p_placebo'])}, max-T; n = {one['items']} questions, {one['lost']} of them lost)"
        )
    go_to("causal", "Every place that was patched")


@panel
def show_page(now: View) -> None:
    group = group_of(now)
    show_search(now, group)
    show_patching(now, group)


now = view()
st.title("What every variant answers")
show_page(now)
