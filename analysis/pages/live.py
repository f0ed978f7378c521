"""Live: open variants of the run, type a text, and see side by side what they say next, attend to and become."""

from types import ModuleType
from typing import Any

import pandas as pd
import streamlit as st

from analysis.figures.drift import typed_drift_figure
from analysis.figures.facts import scores_figure
from analysis.figures.tokens import lens_words_figure, tokens_figure
from analysis.literal import for_page
from analysis.pages.drawing import show, take
from analysis.pages.picking import pick, several, unique
from analysis.pages.shared import View, panel, view
from data.errors import InputError

UNASKABLE = ("recalibrated", "key", "ensemble")
"""Kinds that are no model of their own to type to: re-weighted answers, words before a question, several passes."""
MOST = 4
DENSE = "dense"


def live() -> ModuleType:
    """The module that opens models, and with it the model libraries."""
    from analysis import live as module

    return module


@st.cache_resource(max_entries=8, show_spinner="Opening the model")
def opened(now_run: Any, stamp: str, identity: str) -> Any:
    """One variant, shared by all sessions; its key is the run as written and everything the variant is.

    Other windows may have pushed it out since it was agreed to: memory is looked at again, whoever asks.
    """
    module = live()
    parts = module.find_parts(now_run, [identity])[identity]
    module.check_memory([parts])
    return module.open_parts(parts)


@st.cache_resource(max_entries=8, show_spinner="Reading the text")
def told_of(now_run: Any, stamp: str, variants: tuple[tuple[str, str], ...], text: str) -> dict[str, Any]:
    """What variants make of a text, by name; shared, never changed in place."""
    found: dict[str, Any] = live().ask({name: opened(now_run, stamp, one) for name, one in variants}, text)
    return found


def askable(now: View) -> pd.DataFrame:
    """Variants of one replicate that can be typed to, dense first."""
    table = now.table("variants")
    table = table[(table["scope"] == now.scope) & ~table["kind"].isin(UNASKABLE)]
    seeds = sorted(int(one) for one in table["replicate"].unique())
    replicate = now.seed if now.seed is not None else seeds[0]
    own = table["compression_seed"].fillna(table["replicate"])
    unshaped = table["compression_seed"].isna() & table["repair_seed"].isna()
    return table[unshaped | (own == replicate)].drop_duplicates("variant")


def chosen(now: View, table: pd.DataFrame) -> pd.DataFrame:
    """The variants side by side: dense always, since the others are compared with it."""
    names = unique(table["variant"])
    others = [name for name in names if name != DENSE]
    reported = now.manifest()["study"]["reported"]
    damaged = table[table["compression"] != DENSE]
    copy = unique(damaged.loc[damaged["repair"] == "", "variant"])[:1]
    own = damaged[damaged["repair"].isin(reported) & damaged["compression"].isin(copy)]
    start = [*copy, *unique(own["variant"])]
    first = (start or others)[: MOST - 1]
    picked = several("Beside dense", others, "live", first, MOST - 1, help="at most three")
    return table[table["variant"].isin([DENSE, *picked])]


def is_open(now: View, variants: pd.DataFrame) -> bool:
    """Whether these variants are open; if not, what opening them takes, and the button that does it."""
    identities = tuple(variants["variant_id"])
    wanted = (now.run, now.stamp, identities)
    if st.session_state.get("live_open") == wanted:
        return True
    need = st.session_state.get("live_need")
    if need is None or need[0] != wanted:
        timings = now.table("timings", "kind", "peak_bytes")
        most = timings.loc[timings["kind"] == "scored", "peak_bytes"].max()
        known = "" if pd.isna(most) else f" In this run a worker with one variant held {most / 1e9:.1f} GB at most."
        st.caption(f"No model is open here, and nothing is loaded before you ask.{known}")
        if not st.button("See what opening them takes", icon=":material/memory:", key="live_ask"):
            return False
        need = wanted, *need_of(now, identities)
        st.session_state["live_need"] = need
    st.markdown(
        f"Opening these {len(identities)} variants takes about **{need[1] / 1e9:.1f} GB** (to a factor of two, the "
        f"libraries included); {need[2] / 1e9:.1f} GB are free."
    )
    if st.button("Open them", type="primary", icon=":material/bolt:", key="live_go"):
        live().check_memory(list(live().find_parts(now.run, identities).values()))
        for identity in identities:
            opened(now.run, now.stamp, identity)
        st.session_state["live_open"] = wanted
        st.rerun(scope="fragment")
    return False


