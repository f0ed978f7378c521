"""Files of tasks: JSONL, one item a line, and how lm-eval asks each shape of item.

The shapes of a line, told by its keys:

    question, choices, answer        the most likely choice counts; `answer` is its place, from 0
    options, continuation, answer    contexts that differ, one same continuation; the place of the right context
    context, continuation            the continuation counts when it is what greedy decoding says
    prompt, answer                   the same
    question, aliases                what is said up to the end of a line or clause counts when it is an alias, or the
                                     `answer` where the line names one
    question, answers                counts when greedy decoding says one of the answers

One space stands between what is asked and what follows: white space that a file has there too is taken out, and the
task's note says of how many items. All text is read in Unicode's composed form (NFC); aliases are names, and are
compared as such (`data/names.py`).
"""

import json
import re
import string
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from data.errors import InputError
from data.names import canonical, distinct, invisible, trimmed
from data.user_files import read_text

_QUESTION = "Question: {{question}}\nAnswer:"
_MEAN = {"aggregation": "mean", "higher_is_better": True}
_ACCURACY = [{"metric": "acc", **_MEAN}]
_BOTH = [*_ACCURACY, {"metric": "acc_norm", **_MEAN}]
_STOPS = ("\n", ".", ",")
_HALF = re.compile("[\ud800-\udfff]")
_GREEDY = {"output_type": "loglikelihood", "metric_list": _ACCURACY}
_SILENT = str.maketrans("", "", string.punctuation)
"""What lm-eval's exact match leaves out."""
NAMES = "canonical"
"""The filter by which what is said is compared as names are; `data/tasks.py` makes it known to lm-eval."""


@dataclass(frozen=True)
class Shape:
    """A form of item: what each field holds, how lm-eval asks it, and where the answer follows."""

    fields: Mapping[str, str]
    """By name: `text`, `texts`, `names`, or `place in X`, where X is another field."""
    asked: str
    """The field that ends where the answer begins."""
    follows: str
    """The field that holds the answers."""
    settings: Mapping[str, Any]


SHAPES = (
    Shape(
        {"question": "text", "choices": "texts", "answer": "place in choices"},
        "question",
        "choices",
        {"output_type": "multiple_choice", "doc_to_text": _QUESTION, "doc_to_choice": "choices"}
        | {"doc_to_target": "answer", "metric_list": _BOTH},
    ),
    Shape(
        {"options": "texts", "continuation": "text", "answer": "place in options"},
        "options",
        "continuation",
        {"output_type": "multiple_choice", "doc_to_text": "answer", "doc_to_choice": "options"}
        | {"doc_to_target": "continuation", "metric_list": _ACCURACY},
    ),
    Shape(
        {"context": "text", "continuation": "text"},
        "context",
        "continuation",
        _GREEDY | {"doc_to_text": "context", "doc_to_target": "{{' ' + continuation}}"},
    ),
    Shape(
        {"prompt": "text", "answer": "text"},
        "prompt",
        "answer",
        _GREEDY | {"doc_to_text": "prompt", "doc_to_target": "{{' ' + answer}}"},
    ),
    Shape(
        {"question": "text", "aliases": "names"},
        "question",
        "aliases",
        {"output_type": "generate_until", "doc_to_text": _QUESTION, "doc_to_target": "aliases"}
        | {"generation_kwargs": {"until": list(_STOPS), "do_sample": False, "max_gen_toks": 24}}
        | {"filter_list": [{"name": "words", "filter": [{"function": NAMES}, {"function": "take_first"}]}]}
        | {"metric_list": [{"metric": "exact_match", "ignore_case": True, "ignore_punctuation": True, **_MEAN}]},
    ),
    Shape(
        {"question": "text", "answers": "texts"},
        "question",
        "answers",
        {"output_type": "multiple_choice", "doc_to_text": _QUESTION, "doc_to_choice": "answers"}
        | {"doc_to_target": "{{range(answers | length) | list}}", "metric_list": [{"metric": "exact_match", **_MEAN}]},
    ),
)


class TaskFile(NamedTuple):
    """The items of a file."""

    shape: Shape
    items: list[dict[str, Any]]
    note: str
    """What was changed in them, or cannot be right; empty where there is nothing to say."""


