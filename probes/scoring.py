"""Log-likelihood of fixed candidate answers under any variant, the question read once for all of them.

1. Read the question once behind its prompt, keeping keys and values: this gives every candidate's first token.
2. Where candidates are longer, continue from those keys and values, one row per (question, candidate).

Two readings: *candidates* (the best of the fixed list) and *vocabulary* (the model's own next tokens, greedy).
Log-softmax in fp32 whatever the model's dtype.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from data.errors import InputError
from data.facts import Item
from probes.inputs import encode_continuations, longest_content
from probes.variants import Reading, Variant


@dataclass(frozen=True)
class Score:
    """What a variant says to one item; log-probabilities in nats."""

    item: Item
    log_probs: tuple[float, ...]
    """Of each candidate, summed over its tokens, over the full vocabulary."""
    greedy: bool
    """Whether every token of the right answer is the most likely one of the vocabulary."""
    said: str
    """The most likely next token."""
    chosen: int | None = None
    """The prompt IDP kept."""
    selector_scores: tuple[float, ...] | None = None

    @property
    def log_prob(self) -> float:
        """Log-probability of the right answer over the vocabulary."""
        return self.log_probs[self.item.answer_index]

    @property
    def predicted(self) -> str:
        """The most likely candidate."""
        best = max(range(len(self.log_probs)), key=self.log_probs.__getitem__)
        return self.item.candidates.answers[best]


@dataclass(frozen=True)
class _Encoded:
    item: Item
    question: list[int]
    candidates: list[list[int]]


@lru_cache(maxsize=8)
def _encode(tokenizer: PreTrainedTokenizerBase, items: tuple[Item, ...]) -> tuple[_Encoded, ...]:
    """Token ids of every question and of every candidate after it; the same for all variants of a model."""
    pairs = [(item.question, answer) for item in items for answer in item.candidates.answers]
    encoded = iter(encode_continuations(tokenizer, pairs))
    results = []
    for item in items:
        mine = [next(encoded) for _ in item.candidates.answers]
        results.append(_Encoded(item, mine[0][0], [continuation for _, continuation in mine]))
    return tuple(results)


@torch.no_grad()
def score(variant: Variant, items: Sequence[Item], *, batch: int = 64) -> list[Score]:
    """Score items in a fixed batch plan: sorted by question length, `batch` at a time; returned in the order given."""
    encoded = _encode(variant.tokenizer, tuple(items))
    order = sorted(range(len(items)), key=lambda place: len(encoded[place].question))
    results: dict[int, Score] = {}
    for first in range(0, len(order), batch):
        places = order[first : first + batch]
        scored = _score_batch(variant, [encoded[place] for place in places])
        results.update(zip(places, scored, strict=True))
    return [results[place] for place in range(len(items))]


def _score_batch(variant: Variant, batch: list[_Encoded]) -> list[Score]:
    """One pass over the questions, one over the rest of the longer candidates."""
    choice = variant.choose([one.question for one in batch])
    reading = variant.read([one.question for one in batch], choice)
    first = reading.logits.float().log_softmax(dim=-1)
    best = first.argmax(dim=-1)
    totals = [
        first[row, torch.tensor([tokens[0] for tokens in one.candidates], device=first.device)]
        for row, one in enumerate(batch)
    ]
    greedy = [int(best[row]) == one.candidates[one.item.answer_index][0] for row, one in enumerate(batch)]
    longer = [
        (row, candidate)
        for row, one in enumerate(batch)
        for candidate, tokens in enumerate(one.candidates)
        if len(tokens) > 1
    ]
    if longer:
        tails = [batch[row].candidates[candidate] for row, candidate in longer]
        rows = torch.tensor([row for row, _ in longer], device=first.device)
        log_probs, agreed = _continue(variant, reading, rows, tails)
        for place, (row, candidate) in enumerate(longer):
            totals[row][candidate] += log_probs[place]
            if candidate == batch[row].item.answer_index:
                greedy[row] = greedy[row] and agreed[place]
    return [
        Score(
            item=one.item,
            log_probs=tuple(totals[row].tolist()),
            greedy=greedy[row],
            said=str(variant.tokenizer.decode([int(best[row])])).strip(),
            chosen=None if choice is None else int(choice.kept[row]),
            selector_scores=None if choice is None else tuple(choice.scores[row].tolist()),
        )
        for row, one in enumerate(batch)
    ]


def _continue(
    variant: Variant, reading: Reading, rows: Tensor, tails: list[list[int]]
) -> tuple[Float[Tensor, " tails"], list[bool]]:
    """Log-probability of all but the first token of each tail, and whether all of them are the most likely."""
    reading.cache.batch_select_indices(rows)
    longest = max(len(tail) for tail in tails) - 1
    device = rows.device
    tokens = torch.zeros(len(tails), longest, dtype=torch.long, device=device)
    targets = torch.zeros_like(tokens)
    mask = torch.zeros_like(tokens)
    for place, tail in enumerate(tails):
        length = len(tail) - 1
        tokens[place, :length] = torch.tensor(tail[:-1])
        targets[place, :length] = torch.tensor(tail[1:])
        mask[place, :length] = 1
    next_position = reading.next_position[rows]
    if int(next_position.max()) + longest > longest_content(variant.model):
        raise InputError(
            f"a question with its longest answer passes the model's {longest_content(variant.model)} positions: "
            "shorten the question or the prompt"
        )
    output = variant.model(
        inputs_embeds=variant.model.get_input_embeddings()(tokens),
        attention_mask=torch.cat([reading.attention_mask[rows], mask], dim=1),
        position_ids=next_position + torch.arange(longest, device=device),
        past_key_values=reading.cache,
        use_cache=True,
    )
    log_probs = output.logits.float().log_softmax(dim=-1)
    taken = log_probs.gather(2, targets[:, :, None])[:, :, 0] * mask
    agreed = (log_probs.argmax(dim=-1) == targets) | (mask == 0)
    return taken.sum(dim=1), agreed.all(dim=1).tolist()