def need_of(now: View, identities: tuple[str, ...]) -> tuple[int, int]:
    """Bytes that opening takes, and bytes that are free."""
    with st.spinner("Loading the model libraries"):
        module = live()
        parts = list(module.find_parts(now.run, identities).values())
        return module.bytes_needed(parts), module.bytes_free()


@st.fragment
@panel
def show_page(now: View) -> None:
    variants = chosen(now, askable(now))
    if DENSE not in set(variants["variant"]):
        raise InputError(f"scope '{now.scope}' of this run has no dense model to stand beside: choose another scope")
    if not is_open(now, variants):
        return
    text = st.text_input(
        "Text",
        key="typed",
        bind="query-params",
        placeholder="the beginning of a sentence",
        help="read as it stands; the atlas knows 365 words only, all lower case",
    )
    if not text.strip():
        st.info("Type the beginning of a sentence and press Enter.", icon=":material/keyboard:")
        return
    order = sorted(zip(variants["variant"], variants["variant_id"], strict=True), key=lambda one: one[0] != DENSE)
    told = told_of(now.run, now.stamp, tuple(order), text)
    if any("<unk>" in one.shown.tokens for one in told.values()):
        st.caption(":material/warning: This model does not know every word of it: an unknown one is read as \\<unk>.")
    show_next(told)
    show_choice(told)
    show_drift(variants, told)
    show_inside(told, text)


def show_next(told: dict[str, Any]) -> None:
    """The likeliest next tokens of every variant."""
    st.subheader("What comes next")
    columns = {
        name: [f"{word.strip() or '␣'}  {log_prob:.2f}" for word, log_prob in zip(
            one.next_words, one.next_log_probs, strict=True)]
        for name, one in told.items()
    }  # fmt: skip
    st.dataframe(pd.DataFrame(columns), hide_index=True, height="content", key="next_table")
    rows = [
        {"variant": name, "place": place, "token": word, "log_prob": log_prob}
        for name, one in told.items()
        for place, (word, log_prob) in enumerate(zip(one.next_words, one.next_log_probs, strict=True), 1)
    ]
    take(pd.DataFrame(rows), "next")
    st.caption("Next tokens, likeliest first, with their log-probabilities over the whole vocabulary (nats).")


def show_choice(told: dict[str, Any]) -> None:
    """Which prompt IDP keeps for this text."""
    for name, one in told.items():
        if one.kept is not None:
            st.subheader(f"The choice of {for_page(name)}")
            show(
                scores_figure(one.scores, one.kept),
                f"scores_chart {name}",
                "The selector read the text alone and kept the prompt that it scored highest.",
            )


def show_drift(variants: pd.DataFrame, told: dict[str, Any]) -> None:
    """Where each variant's residual stream parts from dense's on this text."""
    st.subheader("Where it parts from dense")
    table = live().drift_table(told, DENSE)
    table = variants[["variant", "compression", "repair"]].merge(table, on="variant")
    table = table[table["variant"] != DENSE]
    if table.empty:
        st.caption("Choose a variant beside dense.")
        return
    show(
        typed_drift_figure(table, int(table["tokens"].max())),
        "typed_drift_chart",
        "At the text's own tokens, never at a prompt's. One text decides nothing; the Drift page has the floor.",
    )


def show_inside(told: dict[str, Any], text: str) -> None:
    """Attention at one head and the lens at every layer."""
    st.subheader("What it attends to")
    first = next(iter(told.values())).shown
    layers, heads = first.attention.shape[:2]
    names = [DENSE, *sorted((name for name in told if name != DENSE), key=lambda name: not told[name].shown.prompt)]
    with st.container(horizontal=True):
        layer = pick("Layer", [str(one) for one in range(layers)], "layer")
        head = pick("Head", [str(one) for one in range(heads)], "head")
        beside = pick("Maps of dense and of", names[1:], "typed_second") if len(names) > 1 else DENSE
    shown = {name: told[name].shown for name in dict.fromkeys([DENSE, beside])}
    show(
        tokens_figure(shown, int(layer), int(head), text),
        "typed_tokens_chart",
        "A row is one token of the text; P1 to Pn are soft tokens, which stand before it and mean no word.",
    )
    answer = next(iter(told.values())).next_words[0].strip()
    show(
        lens_words_figure(told[beside].shown, beside, answer),
        "lens_words_chart",
        f"The lens reads each layer with the model's last norm and head; '{for_page(answer)}' is what dense says next.",
    )


now = view()
st.title("Ask any text of any variant")
show_page(now)
