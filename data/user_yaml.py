"""YAML as users write it: plain values, every key a word that stands once, and a fault in it is a line.

YAML 1.1 reads `no`, `on`, `2020` and `~` as other things than words, `010` as 8 and `2:4` as 124, and takes the last of
two equal keys. Here none of it happens without a word.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from data.errors import InputError
from data.names import canonical

MOST = 100_000
"""Values that a text may unfold to through its anchors."""
DEEPEST = 100
"""Brackets within brackets."""
_TEXT, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_ODD_NUMBER = re.compile(r"[-+]?0[0-9_]+|.*:.*")
"""Octal, and numbers to the base of sixty."""


class _Loader(yaml.SafeLoader):
    """Plain values alone; what has the form of a value and is none (2020-13-45) is told with its line."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as error:
            raise yaml.constructor.ConstructorError(
                None, None, f"`{_short(node)}` is no value ({error}): quote it", node.start_mark
            ) from None


# Without `=`, of which the library makes no value.
_Loader.yaml_implicit_resolvers = {
    first: kept for first, kept in yaml.SafeLoader.yaml_implicit_resolvers.items() if first != "="
}


@dataclass(frozen=True)
class Document:
    """What a piece of YAML says, and where it says it."""

    value: Any
    where: str
    """What it is, as a sentence about it begins."""
    root: yaml.Node | None = field(repr=False)

    def line(self, path: Sequence[str | int]) -> int:
        """The line in which the value at this path, or its key, is written; steps that lead nowhere are passed over."""
        found, _ = self._at(path)
        return 1 if found is None else _line(found)

    def place(self, path: Sequence[str | int]) -> str:
        """The same, as a sentence about it begins: `study 'x', line 7`."""
        return f"{self.where}, line {self.line(path)}"

    def misread(self, path: Sequence[str | int]) -> str | None:
        """How a bare word at this path is read as something else than text; None where it is not."""
        _, node = self._at(path)
        if not isinstance(node, yaml.ScalarNode) or node.style is not None or node.tag == _TEXT:
            return None
        return f"{_reading(node)}: quote it{_quoted(node)}"

    def _at(self, path: Sequence[str | int]) -> tuple[yaml.Node | None, yaml.Node | None]:
        """Where the value at a path begins, with its key if it has one, and the value."""
        begins = node = self.root
        for step in path:
            begins, node = _inner(node, step) or (begins, node)
        return begins, node


def read_document(text: str, where: str) -> Document:
    """What a piece of YAML says, with the lines of its values.

    Args:
        text: The YAML.
        where: What it is, as a sentence about it begins: `study 'mine.yaml'`.

    Raises:
        InputError: it is not readable, a key stands twice or is no word, or its anchors unfold without end.
    """
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is not None:
            _check(root, where)
        return Document(None if root is None else _own(loader.construct_document(root)), where, root)
    except yaml.YAMLError as error:
        raise InputError(f"{where} is not readable YAML: {_reason(error)}") from None
    except RecursionError:  # what is said of a recursion is Python's own trouble, not the reader's
        raise InputError(f"{where} is not readable YAML: brackets within brackets without end") from None


def read_yaml(text: str, where: str) -> Any:
    """What a piece of YAML says; see `read_document`.

    Raises:
        InputError: it is not readable, a key stands twice or is no word, or its anchors unfold without end.
    """
    return read_document(text, where).value


def _own(value: Any) -> Any:
    """The same with nothing in two places: what an anchor repeats can then be changed in one of them."""
    if isinstance(value, dict):
        return {key: _own(one) for key, one in value.items()}
    return [_own(one) for one in value] if isinstance(value, list) else value


def _check(root: yaml.Node, where: str) -> None:
    """Refuse what would be read as something that was not written."""
    sizes: dict[int, int] = {}
    open_now: set[int] = set()

    def visit(node: yaml.Node, depth: int) -> int:
        """How many values a node unfolds to."""
        if id(node) in open_now:
            raise InputError(f"{where}, line {_line(node)}: an anchor holds itself: write it out")
        if id(node) in sizes:
            return sizes[id(node)]
        if depth > DEEPEST:
            raise InputError(f"{where} is not readable YAML: brackets within brackets without end")
        if isinstance(node, yaml.ScalarNode):
            _check_number(node, where)
        if isinstance(node, yaml.MappingNode):
            _check_keys(node, where)
        open_now.add(id(node))
        sizes[id(node)] = 1 + sum(visit(one, depth + 1) for one in _children(node))
        open_now.remove(id(node))
        if sizes[id(node)] > MOST:
            raise InputError(f"{where}, line {_line(node)}: its anchors unfold to more than {MOST:,} values")
        return sizes[id(node)]

    visit(root, 0)


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        yield from (value for _, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _check_number(node: yaml.ScalarNode, where: str) -> None:
    if node.style is None and node.tag in _NUMBERS and _ODD_NUMBER.fullmatch(node.value):
        instead = f"write {_number(node)}"
        raise InputError(f"{where}, line {_line(node)}: {_reading(node)}: quote it{_quoted(node)}, or {instead}")


def _check_keys(node: yaml.MappingNode, where: str) -> None:
    """Every key is a word and stands once; what is merged (`<<`) stands in one of the merged alone."""
    lines: dict[str, int] = {}
    for key, value in node.value:
        place = f"{where}, line {_line(key)}"
        if key.tag == _MERGE:
            _check_merged(value, place)
        elif not isinstance(key, yaml.ScalarNode):
            raise InputError(f"{place}: a key must be one word")
        elif key.tag != _TEXT:
            why = (
                f"the key {_reading(key)}: quote it{_quoted(key)}" if key.value else "there is no key before the colon"
            )
            raise InputError(f"{place}: {why}")
        name = canonical(key.value)
        if name in lines:
            raise InputError(f"{place}: '{name}' stands twice, first in line {lines[name]}: keep one")
        lines[name] = _line(key)


def _check_merged(value: yaml.Node, place: str) -> None:
    """Refuse to merge what says a key twice, of which the first would win."""
    merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
    names = [canonical(str(key.value)) for one in merged if isinstance(one, yaml.MappingNode) for key, _ in one.value]
    if twice := sorted({name for name in names if names.count(name) > 1} - {"<<"}):
        raise InputError(f"{place}: '{twice[0]}' stands in two of what is merged here: keep one")


def _inner(node: yaml.Node | None, step: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """What stands in a node under a key or place, and where it begins; of a merged key its own value, which is last."""
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in reversed(node.value) if key.value == step), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None


def _reading(node: yaml.ScalarNode) -> str:
    """What becomes of a bare word."""
    kind = node.tag.rpartition(":")[2]
    if kind == "bool":
        said = "true" if yaml.SafeLoader.bool_values[node.value.lower()] else "false"
    elif kind in ("int", "float"):
        said = f"the number {_number(node)}"
    else:
        said = {"null": "nothing", "timestamp": "a date"}.get(kind, "no word")
    return f"`{_short(node)}` is read as {said}"


def _number(node: yaml.ScalarNode) -> Any:
    """The number that a bare word is read as."""
    return _Loader("").construct_object(node)


def _quoted(node: yaml.Node) -> str:
    """How a bare word is written as text."""
    return f" ('{_short(node)}')" if node.value else ""


def _short(node: yaml.Node) -> str:
    text = str(node.value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _reason(error: yaml.YAMLError) -> str:
    """What the library says, on one line."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    said = " ".join(str(one) for one in (getattr(error, "context", None), getattr(error, "problem", None)) if one)
    return f"line {mark.line + 1}: {' '.join(said.split())}"
