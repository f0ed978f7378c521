"""The prompt that was tuned on the questions whose centre is nearest to this one."""

from collections.abc import Sequence

from data.errors import InputError
from data.facts import Fact
from probes.selection.base import Material, Selection
from probes.selection.key import KeySelector
from probes.specs.selectors import SelectorKind


def _made(kind: SelectorKind, found: Material, people: Sequence[Fact]) -> KeySelector:
    """The centre of what each prompt was tuned on is its key.

    Raises:
        InputError: a bank whose prompts were all tuned on the same text.
    """
    if found.centres is None:
        raise InputError(
            f"selector '{kind.name}' needs a bank whose prompts were tuned on different texts: name bank relations or "
            "clusters, or another selector"
        )
    return KeySelector(found.model, found.centres, "euclidean")


SELECTION = Selection(_made)
