"""The one list of selectors: a new one is a file in `probes/selection/` and an entry here.

It says of each what a study, a plan or a page has to know, without torch; how it is made stands in its file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from data.naming import nearest

Cost = Literal["none", "first_layer", "full_pass", "full_pass_per_prompt"]
"""What a choice costs beyond the answer's own pass: embeddings at most, one block, one pass, one pass per prompt."""
Need = Literal["nothing", "tune facts", "clusters", "answers elsewhere"]
"""What it is made from beside the bank: nothing; tune facts asked behind every prompt; the centres of the different
texts that the prompts were tuned on; the right answers to another phrasing of what is asked."""


@dataclass(frozen=True)
class SelectorKind:
    """One way of choosing among the prompts of a bank."""

    name: str
    """As a study names it, as tables have it, and a part of the repair's spoken name."""
    words: str
    """What it keeps, in one sentence, for pages."""
    cost: Cost
    """With the usual settings; a selector that was made says its own."""
    needs: Need = "nothing"
    bound: bool = False
    """Looks at the answer to what is asked: shows what a choice could give, and is never reported as a repair."""
    rowless: bool = False
    """Keeps no prompt for an arbitrary text, so that a variant cannot be read row by row."""
    keeps_all: bool = False
    """Chooses nothing: the answer is the mean of the probabilities over all prompts."""
    settings: tuple[str, ...] = ()
    """The fields of `IdpSpec` that it reads; one that is not the usual is a part of the repair's name."""
    module: str = ""
    """Where `SELECTION` says how it is made; `probes.selection.NAME` unless told."""

    @property
    def made_in(self) -> str:
        """The module that makes it."""
        return self.module or f"probes.selection.{self.name}"


OUTPUTS = "probes.selection.outputs"
_SELECTORS: dict[str, SelectorKind] = {
    one.name: one
    for one in (
        SelectorKind(
            "attention",
            "the prompt that the question pays most attention to (the IDP paper's choice)",
            "first_layer",
            settings=("layers", "heads", "queries", "per_token", "softmax"),
        ),
        SelectorKind("random", "a prompt drawn from a hash of the question", "none"),
        SelectorKind("fixed", "one prompt for all questions: the best on training facts", "none", "tune facts"),
        SelectorKind("key", "the prompt whose mean vector has the largest cosine with the question's", "none"),
        SelectorKind("cluster", "the prompt tuned on the questions whose centre is nearest", "none", "clusters"),
        SelectorKind(
            "oracle",
            "the prompt that answers another phrasing of the same fact best: it looks at the answer, so it is a bound",
            "full_pass_per_prompt",
            "answers elsewhere",
            bound=True,
            rowless=True,
        ),
        SelectorKind(
            "router",
            "the prompt named by a classifier of hidden states trained on training facts",
            "first_layer",
            "tune facts",
            settings=("states",),
        ),
        SelectorKind(
            "likelihood", "the prompt behind which the question is likeliest", "full_pass_per_prompt", module=OUTPUTS
        ),
        SelectorKind(
            "entropy",
            "the prompt behind which the next token has the least entropy",
            "full_pass_per_prompt",
            module=OUTPUTS,
        ),
        SelectorKind(
            "margin",
            "the prompt with the largest gap between the two likeliest next tokens",
            "full_pass_per_prompt",
            module=OUTPUTS,
        ),
        SelectorKind(
            "mixture",
            "no choice: the mean of the probabilities over all prompts",
            "full_pass_per_prompt",
            rowless=True,
            keeps_all=True,
        ),
    )
}


def selectors() -> tuple[SelectorKind, ...]:
    """Every selector, in the order of the tables."""
    return tuple(_SELECTORS.values())


def selector_of(name: str) -> SelectorKind:
    """The selector of a name.

    Raises:
        ValueError: there is none; names the nearest.

    >>> selector_of("oracle").bound
    True
    """
    if name not in _SELECTORS:
        raise ValueError(f"no selector is called '{name}'; {nearest(name, _SELECTORS)}")
    return _SELECTORS[name]


@contextmanager
def registered(kind: SelectorKind) -> Iterator[None]:
    """Within it there is one selector more: for what is tried in a notebook or a test, in this process alone.

    Raises:
        ValueError: there is one of this name already.
    """
    if kind.name in _SELECTORS:
        raise ValueError(f"there is a selector '{kind.name}' already")
    _SELECTORS[kind.name] = kind
    try:
        yield
    finally:
        del _SELECTORS[kind.name]
