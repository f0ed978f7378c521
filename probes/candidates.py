"""Candidate answers in tokens: every one can be told apart, and every one can win.

A candidate's score is the log-probability that the text goes on with it. Of two candidates of which one begins the
other ("New York", "New York City") the longer is never the likelier, so that it could never be said, whatever a model
knows. Such a list is scored by events that exclude each other: the text goes on with the shorter *and not with the
longer*,

    p(New York, not New York City) = p(New York) - p(New York City),

which needs no mark for the end of an answer and no division by length, and leaves every other list as it was. The
longer wins where the model gives its rest more than one half.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from transformers import PreTrainedTokenizerBase

from data.errors import InputError
from data.facts import Item
from probes.tokens import encode_continuations, encode_questions

Rule = Literal["whole", "without_longer"]
"""How the candidates of a list are scored: each as it stands, or less those that go on from it."""
_SURE = 2.0**-24
"""The least share of an answer's probability that fp32 can tell from none: it is left to a shorter answer."""
Tails = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Asked:
    """An item in tokens."""

    item: Item
    question: list[int]
    tails: list[list[int]]
    """Tokens of each candidate after the question."""

    @property
    def rule(self) -> Rule:
        """How its candidates are scored."""
        return "without_longer" if any(longer_of(self.tails)) else "whole"


@lru_cache(maxsize=8)
def encode_items(tokenizer: PreTrainedTokenizerBase, items: tuple[Item, ...]) -> tuple[Asked, ...]:
    """Token ids of every question and of every candidate after it; the same for all variants of a model.

    Raises:
        InputError: two candidates, or two subjects of one relation, are the same tokens.
    """
    pairs = [(item.question, answer) for item in items for answer in item.candidates.answers]
    encoded = iter(encode_continuations(tokenizer, pairs))
    results = []
    for item in items:
        mine = [next(encoded) for _ in item.candidates.answers]
        results.append(Asked(item, mine[0][0], [tail for _, tail in mine]))
    for one in results:
        _answers_apart(one)
    _subjects_apart(items, [one.question for one in results])
    return tuple(results)


def require_apart(tokenizer: PreTrainedTokenizerBase, items: Sequence[Item]) -> None:
    """Refuse what a model would be asked in the same tokens, every list of candidates being read once.

    Raises:
        InputError: two candidates, or two subjects of one relation, are the same tokens.
    """
    encode_items(tokenizer, tuple({item.candidates: item for item in items}.values()))
    _subjects_apart(items, encode_questions(tokenizer, [item.question for item in items]))


def _answers_apart(asked: Asked) -> None:
    """Refuse two candidates in the same tokens."""
    seen: dict[tuple[int, ...], str] = {}
    for answer, tail in zip(asked.item.candidates.answers, asked.tails, strict=True):
        if (other := seen.setdefault(tuple(tail), answer)) != answer:
            raise InputError(
                f"relation '{asked.item.fact.relation}': the tokenizer writes the answers '{other}' and '{answer}' "
                f"alike ({len(tail)} tokens): no model can tell them apart; leave one out, or take another tokenizer"
            )


def _subjects_apart(items: Sequence[Item], questions: Sequence[Sequence[int]]) -> None:
    """Refuse questions about two subjects of one relation in the same tokens."""
    subjects: dict[tuple[str, tuple[int, ...]], str] = {}
    for item, question in zip(items, questions, strict=True):
        fact = item.fact
        other = subjects.setdefault((fact.relation, tuple(question)), fact.subject)
        if other != fact.subject:
            raise InputError(
                f"relation '{fact.relation}': the tokenizer writes the questions about '{other}' and "
                f"'{fact.subject}' alike: no model can tell them apart; leave one out, or take another tokenizer"
            )


def longer_of(tails: Tails) -> list[list[int]]:
    """For each candidate the places of those that go on from it, of several in one line the shortest alone."""
    whole = [tuple(tail) for tail in tails]
    found = []
    for own in whole:
        after = [place for place, tail in enumerate(whole) if len(tail) > len(own) and tail[: len(own)] == own]
        begun = {place: whole[place] for place in after}
        found.append([
            place
            for place in after
            if not any(begun[place][: len(tail)] == tail for other, tail in begun.items() if other != place)
        ])  # fmt: skip
    return found


def exclusive(log_probs: Sequence[float], tails: Tails) -> list[float]:
    """Log-probability of each candidate and of none that goes on from it, in nats; as given where there is none.

    A shorter answer keeps at least what fp32 can tell from nothing, since sums of rounded numbers may leave less.
    """
    found = list(log_probs)
    for place, longer in enumerate(longer_of(tails)):
        if longer:
            share = sum(math.exp(log_probs[other] - log_probs[place]) for other in longer)
            found[place] = log_probs[place] + math.log1p(-min(share, 1 - _SURE))
    return found


def said_whole(greedy: Sequence[bool], tails: Tails) -> list[bool]:
    """Whether greedy decoding says each candidate, and goes on with none that is longer."""
    pairs = zip(greedy, longer_of(tails), strict=True)
    return [said and not any(greedy[other] for other in longer) for said, longer in pairs]
