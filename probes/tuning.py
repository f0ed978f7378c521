"""Tune a repair: the one loop for prompts, prefixes, banks and LoRA, and the one form of tuning text.

1. A row is a token sequence with the positions whose prediction is scored: a fact's answer, the fact's text
   without its answer (the answer-masked placebo), or every token of a text window.
2. Rows are drawn in seeded epochs; AdamW with a short warm-up and linear decay moves the repair alone.

The model is frozen and in evaluation mode throughout: dropout would be noise in the comparison.
"""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data.errors import InputError
from probes.inputs import build_inputs
from probes.prefix import Prefixes
from probes.prompts import SoftPrompt
from probes.tokens import encode, encode_continuations
from probes.windows import attention_mask

WARM_UP = 0.1
"""Share of the steps over which the learning rate rises."""


Shown = SoftPrompt | Prefixes
"""What stands before every row: vectors, or keys and values."""


@dataclass(frozen=True)
class TuningRow:
    """Tokens, and from which token on their prediction is scored (never the first, which nothing precedes)."""

    tokens: tuple[int, ...]
    scored_from: int


@dataclass(frozen=True)
class Step:
    """One step of a tuning run: loss in nats per scored token."""

    step: int
    loss: float
    tokens: int


def statement_rows(
    tokenizer: PreTrainedTokenizerBase, statements: Iterable[tuple[str, str]], *, masked: bool = False
) -> list[TuningRow]:
    """Facts as tuning rows: scored on the answer, or (`masked`) cut before it and scored on the rest."""
    rows = []
    for opening, continuation in encode_continuations(tokenizer, list(statements)):
        if masked:
            rows.append(TuningRow(tuple(opening), 1))
        else:
            rows.append(TuningRow((*opening, *continuation), len(opening)))
    return [row for row in rows if row.scored_from < len(row.tokens)]


def text_rows(blocks: Iterable[Sequence[int]]) -> list[TuningRow]:
    """Windows of running text as tuning rows, every token scored."""
    return [TuningRow(tuple(block), 1) for block in blocks]


def token_loss(model: PreTrainedModel, rows: Sequence[TuningRow], prompt: Shown | None) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats over the scored tokens of these rows behind a prompt or a prefix.

    The head is applied at scored positions alone: it is a fifth of a small model's work.
    """
    hidden = _hidden(model, [row.tokens for row in rows], prompt)
    width = hidden.shape[1]
    places, targets = [], []
    for index, row in enumerate(rows):
        first = width - len(row.tokens)
        for position in range(row.scored_from, len(row.tokens)):
            places.append((index, first + position - 1))
            targets.append(row.tokens[position])
    chosen = torch.tensor(places, device=hidden.device)
    logits = model.get_output_embeddings()(hidden[chosen[:, 0], chosen[:, 1]])
    return nn.functional.cross_entropy(logits.float(), torch.tensor(targets, device=hidden.device))


def _hidden(
    model: PreTrainedModel, rows: Sequence[Sequence[int]], prompt: Shown | None
) -> Float[Tensor, "row position width"]:
    """Last hidden states, the content's in the last columns.

    A prompt is the same before every row and reads none of them: it passes the model once, not once a row.
    """
    if prompt is None:
        return model.base_model(**build_inputs(model, rows).forward_arguments(), use_cache=False).last_hidden_state
    prefixes = prompt if isinstance(prompt, Prefixes) else Prefixes(model, [prompt])
    inputs = build_inputs(model, rows, content_start=prefixes.longest)
    cache, slots = prefixes.chosen(inputs.attention_mask.new_zeros(len(rows)))
    seen = torch.cat([slots, inputs.attention_mask], dim=1)
    positions = torch.cat([prefixes.places(len(rows)), inputs.position_ids], dim=1)
    return model.base_model(
        inputs_embeds=inputs.embeds,
        attention_mask=attention_mask(model, seen, positions, inputs.position_ids),
        position_ids=inputs.position_ids,
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state


def _draws(rows: Sequence[TuningRow], size: int, seed: int) -> Iterator[list[TuningRow]]:
    """Batches of rows for ever: each epoch in a new seeded order."""
    draw = random.Random(f"tuning {seed}")
    held: list[TuningRow] = []
    while True:
        while len(held) < size:
            held += draw.sample(rows, len(rows))
        yield held[:size]
        held = held[size:]


def _sources(
    facts: Sequence[TuningRow], text: Sequence[TuningRow], batch: int, text_batch: int, seed: int
) -> list[Iterator[list[TuningRow]]]:
    """What every step reads from: facts, text or both."""
    found = [_draws(facts, batch, seed)] if facts and batch else []
    return found + ([_draws(text, text_batch, seed)] if text and text_batch else [])


def tokens_by_step(
    facts: Sequence[TuningRow], text: Sequence[TuningRow], *, batch: int, text_batch: int, seed: int
) -> Iterator[int]:
    """How many tokens each step of `tune` will read, for ever."""
    sources = _sources(facts, text, batch, text_batch, seed)
    while True:
        yield sum(len(row.tokens) for source in sources for row in next(source))


def tune(
    model: PreTrainedModel,
    parameters: Sequence[nn.Parameter],
    facts: Sequence[TuningRow],
    text: Sequence[TuningRow],
    *,
    prompt: nn.Parameter | Callable[[], Shown] | None,
    steps: int,
    batch: int,
    text_batch: int,
    learning_rate: float,
    seed: int,
    on_step: Callable[[int, int], None] | None = None,
) -> list[Step]:
    """Move the parameters by the loss on the rows; each step reads `batch` facts and `text_batch` windows.

    `prompt` is what is tuned itself, or makes from it what stands before the rows.

    Raises:
        InputError: nothing to read, or a loss that is no longer finite.
    """
    if not facts and not text:
        raise InputError("there is no tuning text: give facts, text or both")
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    sources = _sources(facts, text, batch, text_batch, seed)
    log = []
    for number in range(steps):
        optimizer.zero_grad()
        total, tokens = 0.0, 0
        for source in sources:
            rows = next(source)
            shown = prompt if prompt is None or isinstance(prompt, nn.Parameter) else prompt()
            loss = token_loss(model, rows, shown) / len(sources)
            loss.backward()
            total += loss.item()
            tokens += sum(len(row.tokens) for row in rows)
        if not math.isfinite(total):
            raise InputError(
                f"tuning diverged at step {number} (loss {total}): lower learning_rate (now {learning_rate})"
            )
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        log.append(Step(number, total, tokens))
        if on_step is not None:
            on_step(number + 1, steps)
    return log


def _rate(step: int, steps: int) -> float:
    """Linear warm-up, then linear decay to nothing."""
    warm = max(1, round(WARM_UP * steps))
    return (step + 1) / warm if step < warm else (steps - step) / max(1, steps - warm)


def encode_blocks(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], length: int) -> list[list[int]]:
    """Cut running text into blocks of exactly `length` tokens, each text's tokens after the other's.

    Raises:
        InputError: the text is shorter than one block.
    """
    tokens: list[int] = []
    blocks: list[list[int]] = []
    for text in texts:
        tokens += encode(tokenizer, text)
        while len(tokens) >= length:
            blocks.append(tokens[:length])
            tokens = tokens[length:]
    if not blocks:
        raise InputError(
            f"the text holds {len(tokens)} tokens, less than one block of {length}: give more text or shorter blocks"
        )
    return blocks
