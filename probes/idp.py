"""IDP, inference-time dynamic prompting (arXiv 2310.00867, section 3.2): a bank of prompts, one kept per input.

1. All m prompts of the bank stand side by side before the content, blind to each other, each ending where the
   content starts: so their keys and values are constants (`probes/prefix.py`).
2. Read how much attention the content pays to each prompt.
3. Keep the prompt with the largest mean attention, mask the others, run the model.

The paper leaves open over which layers, heads and queries the mean runs. Here it runs over all heads of the first
layer and all content queries and is normalised by the prompt's length; those are fields of `Selector`. With the
first layer alone the choice costs one block and the prompts' keys are constants.
What would count against IDP: choices no better than drawn ones, or a bank no better than its best single prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from probes.families import family_of
from probes.inputs import Inputs, build_inputs
from probes.prefix import Prefixes
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


class PromptBank:
    """A bank of prompts over one model, and the choice among them."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[SoftPrompt], selector: Selector) -> None:
        self.prompts = list(prompts)
        self.selector = selector
        self.longest = max(prompt.shape[0] for prompt in self.prompts)
        """Length of the longest prompt: where content starts, whichever prompt is chosen."""
        self._model = _first_layer(model) if selector.layers == "first" else model

    @cached_property
    def _prefixes(self) -> Prefixes:
        """The keys and values of the whole bank, in the layers that are looked at."""
        return Prefixes(self._model, self.prompts)

    @torch.no_grad()
    def scores(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch prompt"]:
        """Mean attention from content to each prompt (share of a row of the pattern, per prompt token).

        The content alone is read: it looks at the keys of all prompts, which are constants.
        """
        inputs = build_inputs(self._model, rows, content_start=self.longest)
        cache, seen = self._prefixes.side_by_side(len(rows))
        output = self._model.base_model(
            inputs_embeds=inputs.embeds,
            attention_mask=_content_mask(inputs, seen),
            position_ids=inputs.position_ids,
            past_key_values=cache,
            output_attentions=True,
        )
        if not output.attentions or any(pattern is None for pattern in output.attentions):
            raise RuntimeError("the model returned no attention pattern: IDP needs eager attention")
        pattern = torch.stack([layer.mean(dim=1) for layer in output.attentions]).mean(dim=0)
        queries = inputs.content.clone()
        if self.selector.queries == "last":
            queries[:, :-1] = False
        weight = queries / queries.sum(dim=1, keepdim=True)
        received = torch.einsum("bq,bqk->bk", weight.to(pattern.dtype), pattern[:, :, : len(seen)])
        mass = received.unflatten(1, (len(self.prompts), self.longest)).sum(dim=2)
        if not self.selector.per_token:
            return mass
        return mass / torch.tensor([prompt.shape[0] for prompt in self.prompts]).to(mass)

    def choose(self, rows: Sequence[Sequence[int]]) -> Int[Tensor, " batch"]:
        """The prompt kept for each row."""
        return self.scores(rows).argmax(dim=1)


def _content_mask(inputs: Inputs, seen: Bool[Tensor, " prompt*slot"]) -> Float[Tensor, "batch 1 query key"]:
    """The additive mask of content behind a whole bank: every prompt is seen, and the content before."""
    content = inputs.content
    causal = torch.ones(content.shape[1], content.shape[1], dtype=torch.bool, device=content.device).tril()
    among = causal & content[:, None, :]
    allowed = torch.cat([seen.expand(*among.shape[:2], -1), among], dim=2)
    mask = torch.zeros(allowed.shape, dtype=inputs.embeds.dtype, device=content.device)
    return mask.masked_fill(~allowed, torch.finfo(mask.dtype).min)[:, None]


def _first_layer(model: PreTrainedModel) -> PreTrainedModel:
    """The model cut after its first block, sharing its weights: all that the choice needs."""
    cut = share_weights(model)
    blocks = family_of(cut).blocks_of(cut)
    del blocks[1:]
    cut.config.num_hidden_layers = 1
    return cut