def read_items(path: Path) -> TaskFile:
    """The items of a file and their shape, told by the first.

    Raises:
        InputError: naming the file, the line and what is wrong with it.
    """
    shape: Shape | None = None
    items: list[dict[str, Any]] = []
    mended = unsayable = 0
    for number, line in enumerate(read_text(path, "task file").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            stored = _parsed(line)
            shape = shape or _shape_of(stored)
            item = _item(stored, shape)
        except InputError as error:
            raise InputError(f"task file '{path}', line {number}: {error}") from None
        mended += any(item[name] != _composed(stored[name]) for name in (shape.asked, shape.follows))
        item = _one_each(item, stored)
        unsayable += "aliases" in item and not any(map(_can_be_said, item["aliases"]))
        items.append(item)
    if shape is None:
        raise InputError(f"task file '{path}' holds no item")
    return TaskFile(shape, items, _note(len(items), mended, unsayable))


def _note(items: int, mended: int, unsayable: int) -> str:
    """What there is to say of a file, as a sentence without its end."""
    said = []
    if mended:
        said.append(f"white space between what is asked and the answer was taken out of {mended} of {items} items")
    if unsayable:
        said.append(
            f"{unsayable} of {items} items cannot be right, since every alias goes on behind a full stop or comma, "
            "where what is said ends"
        )
    return "; ".join(said)


def _parsed(line: str) -> Any:
    """A line of JSON in which no key stands twice."""
    try:
        return json.loads(line, object_pairs_hook=_once)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # of brackets without end, or a number of thousands of digits
        raise InputError(f"no JSON ({getattr(error, 'msg', type(error).__name__)}): mend or drop it") from None


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InputError(f"the key '{key}' stands twice: keep one")
        found[key] = value
    return found


def _shape_of(item: object) -> Shape:
    """The first shape whose keys an item has."""
    keys = set(item) if isinstance(item, dict) else set()
    found = next((shape for shape in SHAPES if set(shape.fields) <= keys), None)
    if found is None:
        known = " or ".join("{" + ", ".join(one.fields) + "}" for one in SHAPES)
        raise InputError(f"its keys make no known shape; give {known}")
    return found


def _item(stored: object, shape: Shape) -> dict[str, Any]:
    """The fields of an item, text in its composed form and without white space where the answer follows.

    Raises:
        InputError: what is wrong with it.
    """
    if not isinstance(stored, dict):
        raise InputError("it is no object")
    if missing := sorted(set(shape.fields) - set(stored)):
        raise InputError(f"it lacks {', '.join(missing)}")
    found: dict[str, Any] = {}
    for name, kind in shape.fields.items():
        if not kind.startswith("place in "):
            _check_text(name, kind, stored[name])
            found[name] = _met(stored[name], name, shape)
    for name, kind in shape.fields.items():
        if kind.startswith("place in "):
            found[name] = _place(name, stored[name], kind.removeprefix("place in "), found)
    return found


def _met(value: Any, name: str, shape: Shape) -> Any:
    """A field's text without white space at its end, and without any before it where something stands in front."""
    start = name in (shape.follows, "question")
    return _each(_composed(value), lambda text: trimmed(text, start=start))


def _composed(value: Any) -> Any:
    """A field's text in NFC."""
    return _each(value, lambda text: unicodedata.normalize("NFC", text))


def _each(value: Any, change: Callable[[str], str]) -> Any:
    return [change(one) for one in value] if isinstance(value, list) else change(value)


def _check_text(name: str, kind: str, value: object) -> None:
    """Refuse what is no text, or not all of it."""
    if kind == "text" and not _is_text(value):
        raise InputError(f"'{name}' must be text that is not empty{_halved(value)}")
    if kind != "text" and not (isinstance(value, list) and value and all(map(_is_text, value))):
        raise InputError(f"'{name}' must be a list of texts, none empty{_halved(value)}")
    if kind == "names":
        for one in value if isinstance(value, list) else ():
            if fault := invisible(canonical(one)):
                raise InputError(f"'{name}' holds the invisible character {fault}: take it out")


def _place(name: str, value: object, among: str, item: Mapping[str, Any]) -> int:
    """The place of the right one among several that can be told apart.

    Raises:
        InputError: it is none, or they cannot be.
    """
    texts = list(map(canonical, item[among]))
    if len(texts) < 2:
        raise InputError(f"'{among}' holds one text alone, so that there is nothing to choose: give two or more")
    if twice := next((text for text in texts if texts.count(text) > 1), None):
        raise InputError(f"'{among}' holds '{twice[:40]}' twice, and no model can choose between them: keep one")
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < len(texts):
        raise InputError(f"'{name}' must be a place from 0 to {len(texts) - 1}")
    return value


def _one_each(item: dict[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """An item whose alternatives stand once each; its `answer` is an alias even where they leave it out.

    TriviaQA's files often do. An alias of punctuation alone is left out: lm-eval would find it in silence.
    """
    if "answers" in item:
        return item | {"answers": distinct(item["answers"])}
    if "aliases" not in item:
        return item
    answer = [stored["answer"]] if _is_text(stored.get("answer")) else []
    names = list(dict.fromkeys(canonical(one) for one in (*answer, *item["aliases"])))
    heard = [one for one in names if one.translate(_SILENT).strip()]
    return item | {"aliases": heard or names}


def _can_be_said(alias: str) -> bool:
    """Whether a model that is stopped at the first full stop or comma can say it."""
    before = re.split("[" + re.escape("".join(_STOPS)) + "]", alias)[0]
    return before.translate(_SILENT).lower().strip() == alias.translate(_SILENT).lower().strip()


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(trimmed(value)) and not _HALF.search(value)


def _halved(value: object) -> str:
    """What JSON can say and no tokenizer reads: half of a character."""
    found = any(isinstance(one, str) and _HALF.search(one) for one in (value if isinstance(value, list) else [value]))
    return ", of whole characters (no \\ud800 to \\udfff alone)" if found else ""
