"""A head's rows over content keys, one block of queries at a time: what a reference keeps and what is compared.

A causal pattern is half zeros: a block of queries is read with the keys up to its last query alone, which halves
what a reference keeps and what is computed, and keeps every temporary small.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel

from probes.inputs import Inputs

BLOCK = 64
"""Queries per block: of 256 keys, 5/8 are read; small enough for a core's cache."""

Pattern = Float[Tensor, "batch head query key"]
PerQuery = Float[Tensor, "batch head query"]


def content_width(inputs: Inputs) -> int:
    """Columns that hold the longest content; content ends in the last column of every variant's batch."""
    return int(inputs.content.sum(dim=1).max())


def blocks_of(width: int) -> list[tuple[int, int]]:
    """First and last query of each block, counted from the end, so that a shorter row has the same blocks."""
    return [(max(stop - BLOCK, 0), stop) for stop in range(width, 0, -BLOCK)]


def kept_entries(width: int) -> int:
    """Numbers that the blocks of one row and head hold."""
    return sum((stop - start) * stop for start, stop in blocks_of(width))


@dataclass(frozen=True)
class ContentRows:
    """The rows of content queries, renormalised over content keys, in causal blocks; and each row's entropy in nats."""

    width: int
    blocks: list[Pattern]
    entropy: PerQuery

    @classmethod
    def of(
        cls, pattern: Pattern, content: Bool[Tensor, "batch token"], into: Float[Tensor, " kept"] | None = None
    ) -> "ContentRows":
        """Copy what one pattern says about the content, whose mask is given for its columns.

        `into` is memory to keep the blocks in, `kept_entries` numbers a row and head.
        """
        width = content.shape[1]
        blocks, entropies, first = [], [], 0
        for rows in causal_blocks(pattern, content):
            entropies.append(entropy_of(rows))
            if into is not None:
                first, start = first + rows.numel(), first
                rows = into[start:first].view(rows.shape).copy_(rows)
            blocks.append(rows)
        return cls(width, blocks, torch.cat(entropies[::-1], dim=2))

    def sequence(self, place: int, length: int) -> "ContentRows":
        """One sequence by itself, its padding cut off."""
        cut = self.width - length
        blocks = [
            block[place : place + 1, :, max(cut - start, 0) :, cut:]
            for (start, stop), block in zip(blocks_of(self.width), self.blocks, strict=True)
            if stop > cut
        ]
        return ContentRows(length, blocks, self.entropy[place : place + 1, :, cut:])


def positions_are_relative(model: PreTrainedModel) -> bool:
    """Whether the model turns queries and keys (rotary) instead of adding positions to what it reads."""
    return getattr(model.config, "rope_parameters", None) is not None


def causal_blocks(pattern: Pattern, content: Bool[Tensor, "batch token"]) -> Iterator[Pattern]:
    """Causal blocks of rows, renormalised over content keys; a fresh tensor each."""
    width = content.shape[1]
    offset = pattern.shape[-1] - width
    whole = bool(content.all())
    tiny = torch.finfo(torch.float32).tiny
    for start, stop in blocks_of(width):
        rows = pattern[:, :, offset + start : offset + stop, offset : offset + stop].float()
        rows = rows if whole else rows * content[:, None, None, :stop]
        yield rows / rows.sum(dim=-1, keepdim=True).clamp(min=tiny)


def logs_of(rows: Pattern) -> Pattern:
    """Natural logarithms; 0 stands for the smallest number, whose product with 0 is 0."""
    return rows.clamp(min=torch.finfo(torch.float32).tiny).log_()


def entropy_of(rows: Float[Tensor, "... key"]) -> Float[Tensor, "..."]:
    """Entropy of each row, in nats."""
    return -logs_of(rows).mul_(rows).sum(dim=-1)
