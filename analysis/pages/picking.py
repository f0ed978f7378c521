"""Boxes that a page's choices are made in, each kept in the address under its key, and the words they show."""

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from analysis import look
from data.errors import InputError

NOTHING = "{label}: the run's tables leave nothing to choose: choose otherwise at the side, or another run"
REFERENCES = {"dense": "the dense model", "parent": "its copy without the repair"}


def pick(label: str, options: list[str], key: str, help: str | None = None, first: str | None = None) -> str:
    """One of a few options, always one, kept in the link under its key.

    `first`: what stands there before anyone has chosen; without it, or where it is no option, the first of them.

    Raises:
        InputError: there is none.
    """
    if not options:
        raise InputError(NOTHING.format(label=label))
    # A choice that another run or scope does not have would otherwise stand as an option that is not there.
    if st.session_state.get(key) not in options:
        st.session_state.pop(key, None)
    first = first if first in options else options[0]
    draw = st.segmented_control if len(options) <= 5 and max(map(len, options)) <= 16 else st.selectbox
    if draw is st.segmented_control:
        chosen = st.segmented_control(
            label, options, default=first, required=True, key=key, bind="query-params", help=help
        )
    else:
        chosen = st.selectbox(label, options, options.index(first), key=key, bind="query-params", help=help)
    return str(chosen)


def pick_named(
    label: str, options: list[str], key: str, words: Mapping[str, str], help: str | None = None, first: str = ""
) -> str:
    """One of the names that tables use, shown in words; the link keeps the name, which words may outgrow.

    Raises:
        InputError: there is none.
    """
    if not options:
        raise InputError(NOTHING.format(label=label))
    first = first if first in options else options[0]
    # Bound to the address by hand: Streamlit would write there what the box shows.
    linked, told = st.query_params.get(key), f"{key}_told"
    if linked in options and linked != st.session_state.get(told):
        st.session_state[key] = linked
    if st.session_state.get(key) not in options:
        st.session_state[key] = first
    chosen = str(
        st.selectbox(
            label, options, key=key, help=help, persist_state="session", format_func=lambda name: words.get(name, name)
        )
    )
    if chosen != first:
        st.query_params[key] = chosen
    elif key in st.query_params:
        del st.query_params[key]
    st.session_state[told] = st.query_params.get(key)
    return chosen


def several(label: str, options: list[str], key: str, at_first: int | None = None) -> tuple[str, ...]:
    """Some of the options, all where none is named, kept in the link under its key.

    `at_first`: so many are named before anyone has chosen, where there are more.
    """
    if at_first is not None and at_first < len(options) and key not in st.session_state and key not in st.query_params:
        st.session_state[key] = options[:at_first]
    if not set(st.session_state.get(key, [])) <= set(options):
        st.session_state.pop(key, None)
    chosen = st.multiselect(label, options, key=key, bind="query-params", placeholder="all")
    return tuple(str(one) for one in chosen)


def unique(column: pd.Series) -> list[str]:
    """Values in the order of the table."""
    return list(dict.fromkeys(column))


def question_words(item: str) -> str:
    """A question by what it asks: `instrument/gideon ingram/measure` is `instrument of gideon ingram`."""
    relation, _, rest = item.partition("/")
    entity, _, phrasing = rest.rpartition("/")
    if not entity:
        return item
    return f"{relation} of {entity}" + ("" if phrasing == "measure" else f" ({phrasing})")


def pick_metric(table: pd.DataFrame, key: str) -> str:
    """A metric of a table, chosen by what it measures."""
    names = unique(table["metric"])
    known = [name for name in names if name in look.METRICS]
    said = "; ".join(f"{look.METRICS[name][0]} ({look.METRICS[name][1]}): `{name}`" for name in known)
    return pick_named(
        "Metric",
        names,
        key,
        {name: look.METRICS[name][0] for name in known},
        help=f"units, and names in tables: {said}",
    )


def pick_site(table: pd.DataFrame, key: str) -> str:
    """A site of a table; the last of the block stands first."""
    names = unique(table["site"])[::-1]
    said = "; ".join(f"{look.SITES[name]}: `{name}`" for name in names if name in look.SITES)
    return pick_named("Site", names, key, look.SITES, help=f"names in tables: {said}")


def pick_reference(names: list[str], key: str) -> str:
    """What a variant is compared with."""
    return pick_named("Reference", names, key, REFERENCES)


def pick_measurement(drift: pd.DataFrame) -> tuple[str, str, str, str]:
    """Metric, site, group and reference, chosen: some metrics are measured at one site, or against one reference."""
    metric = pick_metric(drift, "metric")
    own = drift[drift["metric"] == metric]
    site = pick_site(own, "site")
    own = own[own["site"] == site]
    group = pick("Read on", unique(own["group"]), "read_on", help="questions as asked, or running text")
    own = own[own["group"] == group]
    return metric, site, group, pick_reference(unique(own["reference"]), "reference")
