"""Running text for tuning, calibration and drift, from wherever the user has it, in three parts.

A paragraph is in one part only; of the atlas, tuning and calibration are different biographies of the same people.

Sources:
    atlas              biographies of people of the tune split, in the tuning phrasings
    pydoc              prose of the language reference that every Python carries (`pydoc_data.topics`)
    file:PATH          a UTF-8 text file, paragraphs apart by an empty line
    hub:NAME[:CONFIG]  the first documents of a hub data set's train split, column `text` (hub:allenai/c4:en), as it
                       stands there when a study is planned, so too of a branch or tag (hub:NAME[:CONFIG]@TAG), or of
                       a commit, by its 40 digits: hub:NAME[:CONFIG]@COMMIT

No prose by others is committed here: it is read where it lies.
"""

import hashlib
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice
from pathlib import Path
from typing import Literal

from data.atlas import FOLDER, load_world
from data.atlas.world import biography
from data.errors import InputError
from data.facts import Fact
from data.hub import commit_of
from data.names import caseless, distinct
from data.paths import user_path
from data.user_files import read_text

Part = Literal["tuning", "calibration", "heldout"]
PARTS: tuple[Part, ...] = ("tuning", "calibration", "heldout")
HUB_DOCUMENTS = 2000
PROSE_LETTERS = 0.75
"""Share of letters and spaces from which a paragraph of a reference manual counts as prose, not code."""
_COMMIT = re.compile("[0-9a-fA-F]{40}")


@dataclass(frozen=True)
class Text:
    """Paragraphs of one part, and what is to be said of where they come from."""

    paragraphs: tuple[str, ...]
    source: str
    licence: str


def load_text(source: str, part: Part, seed: int = 0) -> Text:
    """Paragraphs of one part of a source in a seeded order.

    Raises:
        InputError: an unknown source, or one that cannot be read or is empty.
    """
    if source == "atlas":
        return Text(tuple(_atlas(part, seed)), "atlas biographies", "this repository's")
    if source == "pydoc":
        paragraphs, origin, licence = _pydoc(), "Python language reference (pydoc_data.topics)", "PSF-2.0"
    elif source.startswith("file:"):
        path = user_path(source.removeprefix("file:"))
        paragraphs, origin, licence = _file(path), path.name, "the file's own"
    elif source.startswith("hub:"):
        paragraphs, origin, licence = _hub(source.removeprefix("hub:")), source, "the data set's own"
    else:
        raise InputError(f"text '{source}' is none of atlas, pydoc, file:PATH, hub:NAME[:CONFIG][@COMMIT]")
    # A paragraph that stands twice, be it in another form of Unicode, would else stand in two parts.
    paragraphs = distinct(filter(None, paragraphs))
    if len(paragraphs) <= _PART_OF.index(PARTS.index("heldout")):
        raise InputError(
            f"text '{source}' has {len(paragraphs)} different paragraphs: too few to divide into three parts"
        )
    # Parts first, order after: the seed may not move a paragraph into another part.
    mine = [paragraph for place, paragraph in enumerate(paragraphs) if PARTS[_PART_OF[place % len(_PART_OF)]] == part]
    random.Random(f"text {seed}").shuffle(mine)
    return Text(tuple(mine), origin, licence)


_PART_OF = (0, 1, 0, 2, 0)
"""Three fifths of the paragraphs for tuning, a fifth each for calibration and held out."""


def _atlas(part: Part, seed: int) -> Iterable[str]:
    """Biographies: of tune people for whatever may be read, of test people for what is only measured."""
    world = load_world()
    draw = random.Random(f"atlas {part} {seed}")
    names = [
        name for group in ("open", "graded") for name in world.people(group, "test" if part == "heldout" else "tune")
    ]
    draw.shuffle(names)
    return [biography(world, name, draw, phrasings="tune") for name in names]


