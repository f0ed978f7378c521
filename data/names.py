"""One name is one name: the form in which relations, subjects and answers are kept and compared.

Kept: Unicode's composed form (NFC), every run of white space one plain space, none at the ends. Case is kept. An
invisible character is refused, since nobody sees whether it stands in for a space.

Compared: two names that are kept apart but that a reader takes for one (straight and curly apostrophes, kinds of
hyphens, ligatures, full-width letters) or that differ in case alone are told to whoever wrote them.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from data.errors import InputError

_JOINERS = "\u200c\u200d"
"""They shape letters in Persian, in Indic scripts and in emoji: part of a spelling."""
_NUMBER_SIGNS = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2"
"""Of the category of format characters, and visible."""
_BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
"""Letters and marks that draw nothing."""
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_UNSEEN = ("Cc", "Cf", "Cs")
_SHAPED = ("<super>", "<sub>", "<fraction>", "<circle>", "<square>")
"""Compatibility forms that are seen to be others: m² is not m2."""
_MARKS = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02b9\u02bb\u02bc\u02bd\u00b4\u0060\uff07", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\uff02", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\ufe58\ufe63\uff0d", "-"),
    }
)


@dataclass(frozen=True)
class Named:
    """A name in its kept form, and where it stands in a file."""

    name: str
    file: str
    line: int


def canonical(text: str) -> str:
    """The form in which a name is kept: NFC, white space folded and stripped; case and all else as it is."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def plain_text(text: str) -> str:
    """Running text in NFC with plain spaces and line ends; runs of them are kept, as a question may need them."""
    lines = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"[^\S\n\t]", " ", lines)


def trimmed(text: str, *, start: bool = True) -> str:
    """A text without white space and invisible characters at its end, and at its start unless told otherwise."""
    first, end = 0, len(text)
    while end and _is_blank(text[end - 1]):
        end -= 1
    while start and first < end and _is_blank(text[first]):
        first += 1
    return text[first:end]


def distinct(texts: Iterable[str]) -> list[str]:
    """The texts of which none is another's in another form of Unicode or of white space; the first of such stays."""
    found: dict[str, str] = {}
    for text in texts:
        found.setdefault(canonical(text), text)
    return list(found.values())


def invisible(text: str) -> str | None:
    """The first character that nobody sees, white space left out, as `U+200B ZERO WIDTH SPACE`; None without any."""
    if text.isascii() and text.isprintable():
        return None
    found = next((one for one in text if _is_invisible(one)), None)
    return None if found is None else described(found)


def described(character: str) -> str:
    """A character by its number and Unicode's name for it."""
    return f"U+{ord(character):04X} {unicodedata.name(character, 'without a name')}"


def read_name(text: str, what: str = "the name") -> str:
    """A name as it is kept.

    Args:
        text: As it was written.
        what: What it names and where it stands, as an error begins.

    Raises:
        InputError: it is empty, or holds a character that nobody sees.
    """
    name = canonical(text)
    if not look_alike(name):
        raise InputError(f"{what} holds nothing that can be seen: fill it in")
    if fault := invisible(name):
        raise InputError(f"{what} '{_with_numbers(name)}' holds the invisible character {fault}: take it out")
    return name


def is_kept(name: str) -> bool:
    """Whether a name has the form in which names are kept."""
    return bool(name) and canonical(name) == name and invisible(name) is None


@lru_cache(maxsize=1 << 16)
def look_alike(name: str) -> str:
    """A name with everything taken out that a reader may not see, case kept: equal where two names look alike."""
    return _settled(name, _seen)


def caseless(text: str) -> str:
    """The same, and case folded: what is searched in running text, and what is searched for."""
    return _settled(text, lambda shown: _seen(shown).casefold())


def _settled(text: str, change: Callable[[str], str]) -> str:
    """A text changed until nothing changes: one change can make way for another."""
    before, text = "", canonical(text)
    while text != before:
        before, text = text, canonical(change(text))
    return text


def _seen(text: str) -> str:
    """What a reader sees of a text, one character at a time."""
    marked = text.translate(_MARKS)
    return marked if marked.isascii() else "".join(map(_plain, marked))


def without_case(name: str) -> str:
    """A name with its case folded and nothing else."""
    return canonical(canonical(name).casefold())


def settle(names: Sequence[Named], *, what: str, same_case: bool | None, told_in: str) -> dict[str, str]:
    """The spelling that each of these names is kept in, which is its own but where `same_case` makes two one.

    Args:
        names: Every use of a name; of two that are one the commoner stays, the first of those as common.
        what: What they name, in the plural, as an error says it: `answers under 'capital'`.
        same_case: What the facts say of names that differ in case alone: one name, two names, or None for nothing.
        told_in: The file that says so.

    Raises:
        InputError: two names look alike, or differ in case alone where nothing is said of it; both are named.
    """
    uses = Counter(one.name for one in names)
    first_use = {one.name: one for one in reversed(names)}
    alike: dict[str, list[str]] = {}
    for name in uses:
        alike.setdefault(caseless(look_alike(name)), []).append(name)
    kept = {name: name for name in uses}
    for group in alike.values():
        for first, second in _pairs(group):
            if fault := _fault(first, second, same_case, told_in):
                raise InputError(f"{_both(first_use[first], first_use[second], what)} {fault}")
        if same_case:
            kept |= dict.fromkeys(group, max(group, key=uses.__getitem__))
    return kept


def _fault(first: str, second: str, same_case: bool | None, told_in: str) -> str | None:
    """Why two names of the same letters cannot both stand, as the end of a sentence."""
    if look_alike(first) == look_alike(second) or without_case(first) != without_case(second):
        return f"look alike and are not the same ({_difference(first, second)}): write both alike"
    if same_case is None:
        return (
            f"differ in case alone: write both alike, or say in {told_in} `same_case: true` if they are one name, "
            "`same_case: false` if they are two"
        )
    return None


def _both(first: Named, second: Named, what: str) -> str:
    """Two names and where they stand, as a sentence about them begins."""
    before = f"line {first.line}" if first.file == second.file else f"{first.file}, line {first.line}"
    return f"{second.file}, line {second.line}: of the {what}, '{second.name}' and '{first.name}' ({before})"


def _pairs(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every two of them, in order."""
    return ((first, second) for place, second in enumerate(names) for first in names[:place])


def _is_blank(character: str) -> bool:
    return character.isspace() or character in _JOINERS or _is_invisible(character)


def _is_invisible(character: str) -> bool:
    if character in _BLANK:
        return True
    unseen = unicodedata.category(character) in _UNSEEN and not character.isspace()
    return unseen and character not in _JOINERS and character not in _NUMBER_SIGNS


@lru_cache(maxsize=1 << 14)
def _plain(character: str) -> str:
    """A character without what a reader may not see of it."""
    if _is_invisible(character) or character in _JOINERS or _SELECTORS.match(character):
        return ""
    form = unicodedata.decomposition(character).partition(" ")[0]
    return unicodedata.normalize("NFKC", character) if form.startswith("<") and form not in _SHAPED else character


def _with_numbers(name: str) -> str:
    """A name with what nobody sees written as its number."""
    return "".join(f"<U+{ord(one):04X}>" if _is_invisible(one) else one for one in name)


def _difference(first: str, second: str) -> str:
    """Where two names part, by character."""
    place = next(
        (place for place, (one, other) in enumerate(zip(first, second, strict=False)) if one != other),
        min(len(first), len(second)),
    )
    ends = [described(name[place]) if place < len(name) else "its end" for name in (second, first)]
    return f"{ends[0]}, not {ends[1]}"
