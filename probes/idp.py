"""IDP, inference-time dynamic prompting (arXiv 2310.00867): a bank of prompts over one model, one kept per input.

Which one is kept says a selector (`probes/selection`); the paper's is the one by attention.
What would count against IDP: choices no better than drawn ones, or a bank no better than its best single prompt.
"""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from data.errors import InputError
from probes.inputs import longest_content
from probes.prompts import SoftPrompt, check_widths
from probes.selection.attention import AttentionSelector, Selector
from probes.selection.base import PromptSelector


class PromptBank:
    """A bank of prompts over one model, and the choice among them."""

    def __init__(
        self, model: PreTrainedModel, prompts: Sequence[SoftPrompt], selector: Selector | PromptSelector
    ) -> None:
        self.prompts = list(prompts)
        self._device = model.device
        check_bank(model, self.prompts)
        self.selector: PromptSelector = (
            AttentionSelector(model, self.prompts, selector) if isinstance(selector, Selector) else selector
        )
        self.longest = max(prompt.shape[0] for prompt in self.prompts)
        """Length of the longest prompt: where content starts, whichever prompt is chosen."""

    @torch.no_grad()
    def scores(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch prompt"]:
        """What the selector gives each prompt for each row."""
        return self.selector.scores(rows).to(self._device)

    def choose(self, rows: Sequence[Sequence[int]]) -> Int[Tensor, " batch"]:
        """The prompt kept for each row; of equal scores the first."""
        return self.scores(rows).argmax(dim=1)


def check_bank(model: PreTrainedModel, prompts: Sequence[SoftPrompt]) -> None:
    """Refuse prompts that do not go together or do not fit the model.

    Raises:
        InputError: no prompt, widths that differ from each other or from the model's, or a prompt that leaves no
            place for content.
    """
    check_widths(prompts)
    width, wanted = prompts[0].shape[1], cast(nn.Embedding, model.get_input_embeddings()).weight.shape[1]
    if width != wanted:
        raise InputError(f"the bank's prompts are {width} wide and the model's embeddings {wanted}: it is another's")
    for place, prompt in enumerate(prompts):
        if longest_content(model, prompt.shape[0]) < 1:
            raise InputError(
                f"prompt {place} of the bank has {prompt.shape[0]} tokens and the model "
                f"{longest_content(model)} positions: give a shorter one"
            )
