"""Boxes that a page's choices are made in, each kept in the address under its key, and the words they show.

The browser keeps what a box shows by the box's key and never looks at new options again, so the server must say
whenever it reads anything else: every box is settled here before it is drawn. Boxes at the side are bound to the
address by Streamlit, which takes them along to other pages; those of a page by hand, since Streamlit would write there
what a box shows, and could not write what a link brings along.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from analysis import look
from analysis.literal import for_page
from data.errors import InputError

NOTHING = "{label}: the run's tables leave nothing to choose: choose otherwise at the side, or another run"
REFERENCES = {"dense": "the dense model", "parent": "its copy without the repair"}


@dataclass(frozen=True)
class Stood:
    """How a box was drawn last: what it shows before anyone chooses, and as which control."""

    first: Any
    control: str


def settle(key: str, first: Any, keep: Callable[[Any], Any], control: str, follows: bool = True) -> None:
    """Decide what a box shows, and tell the browser where that is not what it has.

    Args:
        key: the box's, in the session and in the address.
        first: what stands there before anyone has chosen.
        keep: of what was chosen, what is still offered; None for nothing.
        control: which control draws it; the browser knows nothing of a value that another one showed.
        follows: where nothing was chosen and something else comes to stand first, the box shows that: an address
            leaves out what stands first, so that it could not say anything else. Otherwise what it shows stays.
    """
    now, stood = st.session_state.get(key), st.session_state.get(_record(key))
    chosen = now is not None and not (follows and stood is not None and now == stood.first)
    kept = keep(now) if chosen else None
    value = first if kept is None else kept
    if value != now or stood != Stood(first, control):
        st.session_state[key] = value
    st.session_state[_record(key)] = Stood(first, control)


def arrive(key: str, value: str | list[str]) -> None:
    """Make a choice that a link brings along, whatever stands first on the page that it leads to."""
    if st.session_state.pop(_record(key), None) is None:
        st.query_params[key] = value  # a box that was drawn before writes its own part of the address
    st.session_state[key] = value


def _record(key: str) -> str:
    return f"{key} as it stood"


def only(options: list[str]) -> Callable[[str], str | None]:
    """Keeps a choice that is still offered."""
    return lambda chosen: chosen if chosen in options else None


def _those(options: list[str]) -> Callable[[list[str]], list[str] | None]:
    """Keeps those of several choices that are still offered; a box that was cleared stays so."""
    return lambda chosen: [one for one in chosen if one in options] or (None if chosen else [])


def _read_address(key: str, first: Any, keep: Callable[[Any], Any]) -> None:
    """Make the choice of a page's box that the address was changed to."""
    linked = st.query_params.get_all(key)
    if linked == st.session_state.get(_told(key), []):
        return
    named = [one for one in linked if one]  # an empty one is a box that was cleared
    kept = keep(named if isinstance(first, list) else linked[-1]) if linked else None
    context = get_script_run_ctx()
    if kept is not None:
        st.session_state.pop(_record(key), None)
        st.session_state[key] = kept
    elif context is not None and context.is_history_navigation:
        st.session_state[key] = first  # the browser's own buttons take back a choice that the address does not name


def _write_address(key: str, chosen: Any, first: Any) -> None:
    """Write into the address what was chosen in a page's box, unless it stands first there anyhow."""
    if chosen == first:
        st.query_params.pop(key, None)
    elif st.query_params.get_all(key) != (told := (chosen or [""]) if isinstance(chosen, list) else [chosen]):
        st.query_params[key] = told
    st.session_state[_told(key)] = st.query_params.get_all(key)


def _told(key: str) -> str:
    return f"{key} as told"


def pick(
    label: str,
    options: list[str],
    key: str,
    help: str | None = None,
    first: str | None = None,
    words: Mapping[str, str] | None = None,
) -> str:
    """One of a few options, always one, kept in the link under its key.

    Args:
        label: what stands above the box.
        options: the names that may be chosen.
        key: the box's.
        help: what stands in the box's tip.
        first: what stands there before anyone has chosen; without it, or where it is no option, the first of them.
        words: what the box shows for a name; the link keeps the name, which words may outgrow.

    Raises:
        InputError: there is none.
    """
    first = _first_of(label, options, first)
    control = "list" if words else _control(options)
    _read_address(key, first, only(options))
    settle(key, first, only(options), control)
    more: dict[str, Any] = {"key": key, "help": help, "persist_state": "session"}
    if control == "list":
        chosen = str(st.selectbox(label, options, format_func=shown_as(options, words or {}), **more))
    else:
        chosen = str(st.segmented_control(label, options, required=True, **more))
    _write_address(key, chosen, first)
    return chosen


