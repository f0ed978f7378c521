"""Log-likelihood of token continuations under any variant, each context read once: facts and tasks are scored by it.

1. Read every context once behind its prompt, keeping keys and values: this gives every continuation's first token.
   IDP chooses here, from the context alone: it never sees what is scored.
2. Where continuations are longer, go on from those keys and values, one row per (context, continuation), those of
   about the same length together.
3. A context with one continuation is read with it in one pass, but for the last token, which is scored and not read.

Log-softmax in fp32 whatever the model's dtype.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache

from data.errors import InputError
from probes.inputs import longest_content
from probes.prefix import keys_and_values
from probes.variants import Choice, Reading, Variant
from probes.windows import attention_mask

HELD_LOGITS = 1024
"""Positions of continuations whose logits are held at once, in every batch plan: about 200 MB a 50,000 words."""
ALIKE = 1.5
SLACK = 4
"""Continuations are read together while the longest has no more than ALIKE times the shortest's tokens and SLACK more:
else most of a pass would be padding."""


@dataclass(frozen=True)
class Continued:
    """A batch of contexts with what a variant says of each one's continuations; log-probabilities in nats."""

    log_probs: list[list[float]]
    """Per context and continuation, summed over the continuation's tokens."""
    greedy: list[list[bool]]
    """Whether every token of a continuation is the most likely one."""
    likeliest: list[int]
    """The most likely next token after each context."""
    choice: Choice | None


@torch.no_grad()
def continue_contexts(
    variant: Variant, contexts: Sequence[Sequence[int]], tails: Sequence[Sequence[Sequence[int]]]
) -> Continued:
    """Score the continuations (`tails`) of each context: one pass over contexts, one over what is longer than a token.

    Raises:
        InputError: a context with its longest continuation passes the model's positions.
    """
    choice = variant.choose(contexts)
    reading = variant.read(contexts, choice)
    first = reading.logits.float().log_softmax(dim=-1)
    best = first.argmax(dim=-1)
    totals = [
        first[row, torch.tensor([tail[0] for tail in mine], device=first.device)] for row, mine in enumerate(tails)
    ]
    greedy = [[int(best[row]) == tail[0] for tail in mine] for row, mine in enumerate(tails)]
    longer = [(row, place) for row, mine in enumerate(tails) for place, tail in enumerate(mine) if len(tail) > 1]
    for group in _groups(longer, [len(tails[row][place]) for row, place in longer]):
        rows = torch.tensor([row for row, _ in group], device=first.device)
        log_probs, agreed = _rest(variant, reading, rows, [tails[row][place] for row, place in group])
        for which, (row, place) in enumerate(group):
            totals[row][place] += log_probs[which]
            greedy[row][place] = greedy[row][place] and agreed[which]
    return Continued([total.tolist() for total in totals], greedy, best.tolist(), choice)


def _groups(places: Sequence[tuple[int, int]], lengths: Sequence[int]) -> Iterator[list[tuple[int, int]]]:
    """Continuations that are read in one pass, the shortest first; in the order given where they are alike."""
    if places and max(lengths) <= ALIKE * min(lengths) + SLACK and max(lengths) * len(lengths) <= HELD_LOGITS:
        yield list(places)
        return
    held: list[tuple[int, int]] = []
    shortest = 0
    for length, place in sorted(zip(lengths, places, strict=True)):
        if held and (length > ALIKE * shortest + SLACK or (len(held) + 1) * length > HELD_LOGITS):
            yield held
            held = []
        shortest = shortest if held else length
        held.append(place)
    if held:
        yield held


def _selected(cache: DynamicCache, rows: Tensor) -> DynamicCache:
    """These rows' keys and values, the cache left as it is."""
    found = DynamicCache()
    for layer, (keys, values) in enumerate(keys_and_values(cache)):
        here = rows.to(keys.device)
        found.update(keys[here], values[here], layer)
    return found


