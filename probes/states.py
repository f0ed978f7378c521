"""What every layer holds at the last word of a question, where the answer is about to be said; and the questions.

The lens and the linear probes both start here. One streaming pass a batch; what is kept is one vector per layer
and item, in the model's own dtype, and the logits of that position.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from data.errors import InputError
from data.facts import Item
from probes.candidates import encode_items
from probes.capture import Recorder
from probes.sites import Kind, Site, sites_of
from probes.variants import Variant


@dataclass(frozen=True)
class Question:
    """An item in tokens; only the first token of an answer counts, since one position is read."""

    item: Item
    tokens: tuple[int, ...]
    right: int
    """First token of the right answer."""
    others: tuple[int, ...]
    """First tokens of the other candidates, each once; those that begin as the right answer does are left out."""


def encode_questions(tokenizer: PreTrainedTokenizerBase, items: Sequence[Item]) -> tuple[Question, ...]:
    """Encode items; raise InputError where no other candidate begins otherwise than the right answer."""
    questions = []
    for asked in encode_items(tokenizer, tuple(items)):
        item, firsts = asked.item, [tail[0] for tail in asked.tails]
        right = firsts[item.answer_index]
        others = tuple(sorted(set(firsts) - {right}))
        if not others:
            raise InputError(
                f"item '{item.name}': every candidate begins with the same token, so its first token tells "
                "nothing: give candidates that differ from their start"
            )
        questions.append(Question(item, tuple(asked.question), right, others))
    return tuple(questions)


@dataclass(frozen=True)
class LastStates:
    """The last content position of every row under one variant."""

    residual: Float[Tensor, "layer item width"]
    """The residual stream after each block."""
    logits: Float[Tensor, "item vocabulary"]
    """The model's own."""


def last_states(
    variant: Variant, rows: Sequence[Sequence[int]], *, batch: int = 64, backend: str = "hooks"
) -> LastStates:
    """Read rows behind the variant's prompt, `batch` at a time in the order given.

    Raises as `probes.capture.Recorder.stream` does.
    """
    sites = sites_of(variant.model, [Kind.RESID_POST])
    residuals: list[Tensor] = []
    logits: list[Tensor] = []
    with Recorder(variant.model, backend=backend) as recorder:
        for first in range(0, len(rows), batch):
            inputs = variant.inputs(rows[first : first + batch])
            last = torch.tensor([inputs.content.shape[1] - 1], device=inputs.content.device)
            held: dict[Site, Tensor] = {}

            def keep(site: Site, tensor: Tensor, held: dict[Site, Tensor] = held) -> None:
                held[site] = tensor[:, -1].clone()  # rows end in the last column, padded on the left

            logits.append(recorder.stream(inputs, sites, keep, logits_at=last)[:, 0])
            residuals.append(torch.stack([held[site] for site in sites]))
    return LastStates(torch.cat(residuals, dim=1), torch.cat(logits))