def pick_at_side(label: str, options: list[str], key: str, help: str) -> str:
    """One of a few options for all pages, always one, kept in the link under its key.

    Raises:
        InputError: there is none.
    """
    first, control = _first_of(label, options, None), _control(options)
    settle(key, first, only(options), control)
    if control == "list":
        return str(st.selectbox(label, options, key=key, bind="query-params", help=help))
    return str(
        st.segmented_control(label, options, default=first, required=True, key=key, bind="query-params", help=help)
    )


def _first_of(label: str, options: list[str], first: str | None) -> str:
    if not options:
        raise InputError(NOTHING.format(label=label))
    return first if first in options else options[0]


def _control(options: list[str]) -> str:
    """Which control draws options: a few short ones lie side by side, if nothing in them could be taken for more."""
    few = len(options) <= 5 and max(map(len, options)) <= 16 and all(for_page(one) == one for one in options)
    return "segments" if few else "list"


def shown_as(options: list[str], words: Mapping[str, str]) -> Callable[[str], str]:
    """What a box shows for each option: its words, with the name where others have the same words."""
    told = [words.get(name, name) for name in options]
    doubled = {one for one in told if told.count(one) > 1}
    return lambda name: f"{words[name]} ({name})" if words.get(name) in doubled else words.get(name, name)


def several_at_side(label: str, options: list[str], key: str, first: list[str] | None = None) -> tuple[str, ...]:
    """Some of the options for all pages, all where none is named, kept in the link under its key.

    `first`: those that are named before anyone has chosen.
    """
    first = first or []
    settle(key, first, _those(options), "many")
    chosen = st.multiselect(label, options, first, key=key, bind="query-params", placeholder="all")
    return tuple(str(one) for one in chosen)


def several(label: str, options: list[str], key: str, first: list[str], most: int, help: str) -> tuple[str, ...]:
    """Some of the options, at most so many, kept in the link under its key; `first` before anyone has chosen."""
    _read_address(key, first, _those(options))
    settle(key, first, _those(options), "many")
    chosen = st.multiselect(
        label, options, key=key, persist_state="session", placeholder="none", max_selections=most, help=help
    )
    _write_address(key, chosen, first)
    return tuple(str(one) for one in chosen)


def unique(column: pd.Series) -> list[str]:
    """Values in the order of the table."""
    return list(dict.fromkeys(column))


def question_words(item: str) -> str:
    """A question by what it asks: `instrument/gideon ingram/measure` is `instrument of gideon ingram`."""
    if item.count("/") != 2:  # a name with such a sign in it: which part is which cannot be told
        return item
    relation, entity, phrasing = item.split("/")
    return f"{relation} of {entity}" + ("" if phrasing == "measure" else f" ({phrasing})")


def pick_metric(table: pd.DataFrame, key: str) -> str:
    """A metric of a table, chosen by what it measures."""
    names = unique(table["metric"])
    known = [name for name in names if name in look.METRICS]
    said = "; ".join(f"{look.METRICS[name][0]} ({look.METRICS[name][1]}): `{name}`" for name in known)
    help = f"units, and names in tables: {said}"
    return pick("Metric", names, key, help, words={name: look.METRICS[name][0] for name in known})


def pick_site(table: pd.DataFrame, key: str) -> str:
    """A site of a table; the last of the block stands first."""
    names = unique(table["site"])[::-1]
    said = "; ".join(f"{look.SITES[name]}: `{name}`" for name in names if name in look.SITES)
    return pick("Site", names, key, f"names in tables: {said}", words=look.SITES)


def pick_reference(names: list[str], key: str) -> str:
    """What a variant is compared with."""
    return pick("Reference", names, key, words=REFERENCES)


def pick_measurement(drift: pd.DataFrame) -> tuple[str, str, str, str]:
    """Metric, site, group and reference, chosen: some metrics are measured at one site, or against one reference."""
    metric = pick_metric(drift, "metric")
    own = drift[drift["metric"] == metric]
    site = pick_site(own, "site")
    own = own[own["site"] == site]
    group = pick("Read on", unique(own["group"]), "read_on", help="questions as asked, or running text")
    own = own[own["group"] == group]
    return metric, site, group, pick_reference(unique(own["reference"]), "reference")
