"""Log-likelihood of fixed candidate answers under any variant, the question read once for all of them.

Two readings: *candidates* (the best of the fixed list) and *vocabulary* (the model's own next tokens, greedy).
How a question is read and its candidates after it: `probes/continuations.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from data.facts import Item
from probes.candidates import Asked, Rule, encode_items, exclusive, said_whole
from probes.continuations import continue_contexts
from probes.variants import Variant


@dataclass(frozen=True)
class Score:
    """What a variant says to one item; log-probabilities in nats."""

    item: Item
    log_probs: tuple[float, ...]
    """Of each candidate, summed over its tokens, over the full vocabulary; less those that go on from it."""
    greedy: bool
    """Whether every token of the right answer is the likeliest of the vocabulary, and no longer candidate is said."""
    said: str
    """The most likely next token."""
    chosen: int | None = None
    """The prompt IDP kept."""
    selector_scores: tuple[float, ...] | None = None
    rule: Rule = "whole"
    """How the candidates were scored."""

    @property
    def log_prob(self) -> float:
        """Log-probability of the right answer over the vocabulary, as `rule` has it."""
        return self.log_probs[self.item.answer_index]

    @property
    def predicted(self) -> str:
        """The most likely candidate."""
        best = max(range(len(self.log_probs)), key=self.log_probs.__getitem__)
        return self.item.candidates.answers[best]


@torch.no_grad()
def score(variant: Variant, items: Sequence[Item], *, batch: int = 64) -> list[Score]:
    """Score items in a fixed batch plan: sorted by question length, `batch` at a time; returned in the order given."""
    encoded = encode_items(variant.tokenizer, tuple(items))
    order = sorted(range(len(items)), key=lambda place: len(encoded[place].question))
    results: dict[int, Score] = {}
    for first in range(0, len(order), batch):
        places = order[first : first + batch]
        scored = _score_batch(variant, [encoded[place] for place in places])
        results.update(zip(places, scored, strict=True))
    return [results[place] for place in range(len(items))]


def _score_batch(variant: Variant, batch: list[Asked]) -> list[Score]:
    """One pass over the questions, one over the rest of the longer candidates."""
    read = continue_contexts(variant, [one.question for one in batch], [one.tails for one in batch])
    return [
        Score(
            item=one.item,
            log_probs=tuple(exclusive(read.log_probs[row], one.tails)),
            greedy=said_whole(read.greedy[row], one.tails)[one.item.answer_index],
            said=str(variant.tokenizer.decode([read.likeliest[row]])).strip(),
            chosen=None if read.choice is None else int(read.choice.kept[row]),
            selector_scores=None if read.choice is None else tuple(read.choice.scores[row].tolist()),
            rule=one.rule,
        )
        for row, one in enumerate(batch)
    ]