def _pydoc() -> list[str]:
    """Prose paragraphs of Python's own language reference, code and tables left out."""
    from pydoc_data.topics import topics

    paragraphs = []
    for name in sorted(topics):
        for piece in topics[name].split("\n\n"):
            joined = " ".join(piece.split())
            letters = sum(character.isalpha() or character == " " for character in joined)
            if len(joined) > 120 and ">>>" not in joined and letters > PROSE_LETTERS * len(joined):
                paragraphs.append(joined)
    return list(dict.fromkeys(paragraphs))


def _file(path: Path) -> list[str]:
    """Paragraphs of a local file."""
    text = read_text(path, "text")
    return [" ".join(piece.split()) for piece in re.split(r"\n\s*\n", text) if piece.strip()]


def pinned(source: str) -> str:
    """A source as a study reads it: of a hub's data set the commit is told, where it can be known.

    A branch or tag moves on, so that it is no commit.
    """
    place, _, revision = source.partition("@")
    if not source.startswith("hub:") or _COMMIT.fullmatch(revision):
        return source
    commit = commit_of(place.removeprefix("hub:").partition(":")[0], revision or "main")
    return f"{place}@{commit}" if commit else source


def text_sha(source: str) -> str:
    """Hash of a text file's bytes, of the atlas's facts, or of the language reference, which differs between Pythons.

    A hub's data set is told apart by its commit, which its source names.
    """
    if source == "pydoc":
        return _pydoc_sha()
    if source != "atlas" and not source.startswith("file:"):
        return ""
    path = FOLDER / "facts.json" if source == "atlas" else user_path(source.removeprefix("file:"))
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


@cache
def _pydoc_sha() -> str:
    paragraphs = [paragraph for part in PARTS for paragraph in load_text("pydoc", part).paragraphs]
    return hashlib.sha256("\n".join(paragraphs).encode()).hexdigest()


def text_as_planned(source: str, sha: str, part: Part, seed: int = 0) -> Text:
    """Paragraphs of one part of a source, which has to be the one whose hash was taken when the study was planned.

    Raises:
        InputError: it changed meanwhile, or cannot be read.
    """
    text = load_text(source, part, seed)
    if text_sha(source) != sha:  # taken after it was read: before, a change between the two would go unseen
        raise InputError(f"text '{source}' changed while the study ran: start it again")
    return text


def _hub(name: str) -> list[str]:
    """The first documents of a hub data set, streamed."""
    from datasets import load_dataset

    place, _, commit = name.partition("@")
    repository, _, config = place.partition(":")
    try:
        rows = load_dataset(repository, config or None, split="train", streaming=True, revision=commit or None)
        return [" ".join(row["text"].split()) for row in islice(rows, HUB_DOCUMENTS)]
    except KeyError:
        raise InputError(f"text 'hub:{name}': the data set has no column 'text'") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"text 'hub:{name}' cannot be loaded ({type(error).__name__}): check the name and the connection, or "
            "use text: pydoc or file:PATH"
        ) from None


def stated(text: str, facts: Sequence[Fact]) -> list[Fact]:
    """Facts whose subject and answer both stand in this text as whole words, whatever the case and form of Unicode.

    A model reads the text as it stands; only here is it compared, as names are (`data/names.py`).
    """
    read = caseless(text)
    return [fact for fact in facts if _holds(read, fact.subject) and _holds(read, fact.answer)]


def _holds(read: str, name: str) -> bool:
    """Whether a name stands in the folded text, not inside a longer word."""
    words = _folded(name)
    place = read.find(words)
    while place >= 0:
        end = place + len(words)
        if not (_JOINED.match(read[place - 1 : place]) or _JOINED.match(read[end : end + 1])):
            return True
        place = read.find(words, place + 1)
    return False


_folded = lru_cache(maxsize=1 << 16)(caseless)
_JOINED = re.compile(
    "[^\\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""A character that makes a longer word: not so in scripts that put no spaces between words."""
