"""The fields of a study as widgets, each by what it says of itself: rows of compressions and repairs, and amounts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import streamlit as st

from analysis import drafting
from analysis.asking import Asked, Control, Kind, compression_kinds, fields_of, repair_kinds
from analysis.study import Study
from data.errors import InputError
from data.user_yaml import read_yaml

KEPT: Final = "session"
"""How long what was typed stays: through other pages."""
MOST = 12
"""Rows of one sort."""


class Form:
    """Widgets whose first values are a template's: another template begins anew, another page leaves them alone."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.faults: list[str] = []
        """What was typed and cannot be read, in the order of the form, which stays whole meanwhile."""

    def told(self, one: Asked, value: Any, where: str) -> dict[str, Any]:
        """What stands under a field's widget, by the field's name; nothing where it says no more than the default."""
        look = {"key": f"new {self.name} {where}", "help": one.help or None, "persist_state": KEPT}
        try:
            found = DRAWN[one.control](one, value, look)
        except InputError as error:
            self.faults.append(f"{where}: {error}")
            return {}
        return {one.name: found} if one.tells(found) else {}

    def read(self, kind: Kind, told: Mapping[str, Any], where: str) -> Any:
        """The value that a row makes; None where it makes none, which is told at the end of the form."""
        try:
            return kind.read(told, where)
        except InputError as error:
            self.faults.append(str(error))
            return None

    def check(self) -> None:
        """Refuse to go on with what cannot be read.

        Raises:
            InputError: naming the first field or row of which this holds.
        """
        if self.faults:
            raise InputError(self.faults[0])


def row() -> Any:
    return st.container(horizontal=True, vertical_alignment="bottom")


def _choice(one: Asked, value: Any, look: dict[str, Any]) -> Any:
    words = [shown for shown, held in one.values.items() if held == value]
    return one.values[st.selectbox(one.label, list(one.values), list(one.values).index(words[0]), **look)]


def _several(one: Asked, value: Any, look: dict[str, Any], more: bool = False) -> list[str]:
    offered = list(dict.fromkeys([*one.values, *(value or ())]))
    return list(st.multiselect(one.label, offered, value or [], accept_new_options=more, **look))


def _named(one: Asked, value: Any, look: dict[str, Any]) -> list[str]:
    return _several(one, value, look, more=True)


def _first(one: Asked, value: Any, look: dict[str, Any]) -> Any:
    """What a number starts from: where it may stay empty, by the session alone, since a browser empties no other."""
    if one.required or one.default is not None:
        return value
    st.session_state.setdefault(look["key"], value)
    return None


def _whole(one: Asked, value: Any, look: dict[str, Any]) -> int | None:
    low, high = (None if bound is None else int(bound) for bound in (one.low, one.high))
    return st.number_input(one.label, low, high, _first(one, value, look), 1, **look)


def _number(one: Asked, value: Any, look: dict[str, Any]) -> float | None:
    low, high = (None if bound is None else float(bound) for bound in (one.low, one.high))
    first = _first(one, None if value is None else float(value), look)
    width = 130 if one.required or one.default is not None else 180  # one that may be empty has a sign to empty it
    return st.number_input(one.label, low, high, first, 0.001, format="%g", width=width, **look)


def _words(one: Asked, value: Any, look: dict[str, Any]) -> str | None:
    return str(st.text_input(one.label, value or "", **look)).strip() or one.default


def _wholes(one: Asked, value: Any, look: dict[str, Any]) -> list[int] | None:
    text = st.text_input(one.label, ", ".join(map(str, value or ())), **look)
    return drafting.whole_numbers(text.strip(), one.label) or one.default


def _flag(one: Asked, value: Any, look: dict[str, Any]) -> bool:
    return st.checkbox(one.label, value, **look)


def _written(one: Asked, value: Any, look: dict[str, Any]) -> Any:
    text = st.text_input(one.label, drafting.as_words(value), placeholder="YAML", **look)
    return one.default if not text.strip() else read_yaml(text, one.label)


DRAWN: Mapping[Control, Callable[[Asked, Any, dict[str, Any]], Any]] = {
    **{"choice": _choice, "several": _several, "named": _named, "flag": _flag, "whole": _whole, "number": _number},
    **{"words": _words, "wholes": _wholes, "written": _written},
}


