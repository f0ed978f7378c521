"""IDP, inference-time dynamic prompting (arXiv 2310.00867, section 3.2): a bank of prompts, one kept per input.

1. Put all m prompts of the bank side by side before the content, blind to each other, each ending where the
   content starts.
2. Read how much attention the content pays to each prompt.
3. Keep the prompt with the largest mean attention, mask the others, run the model.

The paper leaves open over which layers, heads and queries the mean runs. Here it runs over all heads of the first
layer and all content queries and is normalised by the prompt's length; those are fields of `Selector`. With the
first layer alone the choice costs one block and the prompts' keys are constants.
What would count against IDP: choices no better than drawn ones, or a bank no better than its best single prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from probes.families import family_of
from probes.inputs import Inputs, build_inputs
from probes.prompts import SoftPrompt
from probes.sharing import share_weights


@dataclass(frozen=True)
class Selector:
    """The paper's choice by attention, with what it leaves open made explicit."""

    layers: Literal["first", "all"] = "first"
    queries: Literal["all", "last"] = "all"
    """Which content positions' attention is averaged."""
    per_token: bool = True
    """Divide by the prompt's length, so that a long prompt has no head start."""


def joint_inputs(
    model: PreTrainedModel, rows: Sequence[Sequence[int]], bank: Sequence[SoftPrompt]
) -> tuple[Inputs, Float[Tensor, "batch 1 query key"]]:
    """Inputs with the whole bank before each row, and the additive mask that keeps its prompts blind to each other.

    Every prompt is right-aligned: its last vector stands one position before the content.
    """
    longest = max(prompt.shape[0] for prompt in bank)
    side_by_side = torch.cat(list(bank))
    inputs = build_inputs(model, rows, [side_by_side] * len(rows), content_start=side_by_side.shape[0])
    owner = _owner(inputs, [prompt.shape[0] for prompt in bank])
    positions = inputs.position_ids.clone()
    within = torch.cat([torch.arange(longest - prompt.shape[0], longest) for prompt in bank]).to(positions)
    for index in range(len(rows)):
        positions[index, owner[index] >= 0] = within
        content = inputs.content[index]
        positions[index, content] = torch.arange(longest, longest + int(content.sum())).to(positions)
    seen = inputs.attention_mask.bool()
    width = seen.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=seen.device).tril()
    same = (owner[:, :, None] == owner[:, None, :]) | (inputs.content[:, :, None])
    allowed = causal & same & seen[:, None, :]
    # A padded query sees itself alone, so that no row of the softmax is empty.
    allowed |= torch.eye(width, dtype=torch.bool, device=seen.device)
    least = torch.finfo(inputs.embeds.dtype).min
    mask = torch.zeros(allowed.shape, dtype=inputs.embeds.dtype, device=seen.device)
    mask = mask.masked_fill(~allowed, least)
    return Inputs(inputs.embeds, inputs.attention_mask, positions, inputs.content), mask[:, None]


def _owner(inputs: Inputs, lengths: Sequence[int]) -> Int[Tensor, "batch position"]:
    """Which prompt each position belongs to: its index, -1 for content, -2 for padding."""
    owner = torch.full_like(inputs.attention_mask, -2)
    owner[inputs.content] = -1
    marks = torch.cat([torch.full((length,), index) for index, length in enumerate(lengths)]).to(owner)
    for row in range(owner.shape[0]):
        owner[row, inputs.attention_mask[row].bool() & ~inputs.content[row]] = marks
    return owner


class PromptBank:
    """A bank of prompts over one model, and the choice among them."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[SoftPrompt], selector: Selector) -> None:
        self.prompts = list(prompts)
        self.selector = selector
        self._model = model
        self._scorer = _first_layer(model) if selector.layers == "first" else model.base_model

    @property
    def longest(self) -> int:
        """Length of the longest prompt: where content starts, whichever prompt is chosen."""
        return max(prompt.shape[0] for prompt in self.prompts)

    @torch.no_grad()
    def scores(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch prompt"]:
        """Mean attention from content to each prompt (share of a row of the pattern, per prompt token)."""
        inputs, mask = joint_inputs(self._model, rows, self.prompts)
        output = self._scorer(
            inputs_embeds=inputs.embeds,
            attention_mask=mask,
            position_ids=inputs.position_ids,
            output_attentions=True,
            use_cache=False,
        )
        if not output.attentions or any(pattern is None for pattern in output.attentions):
            raise RuntimeError("the model returned no attention pattern: IDP needs eager attention")
        pattern = torch.stack([layer.mean(dim=1) for layer in output.attentions]).mean(dim=0)
        queries = inputs.content.clone()
        if self.selector.queries == "last":
            queries[:, :-1] = False
        weight = queries / queries.sum(dim=1, keepdim=True)
        received = torch.einsum("bq,bqk->bk", weight.to(pattern.dtype), pattern)
        owner = _owner(inputs, [prompt.shape[0] for prompt in self.prompts])
        mass = [(received * (owner == index)).sum(dim=1) for index in range(len(self.prompts))]
        lengths = [prompt.shape[0] if self.selector.per_token else 1 for prompt in self.prompts]
        return torch.stack([one / length for one, length in zip(mass, lengths, strict=True)], dim=1)

    def choose(self, rows: Sequence[Sequence[int]]) -> Int[Tensor, " batch"]:
        """The prompt kept for each row."""
        return self.scores(rows).argmax(dim=1)


def _first_layer(model: PreTrainedModel) -> nn.Module:
    """The model's body cut after its first block, sharing its weights: all that the choice needs."""
    cut = share_weights(model)
    blocks = family_of(cut).blocks_of(cut)
    del blocks[1:]
    cut.config.num_hidden_layers = 1
    return cut.base_model
