"""From the list of selectors to the selectors themselves."""

import importlib
from collections.abc import Iterator, Sequence
from itertools import groupby

from data.facts import Fact
from probes.selection.base import Material, PromptSelector, Selection
from probes.specs.selectors import SelectorKind, selectors


def selection_in(module: str) -> Selection:
    """How the selectors of a module are made."""
    selection: Selection = importlib.import_module(module).SELECTION
    return selection


def make_selector(kind: SelectorKind, found: Material, people: Sequence[Fact]) -> PromptSelector:
    """A selector for a bank, fitted where it is one that learns; `people` are the facts that will be asked.

    Raises:
        InputError: what it needs is not there.
    """
    return selection_in(kind.made_in).make(kind, found, people)


def by_module(found: Material) -> Iterator[tuple[Selection, list[SelectorKind]]]:
    """Every selector that this bank can have, those of one file together."""
    for module, kinds in groupby(selectors(), key=lambda kind: kind.made_in):
        if able := [kind for kind in kinds if found.repair.allows(kind)]:
            yield selection_in(module), able
