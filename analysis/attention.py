"""How a head's rows part from the reference's: over content keys, in bits, one block of queries at a time.

A causal pattern is half zeros: a block of queries is read with the keys up to its last query alone, which halves
what a reference keeps and what is computed, and keeps every temporary small.

    jensen_shannon   divergence of the two rows, renormalised over content keys: 0 to 1
    kl               Kullback-Leibler divergence of the variant's row from the reference's, renormalised likewise:
                     bits lost by taking one for the other; a key that the variant rounds to 0 counts as 2^-126
    entropy          of the variant's renormalised row; entropy_change is it less the reference's
    prompt_mass      share of the variant's row on the prompt, before renormalising
    first_mass       share of the variant's row on the first content token, before renormalising
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log

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
        for rows in _blocks(pattern, content):
            entropies.append(_entropy(rows))
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


def divergences(
    pattern: Pattern, references: list[ContentRows], content: Bool[Tensor, "batch token"], *, kl: bool
) -> tuple[PerQuery, list[dict[str, PerQuery]]]:
    """The variant's entropy in bits and, for each reference, Jensen-Shannon and, if asked, KL in bits."""
    entropies: list[PerQuery] = []
    found: list[list[dict[str, PerQuery]]] = [[] for _ in references]
    for place, ours in enumerate(_blocks(pattern, content)):
        logs = _logs(ours)
        entropy = -(logs * ours).sum(dim=-1)
        entropies.append(entropy)
        for reference, parts in zip(references, found, strict=True):
            theirs = reference.blocks[place]
            start, stop = blocks_of(reference.width)[place]
            known = reference.entropy[:, :, start:stop]
            mixture = _entropy((ours + theirs).mul_(0.5))
            part = {"jensen_shannon": (mixture - (entropy + known) / 2).clamp_(min=0)}
            if kl:
                part["kl"] = (-(logs * theirs).sum(dim=-1) - known).clamp_(min=0)
            parts.append(part)
    return _joined(entropies), [
        {metric: _joined([part[metric] for part in parts]) for metric in parts[0]} for parts in found
    ]


def prompt_mass(pattern: Pattern, inputs: Inputs) -> PerQuery:
    """Share of each content query's row on the prompt."""
    width = content_width(inputs)
    prompt = inputs.attention_mask.bool() & ~inputs.content
    columns = prompt.any(dim=0).nonzero().flatten()
    if not len(columns):
        return pattern.new_zeros((*pattern.shape[:2], width), dtype=torch.float32)
    first, last = int(columns[0]), int(columns[-1]) + 1
    return (pattern[:, :, -width:, first:last].float() * prompt[:, None, None, first:last]).sum(dim=-1)


def first_mass(pattern: Pattern, content: Bool[Tensor, "batch token"]) -> PerQuery:
    """Share of each content query's row on the first content token."""
    width = content.shape[1]
    first = content.float().argmax(dim=1)
    rows = pattern[:, :, -width:, -width:]
    return rows.gather(3, first[:, None, None, None].expand(*rows.shape[:3], 1))[..., 0].float()


def jensen_shannon(first: Float[Tensor, "... key"], second: Float[Tensor, "... key"]) -> Float[Tensor, "..."]:
    """Jensen-Shannon divergence of two distributions in bits, in [0, 1]: entropy of the mixture less the mean one."""
    mixture = _entropy((first + second).mul_(0.5))
    return (mixture - (_entropy(first) + _entropy(second)) / 2).clamp(min=0) / log(2)


def positions_are_relative(model: PreTrainedModel) -> bool:
    """Whether the model turns queries and keys (rotary) instead of adding positions to what it reads."""
    return getattr(model.config, "rope_parameters", None) is not None


def _blocks(pattern: Pattern, content: Bool[Tensor, "batch token"]) -> Iterator[Pattern]:
    """Causal blocks of rows, renormalised over content keys; a fresh tensor each."""
    width = content.shape[1]
    offset = pattern.shape[-1] - width
    whole = bool(content.all())
    tiny = torch.finfo(torch.float32).tiny
    for start, stop in blocks_of(width):
        rows = pattern[:, :, offset + start : offset + stop, offset : offset + stop].float()
        rows = rows if whole else rows * content[:, None, None, :stop]
        yield rows / rows.sum(dim=-1, keepdim=True).clamp(min=tiny)


def _logs(rows: Pattern) -> Pattern:
    """Natural logarithms; 0 stands for the smallest number, whose product with 0 is 0."""
    return rows.clamp(min=torch.finfo(torch.float32).tiny).log_()


def _entropy(rows: Float[Tensor, "... key"]) -> Float[Tensor, "..."]:
    """In nats."""
    return -_logs(rows).mul_(rows).sum(dim=-1)


def _joined(blocks: list[PerQuery]) -> PerQuery:
    """Blocks come last first; nats become bits."""
    return torch.cat(blocks[::-1], dim=2).div_(log(2))