def _rest(
    variant: Variant, reading: Reading, rows: Tensor, tails: Sequence[Sequence[int]]
) -> tuple[Float[Tensor, " tails"], list[bool]]:
    """Log-probability of all but the first token of each tail, and whether all of them are the most likely."""
    cache = _selected(reading.cache, rows)
    longest = max(len(tail) for tail in tails) - 1
    device = rows.device
    tokens = torch.zeros(len(tails), longest, dtype=torch.long, device=device)
    targets = torch.zeros_like(tokens)
    mask = torch.zeros_like(tokens)
    for place, tail in enumerate(tails):
        length = len(tail) - 1
        tokens[place, :length] = torch.tensor(list(tail[:-1]))
        targets[place, :length] = torch.tensor(list(tail[1:]))
        mask[place, :length] = 1
    positions = reading.next_position[rows] + torch.arange(longest, device=device)
    seen = torch.cat([reading.seen[rows], mask], dim=1)
    keys = torch.cat([reading.positions[rows], positions], dim=1)
    last = longest_content(variant.model) - 1
    if bool(((positions > last) & (mask == 1)).any()):
        raise InputError(
            f"a question with its longest answer passes the model's {last + 1} positions: "
            "shorten the question or the prompt"
        )
    output = variant.model(
        inputs_embeds=variant.model.get_input_embeddings()(tokens),
        attention_mask=attention_mask(variant.model, seen, keys, positions),
        position_ids=positions.clamp(max=last),  # of padding alone
        past_key_values=cache,
        use_cache=True,
    )
    log_probs = output.logits.float().log_softmax(dim=-1)
    taken = log_probs.gather(2, targets[:, :, None])[:, :, 0] * mask
    agreed = (log_probs.argmax(dim=-1) == targets) | (mask == 0)
    return taken.sum(dim=1), agreed.all(dim=1).tolist()


@dataclass(frozen=True)
class Scored:
    """One continuation after its context."""

    log_prob: float
    greedy: bool
    chosen: int | None
    """The prompt that IDP kept for the context."""


Pair = tuple[tuple[int, ...], tuple[int, ...]]
"""Tokens of a context and of what follows it, neither empty."""


def score_pairs(variant: Variant, pairs: Sequence[Pair], *, batch: int) -> list[Scored]:
    """Score (context, continuation) pairs in a fixed batch plan; results in the order given.

    Equal contexts are read once. Contexts are sorted by length and taken `batch` at a time; those with one continuation
    by the length of both, fewer at a time where continuations are long.
    """
    places: dict[tuple[int, ...], list[int]] = {}
    for place, (context, _) in enumerate(pairs):
        places.setdefault(context, []).append(place)
    results: dict[int, Scored] = {}
    order = sorted((context for context, mine in places.items() if len(mine) > 1), key=len)
    for first in range(0, len(order), batch):
        contexts = order[first : first + batch]
        tails = [[pairs[place][1] for place in places[context]] for context in contexts]
        read = continue_contexts(variant, contexts, tails)
        for row, context in enumerate(contexts):
            chosen = None if read.choice is None else int(read.choice.kept[row])
            for which, place in enumerate(places[context]):
                results[place] = Scored(read.log_probs[row][which], read.greedy[row][which], chosen)
    alone = sorted((mine[0] for mine in places.values() if len(mine) == 1), key=lambda place: _length(pairs[place]))
    for some in _few(alone, pairs, batch):
        results.update(zip(some, _joint(variant, [pairs[place] for place in some]), strict=True))
    return [results[place] for place in range(len(pairs))]


def _length(pair: Pair) -> int:
    return len(pair[0]) + len(pair[1])


def _few(places: Sequence[int], pairs: Sequence[Pair], batch: int) -> Iterator[list[int]]:
    """Pairs in batches, in the order given, as many as the logits of their continuations allow."""
    held: list[int] = []
    longest = 0
    for place in places:
        own = len(pairs[place][1])
        if held and (len(held) == batch or (len(held) + 1) * max(longest, own) > HELD_LOGITS):
            yield held
            held, longest = [], 0
        held.append(place)
        longest = max(longest, own)
    if held:
        yield held


@torch.no_grad()
def _joint(variant: Variant, pairs: Sequence[Pair]) -> list[Scored]:
    """Contexts with one continuation each, in one pass over both."""
    choice = variant.choose([context for context, _ in pairs])
    longest = max(len(tail) for _, tail in pairs)
    logits = variant.last_logits([context + tail[:-1] for context, tail in pairs], longest, choice)
    log_probs = logits.float().log_softmax(dim=-1)
    best = log_probs.argmax(dim=-1)
    found = []
    for row, (_, tail) in enumerate(pairs):
        told = torch.tensor(tail, device=log_probs.device)
        # Rows end in one column, so that a continuation's logits are the last.
        total = log_probs[row, -len(tail) :].gather(1, told[:, None]).sum()
        greedy = bool((best[row, -len(tail) :] == told).all())
        found.append(Scored(float(total), greedy, None if choice is None else int(choice.kept[row])))
    return found
