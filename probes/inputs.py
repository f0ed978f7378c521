"""The one place where a variant's inputs are built: `[pad][prompt][content]`, for every use there is.

Rows are padded on the left, so that content ends in one column. Positions are explicit: content starts at the
same position in every row, right after the (longest) prompt, whatever the padding; OPT's and GPT-2's learned
positions therefore see what a single unpadded row would show them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from data.errors import InputError


@dataclass(frozen=True)
class Inputs:
    """A batch ready for a forward pass from embeddings."""

    embeds: Float[Tensor, "batch position width"]
    attention_mask: Int[Tensor, "batch position"]
    position_ids: Int[Tensor, "batch position"]
    content: Bool[Tensor, "batch position"]

    def forward_arguments(self) -> dict[str, Tensor]:
        """Keyword arguments of a Hugging Face model."""
        return {
            "inputs_embeds": self.embeds,
            "attention_mask": self.attention_mask,
            "position_ids": self.position_ids,
        }


Prompts = Sequence[Float[Tensor, "length width"]]


def longest_content(model: PreTrainedModel, prompt_length: int = 0) -> int:
    """How many content tokens the model's positions leave beside a prompt.

    Where the rotary table depends on the longest row of a batch (longrope), only the positions up to which it is the
    short one count: past them a row would be read differently beside a longer one, and behind cached keys.
    """
    longest = int(model.config.max_position_embeddings)
    for settings in rotary_settings(model.config):
        if settings.get("rope_type") == "longrope":
            longest = min(longest, int(settings["original_max_position_embeddings"]))
    return longest - prompt_length


def spoken_positions(model: PreTrainedModel) -> str:
    """A model's positions as a sentence has them."""
    longest = longest_content(model)
    past = " (past them a longrope model reads a row by the longest beside it)"
    return f"{longest} positions{past if longest < model.config.max_position_embeddings else ''}"


def rotary_settings(config: PretrainedConfig) -> list[dict[str, Any]]:
    """The settings of a model's rotary tables: one for all layers, one for each type of layer, or none."""
    told = getattr(config, "rope_parameters", None) or {}
    return [one for one in told.values() if isinstance(one, dict)] or [told]


def build_inputs(
    model: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    prompts: Prompts | None = None,
    *,
    content_start: int | None = None,
) -> Inputs:
    """Embed token rows behind their prompts, pad on the left, number the positions.

    Args:
        model: whose embeddings are used.
        rows: token ids of each row's content, none empty.
        prompts: one per row (of whatever lengths), or None.
        content_start: position of the first content token; the longest prompt's length unless told.

    Raises:
        InputError: an empty row, or one longer than the model's positions.
    """
    device: torch.device = model.device
    held = prompts if prompts is not None else [None] * len(rows)
    if len(held) != len(rows):
        raise ValueError(f"{len(held)} prompts for {len(rows)} rows")
    lengths = [0 if prompt is None else prompt.shape[0] for prompt in held]
    start = max(lengths, default=0) if content_start is None else content_start
    _check_rows(model, rows, lengths, start)
    embedded = _embedded(model, rows)
    width = max(length + len(row) for length, row in zip(lengths, rows, strict=True))
    pieces = []
    mask = torch.zeros(len(rows), width, dtype=torch.long, device=device)
    positions = torch.zeros(len(rows), width, dtype=torch.long, device=device)
    content = torch.zeros(len(rows), width, dtype=torch.bool, device=device)
    for index, (row, prompt) in enumerate(zip(embedded, held, strict=True)):
        behind = row if prompt is None else torch.cat([prompt.to(row.dtype), row])
        used = behind.shape[0]
        pieces.append(torch.nn.functional.pad(behind, (0, 0, width - used, 0)))
        mask[index, width - used :] = 1
        content[index, width - len(row) :] = True
        first = start - lengths[index]
        positions[index, width - used :] = torch.arange(first, first + used, device=device)
    return Inputs(torch.stack(pieces), mask, positions, content)


def _embedded(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> tuple[Float[Tensor, "token width"], ...]:
    """Each row's embeddings, looked up all at once."""
    tokens = torch.tensor([token for row in rows for token in row], dtype=torch.long, device=model.device)
    table: Any = model.get_input_embeddings()
    if len(tokens) and int(tokens.max()) >= table.num_embeddings:
        raise InputError(
            f"a text holds token {int(tokens.max())} and the model's embedding has {table.num_embeddings} rows: its "
            "tokenizer is another model's, or has words that the model was not given"
        )
    found: Tensor = table(tokens)
    return found.split([len(row) for row in rows])


def _check_rows(model: PreTrainedModel, rows: Sequence[Sequence[int]], lengths: Sequence[int], start: int) -> None:
    """Refuse what would be read wrongly without a word."""
    if not rows or any(len(row) == 0 for row in rows):
        raise InputError("a text has no tokens: every row needs at least one")
    if start < max(lengths):
        raise ValueError(f"content cannot start at {start}, inside a prompt of {max(lengths)}")
    longest = max(len(row) for row in rows)
    if longest > longest_content(model, start):
        raise InputError(
            f"a text of {longest} tokens behind a prompt of {start} is longer than the model's "
            f"{spoken_positions(model)}: shorten the text or the prompt"
        )
