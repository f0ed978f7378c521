"""What a selector does, what it is made from, and what its file says of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from data.errors import InputError
from data.facts import Fact
from probes.prompts import SoftPrompt
from probes.specs.repairs.idp import IdpSpec
from probes.specs.selectors import Cost, SelectorKind


class PromptSelector(Protocol):
    """Scores every prompt of a bank for every row, from the row's own tokens; the largest score is kept."""

    @property
    def cost(self) -> Cost:
        """What the choice costs."""
        ...

    def scores(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch prompt"]:
        """The larger, the better; the unit is the selector's own."""
        ...


@dataclass(frozen=True)
class TuneFacts:
    """Tune facts in every tuning phrasing, asked behind every prompt of a bank: what a selector may learn from."""

    rows: list[list[int]]
    """Tokens of each question."""
    log_probs: Float[np.ndarray, "question prompt"]
    """Of the right answer over the vocabulary, nats."""
    groups: Int[np.ndarray, "question grouping"]
    """What a question shares with others: its phrasing, and its half of the entities."""


class Material(Protocol):
    """A bank of prompts and what a selector is made from; what takes passes is computed when it is first asked for."""

    seed: int
    prompts: list[SoftPrompt]

    @property
    def model(self) -> PreTrainedModel:
        """The model that the prompts stand before."""
        ...

    @property
    def repair(self) -> IdpSpec:
        """What the study says of the bank and its selector."""
        ...

    @property
    def tune(self) -> TuneFacts | None:
        """Tune facts; None where there are none."""
        ...

    @property
    def centres(self) -> Float[Tensor, "prompt width"] | None:
        """Centres of the questions that each prompt was tuned on; None where all read the same."""
        ...

    def known(self, people: Sequence[Fact]) -> Mapping[tuple[int, ...], Sequence[float]]:
        """By a question's tokens, each prompt's log-probability of the right answer in another phrasing, nats."""
        ...


Make = Callable[[SelectorKind, Material, Sequence[Fact]], PromptSelector]
Compare = Callable[[Sequence[SelectorKind], Material, Sequence[Fact]], Iterator[tuple[str, PromptSelector]]]


@dataclass(frozen=True)
class Selection:
    """How the selectors of one file are made."""

    make: Make
    """A selector for a bank; the facts are those that will be asked, which only a bound may look at.

    Raises InputError where what it needs is not there.
    """
    compare: Compare | None = None
    """The selectors that stand in the table which compares them, by the name they have there; `make`'s unless told."""
    draw: Callable[[Material, int], PromptSelector] | None = None
    """Where the choice is drawn: the same by another seed. Draw 0 is what `make` gives."""

    def compared(
        self, kinds: Sequence[SelectorKind], found: Material, people: Sequence[Fact]
    ) -> Iterator[tuple[str, PromptSelector]]:
        """Names and selectors for the table that compares them, one by one."""
        if self.compare is not None:
            yield from self.compare(kinds, found, people)
            return
        for kind in kinds:
            yield kind.name, self.make(kind, found, people)


def required(kind: SelectorKind, tune: TuneFacts | None) -> TuneFacts:
    """What a selector is trained on.

    Raises:
        InputError: there is nothing.
    """
    if tune is None or not len(tune.log_probs):
        raise InputError(
            f"selector '{kind.name}' is fitted on tune facts and there are none: give facts of the tune split, or name "
            "another selector"
        )
    return tune