def block(form: Form, asked: Iterable[Asked], given: Mapping[str, Any], here: str, new: bool = False) -> dict[str, Any]:
    """The fields of one value in the row that is open: those that are seen at once, and a button to the others.

    Args:
        form: the form.
        asked: the fields.
        given: what they hold first, where they hold something.
        here: where in the form this is.
        new: starts from the fields' examples, whatever is given.
    """
    told: dict[str, Any] = {}
    seen, others = [one for one in asked if one.seen], [one for one in asked if not one.seen]

    def draw(fields: Iterable[Asked]) -> None:
        for one in fields:
            told.update(form.told(one, one.start if new else given.get(one.name, one.default), f"{here} {one.name}"))

    draw(seen)
    if others:
        with st.popover("More", key=f"new {form.name} {here} more"):
            draw(others)
    return {one.name: told[one.name] for one in asked if one.name in told}


def subject(form: Form, study: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked of which model."""
    return amounts(form, {**study, "name": f"my-{study['name']}"}, drafting.SUBJECT)


def amounts(form: Form, study: Mapping[str, Any], lines: Iterable[Sequence[str]]) -> dict[str, Any]:
    """Fields of the study itself, row by row."""
    asked = {one.name: one for one in fields_of(Study)}
    told: dict[str, Any] = {}
    for line in lines:
        with row():
            for name in line:
                told |= form.told(asked[name], study.get(name, asked[name].default), name)
    return told


def several(form: Form, what: str, kinds: Sequence[Kind], given: Sequence[dict[str, Any]]) -> list[tuple[Any, Any]]:
    """As many rows as asked for, each as it is written and as it is read; a new one starts as the last one is."""
    st.subheader(f"{what}s")
    count = st.number_input(
        f"How many {what.lower()}s",
        *(1, max(MOST, len(given)), len(given), 1),
        key=f"new {form.name} count {what}s",
        width=200,
        persist_state=KEPT,
    )
    return [one_row(form, what, place, kinds, given[min(place, len(given) - 1)]) for place in range(int(count))]


def one_row(form: Form, what: str, place: int, kinds: Sequence[Kind], given: dict[str, Any]) -> tuple[Any, Any]:
    """One compression or repair, of the kind that is chosen."""
    by_name = {one.name: one for one in kinds}
    here = f"{what.lower()} {place}"
    first = given[kinds[0].chosen_by]
    with row():
        name = st.selectbox(
            what,
            list(by_name),
            list(by_name).index(first),
            key=f"new {form.name} {here}",
            help="\n".join(f"- {one.name}: {one.words}" for one in kinds),
            width=150,
            persist_state=KEPT,
        )
        kind = by_name[name]
        told = {kind.chosen_by: name} | block(form, kind.asked, given, f"{here} {name}", new=name != first)
    return told, form.read(kind, told, f"{what.lower()} {place + 1}")


def budget(form: Form, study: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Which repairs count, how often, and how long is tuned and measured."""
    st.subheader("Analysis settings")
    asked = {one.name: one for one in fields_of(Study)}
    reported = st.multiselect(
        asked["reported"].label,
        names,
        [name for name in study["reported"] if name in names] or names,
        key=f"new {form.name} reported {' '.join(names)}",
        help=asked["reported"].help,
        persist_state=KEPT,
    )
    told: dict[str, Any] = {"reported": reported} | amounts(form, study, drafting.AMOUNTS)
    for name, spec in drafting.BLOCKS.items():
        lists = [one for one in fields_of(spec) if one.seen and one.control in ("several", "named")]
        with row():
            held = block(form, [one for one in fields_of(spec) if one not in lists], study.get(name, {}), name)
        with row():
            held |= block(form, lists, study.get(name, {}), name)
        told |= {name: held} if held else {}
    return told


def compressions(form: Form, study: dict[str, Any]) -> list[dict[str, Any]]:
    """The ways to compress."""
    return [told for told, _ in several(form, "Compression", compression_kinds(), study["compressions"])]


def repairs(form: Form, study: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """The repairs, and the names of those that can get a verdict."""
    found = several(form, "Repair", repair_kinds(), study["repairs"])
    return [told for told, _ in found], [one.name for _, one in found if one is not None and not one.unreported]
