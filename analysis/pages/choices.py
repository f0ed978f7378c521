"""IDP: which prompt was kept for which question and why, and whether choosing was worth anything."""

import pandas as pd
import streamlit as st

from analysis.figures.facts import choice_figure, usage_figure
from analysis.figures.figure import Figure
from analysis.literal import for_page
from analysis.pages.drawing import drawn, show, take
from analysis.pages.picking import pick, question_words, unique
from analysis.pages.shared import View, go_to, panel, view
from analysis.reading import compact, p_words
from data.errors import InputError

MEASURES = {"accuracy": "accuracy (share right)", "log_prob": "log-probability (nats)"}


def bank_of(now: View) -> pd.DataFrame:
    """The bank of prompts that is looked at: one variant, one replicate."""
    variants = now.variants()
    banks = variants[variants["variant_id"].isin(now.table("banks")["variant_id"])]
    if banks.empty:
        raise InputError(
            f"no bank of prompts among what is chosen at the side (scope {now.scope}): "
            + now.advice("banks", "choose an idp repair")
            + ", or run a study that names one: {kind: idp, lengths: [8, 8, 8], learning_rate: 0.03}"
        )
    damaged = unique(banks.loc[banks["compression"] != "dense", "variant"])  # what the question is of
    with st.container(horizontal=True):
        name = pick("Variant", unique(banks["variant"]), "bank", first=next(iter(damaged), None))
        own = banks[banks["variant"] == name]
        replicate = pick("Replicate", [str(one) for one in own["replicate"]], "replicate")
    return own[own["replicate"] == int(replicate)]


def selectors_of(now: View, identity: str) -> pd.DataFrame:
    """How every selector did with one bank."""
    table = now.table("selectors")
    return table[table["variant_id"] == identity]


@drawn
def usage_chart(now: View, identity: str, group: str, measure: str) -> Figure:
    table = selectors_of(now, identity)
    return usage_figure(table[(table["group"] == group) & (table["measure"] == measure)])


@drawn
def choice_chart(scores: tuple[float, ...], log_probs: tuple[float, ...], chosen: int) -> Figure:
    return choice_figure(list(scores), list(log_probs), chosen)


@st.fragment
@panel
def show_choices(now: View) -> None:
    bank = bank_of(now)
    identity = bank["variant_id"].iloc[0]
    table = selectors_of(now, identity)
    with st.container(horizontal=True):
        group = pick("Group of facts", unique(table["group"]), "choice_group")
        measure = pick("Measure", list(MEASURES), "measure", words=MEASURES)
    table = table[(table["group"] == group) & (table["measure"] == measure)]
    show_selectors(table, measure, f"{bank['variant'].iloc[0]}, replicate {bank['replicate'].iloc[0]}, group {group}")
    show(
        usage_chart(now, identity, group, measure),
        "usage_chart",
        "A row that is all one colour in one place keeps a single prompt whatever is asked. The mixture keeps all, so "
        "it has no row.",
    )
    show_question(now, identity, group)
    go_to("live", "Type a text and watch the choice", live=[str(bank["variant"].iloc[0])])


def show_selectors(table: pd.DataFrame, measure: str, told: str) -> None:
    """Every selector against a random choice, the best single prompt and the oracle; `told` says of what."""
    quantities = {
        MEASURES[measure]: ("value", "lower", "upper"),
        **{f"more than {words}": (f"minus_{name}", f"minus_{name}_lower", f"minus_{name}_upper")
           for name, words in (("random", "a random choice"), ("best_single", "the best single prompt"))},
    }  # fmt: skip
    shown = table[["selector"]].assign(
        **{words: [compact(*row) for row in table[list(names)].to_numpy()] for words, names in quantities.items()},
        regret=table["regret"],
        p=[p_words(p) if pd.notna(p) else "" for p in table["p"]],
        bits=table["choice_bits"],
    )
    number = st.column_config.NumberColumn
    st.subheader("Was choosing worth it?")
    st.dataframe(
        shown,
        hide_index=True,
        height="content",
        key="selectors_table",
        placeholder="",
        column_config={
            "regret": number(format="%.2f", help="what the best prompt of each question would add, in hindsight"),
            "p": st.column_config.TextColumn(help="the choice against the same choices dealt to other questions"),
            "bits": number("choice, bits", format="%.2f", help="how much a choice tells: 0 keeps one prompt for all"),
        },
    )
    take(table, "selectors")
    items, subjects = (int(table[name].max()) for name in ("items", "entities"))
    st.caption(
        f"{for_page(told)}: n = {items} test questions on {subjects} subjects; 95 % intervals over subjects. "
        "The oracle is told the answers: a bound, no selector."
    )


@panel
def show_question(now: View, identity: str, group: str) -> None:
    st.subheader("One question")
    table = now.table("selections")
    own = table[(table["variant_id"] == identity) & (table["group"] == group)]
    with_scores = own[own["chosen"].notna()]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        selector = pick("Selector", unique(with_scores["selector"]), "selector")
        words = st.text_input("Search", key="find", bind="query-params", placeholder="a subject or relation")
    rows = with_scores[with_scores["selector"] == selector]
    for word in words.lower().split():
        rows = rows[rows["item"].str.lower().str.contains(word, regex=False)]
    if rows.empty:
        st.info("No test question fits: clear the search.", icon=":material/search_off:")
        return
    names = unique(rows["item"])
    linked = st.query_params.get("item", st.session_state.get("item"))
    listed = names[:200] + ([linked] if linked in set(names[200:]) else [])
    item = pick("Question", listed, "item", words={name: question_words(name) for name in listed})
    row = rows[rows["item"] == item].iloc[0]
    log_probs, chosen = list(row["log_prob_by_prompt"]), int(row["chosen"])
    best = int(row["oracle"])
    lost = log_probs[best] - log_probs[chosen]
    of = f"{for_page(question_words(item))}: {for_page(selector)}"
    st.markdown(
        f"{of} kept prompt **{chosen + 1}**; the best in hindsight was **{best + 1}**, so the choice gave away "
        f"{lost:.2f} nats. The answer was {'right' if row['correct'] else 'wrong'}."
    )
    show(
        choice_chart(tuple(row["scores"]), tuple(log_probs), chosen),
        "choice_chart",
        "A selector knows something where its scores rank the prompts as the answers do.",
    )


now = view()
st.title("Which prompt was kept, and was it the right one")
show_choices(now)
