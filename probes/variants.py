"""A variant: the dense model, a compressed copy, or either with a repair; one form for all of them.

`VariantSpec` says what a variant is (hashable, so it is a key); `Variant` is the thing itself: a model, a
tokenizer, and the prompt or bank of prompts before every content. `inputs` builds what any use of it reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data.errors import InputError
from probes.idp import PromptBank
from probes.inputs import Inputs, build_inputs, longest_content
from probes.prompts import SoftPrompt

DIFFERENCE_FLOOR = 1e-6
"""Logits of a variant and its parent that nowhere differ by more are the same model twice."""


@dataclass(frozen=True)
class Choice:
    """IDP's decision for a batch."""

    kept: Int[Tensor, " batch"]
    scores: Float[Tensor, "batch prompt"]


@dataclass
class Variant:
    """A model ready to be asked; weights may be shared with its parent."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    prompt: SoftPrompt | None = None
    bank: PromptBank | None = None

    def __post_init__(self) -> None:
        """Refuse two prompts at once."""
        if self.prompt is not None and self.bank is not None:
            raise ValueError(f"{self.name} has a prompt and a bank: it can have one")

    def choose(self, rows: Sequence[Sequence[int]]) -> Choice | None:
        """IDP's choice for each row, from these tokens alone; None for every other variant."""
        if self.bank is None:
            return None
        scores = self.bank.scores(rows)
        return Choice(scores.argmax(dim=1), scores)

    def inputs(self, rows: Sequence[Sequence[int]], choice: Choice | None = None) -> Inputs:
        """Inputs for these rows behind the variant's prompt, or behind the prompts already chosen."""
        if self.bank is not None:
            choice = choice or self.choose(rows)
            assert choice is not None
            prompts = [self.bank.prompts[int(index)] for index in choice.kept]
            return build_inputs(self.model, rows, prompts, content_start=self.bank.longest)
        if self.prompt is not None:
            return build_inputs(self.model, rows, [self.prompt] * len(rows))
        return build_inputs(self.model, rows)

    @torch.no_grad()
    def logits(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch vocabulary"]:
        """Logits after the last token of each row."""
        inputs = self.inputs(rows)
        return self.model(**inputs.forward_arguments(), use_cache=False, logits_to_keep=1).logits[:, -1]

    @torch.no_grad()
    def generate(self, row: Sequence[int], new_tokens: int) -> list[int]:
        """Greedy continuation of one row; IDP chooses once, from the row.

        Raises:
            InputError: when row and continuation are longer than the model's positions.
        """
        inputs = self.inputs([row])
        # The last token said is never read.
        last = int(inputs.position_ids.max()) + new_tokens - 1
        if last >= longest_content(self.model):
            raise InputError(
                f"{len(row)} tokens and {new_tokens} new ones pass the model's {longest_content(self.model)} "
                "positions: shorten the text or ask for fewer"
            )
        output = self.model(**inputs.forward_arguments(), use_cache=True, logits_to_keep=1)
        mask, position = inputs.attention_mask, inputs.position_ids[:, -1:]
        said: list[int] = []
        for _ in range(new_tokens):
            token = output.logits[:, -1:].argmax(dim=-1)
            said.append(int(token))
            if len(said) == new_tokens:
                break
            mask = torch.cat([mask, torch.ones_like(token)], dim=1)
            position = position + 1
            output = self.model(
                inputs_embeds=self.model.get_input_embeddings()(token),
                attention_mask=mask,
                position_ids=position,
                past_key_values=output.past_key_values,
                use_cache=True,
            )
        return said


def require_difference(variant: Variant, parent: Variant, rows: Sequence[Sequence[int]]) -> float:
    """Largest difference of logits between a variant and its parent.

    Raises:
        RuntimeError: when there is none, so that a comparison would be of a model with itself.
    """
    difference = float((variant.logits(rows) - parent.logits(rows)).abs().max())
    if not difference > DIFFERENCE_FLOOR:
        raise RuntimeError(
            f"'{variant.name}' does not differ from its parent '{parent.name}' (largest logit difference "
            f"{difference:.1e}): the repair or compression did nothing"
        )
    return difference
