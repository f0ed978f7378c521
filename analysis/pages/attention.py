"""Attention: layer x head grids of any two variants and of their difference, and every variant at one head."""

import pandas as pd
import streamlit as st

from analysis.figures.figure import Figure
from analysis.figures.heads import cell_of, head_figure, heads_figure, widest_cell
from analysis.figures.tokens import tokens_figure
from analysis.literal import for_page
from analysis.pages.drawing import drawn, show
from analysis.pages.picking import pick, pick_metric, pick_reference, question_words, unique
from analysis.pages.shared import View, panel, view
from data.errors import InputError


def take_cell() -> None:
    """Carry a click on a grid over to the boxes that show layer and head."""
    cell = cell_of(st.session_state.get("heads_chart"))
    if cell is not None:
        st.session_state["layer"], st.session_state["head"] = cell


def pair_of(now: View, variants: pd.DataFrame) -> tuple[str, str]:
    """Two variants: at first a reported repair, beside the same copy without it."""
    names = unique(variants["variant"])
    reported = now.manifest()["study"]["reported"]
    repaired = variants[variants["repair"].isin(reported) & (variants["compression"] != "dense")]
    first = unique(repaired["variant"]) or unique(variants.loc[variants["repair"] != "", "variant"])
    firsts = [*first, *(name for name in names if name not in first)]
    one = pick("First variant", firsts, "first")
    copy = one.split(" + ")[0]
    seconds = [name for name in names if name == copy] + [name for name in names if name != copy]
    return one, pick("Second variant", seconds, "second")


@st.cache_resource(max_entries=16, show_spinner=False)
def measured(now: View) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Attention of the chosen variants, and those variants; shared, never changed in place."""
    table, variants = now.rows("attention"), now.variants()
    variants = variants[variants["variant_id"].isin(table["variant_id"])]
    return table[table["variant_id"].isin(variants["variant_id"])], variants


@drawn
def grids(now: View, pair: tuple[str, str], metric: str, group: str, reference: str) -> Figure:
    return heads_figure(*measured(now), pair, metric, group, reference)


@drawn
def one_head(now: View, metric: str, layer: int, head: int, group: str, reference: str) -> Figure:
    return head_figure(*measured(now), metric, layer, head, group, reference)


@drawn
def tokens_chart(now: View, file: str, pair: tuple[tuple[str, str], ...], layer: int, head: int) -> Figure:
    example = now.example(file)
    return tokens_figure({name: example.variants[one] for name, one in pair}, layer, head, example.question)


@st.fragment
@panel
def show_heads(now: View) -> None:
    attention, variants = measured(now)
    if attention.empty:
        raise InputError(
            f"no measurement of attention of what is chosen at the side (scope {now.scope}): "
            + now.advice("attention", "choose other compressions or repairs")
        )
    left, right = st.columns(2)
    with left, st.container():
        pair = pair_of(now, variants)
    with right, st.container():
        both = attention[attention["variant_id"].isin(variants.loc[variants["variant"].isin(pair), "variant_id"])]
        metric = pick_metric(both, "attention_metric")
        group = pick("Read on", unique(both["group"]), "attention_read_on")
        shared = [name for name in unique(both["reference"]) if _in_both(both, variants, pair, name)]
        reference = pick_reference(shared or ["dense"], "attention_reference")
    both_grids = grids(now, pair, metric, group, reference)
    show(
        both_grids,
        "heads_chart",
        "A cell is one head. The two grids share a scale; in the third, red is more in the first variant and blue more "
        "in the second. Click a cell for every variant at that head.",
        on_select=take_cell,
        selection_mode="points",
    )
    widest = widest_cell(both_grids.figure.data, pair)
    with st.container(horizontal=True):
        layers, heads = ([str(one) for one in sorted(attention[name].unique())] for name in ("layer", "head"))
        layer = pick("Layer", layers, "layer", first=widest and widest[0])
        head = pick("Head", heads, "head", first=widest and widest[1])
    show(
        one_head(now, metric, int(layer), int(head), group, reference),
        "head_chart",
        "Dotted: the floor, dense against itself in another batch plan; for a share of attention and for entropy, "
        "dense's own.",
    )
    show_tokens(now, pair, int(layer), int(head))


@panel
def show_tokens(now: View, pair: tuple[str, str], layer: int, head: int) -> None:
    """The chosen head on one question, token by token, in the two variants."""
    st.subheader("One question, token by token")
    known = now.table("variants").query("scope == @now.scope").set_index("variant_id")["variant"]
    table = now.table("examples", "file", "variant_id", "item", "answer", "why")
    table = table[table["variant_id"].isin(known.index)]
    table = table.assign(variant=table["variant_id"].map(known))
    near = table[table["file"].isin(table.loc[table["variant"] == pair[0], "file"])]
    if near.empty:
        near = table
    if near.empty:
        st.caption(
            "This run keeps no question token by token: `--set 'inside={examples: {items: 2}}'` reads some in the "
            "arms that are reported."
        )
        return
    items = unique(near["item"])
    item = pick("Question", items, "example", words={name: question_words(name) for name in items})
    own = near[near["item"] == item].drop_duplicates("variant")
    names = [*(name for name in pair if name in set(own["variant"])), *own["variant"]]
    chosen = list(dict.fromkeys(names))[:2]
    example = now.example(own["file"].iloc[0])
    identities = own.set_index("variant")["variant_id"]
    st.markdown(f"{for_page(question_words(item))}: **{for_page(example.answer)}** is right; {for_page(example.why)}.")
    show(
        tokens_chart(now, own["file"].iloc[0], tuple((name, str(identities[name])) for name in chosen), layer, head),
        "tokens_chart",
        "A row is one token of the question; P1 to Pn are soft tokens, which stand before it and mean no word. Above "
        "each map: the share of this head's attention that goes to them, a mean over the question's tokens.",
    )
    absent = [name for name in pair if name not in chosen]
    if absent:
        st.caption(f"Not among the arms that were kept for this question: {for_page(', '.join(absent))}.")


def _in_both(table: pd.DataFrame, variants: pd.DataFrame, pair: tuple[str, str], reference: str) -> bool:
    """Whether both variants were compared with a reference."""
    ids = table.loc[table["reference"] == reference, "variant_id"]
    named = set(variants.loc[variants["variant_id"].isin(ids), "variant"])
    return set(pair) <= named


now = view()
st.title("Which heads attend elsewhere")
show_heads(now)
