"""What every prompt of a bank makes of the same items: computed once, looked up by every selector."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data.facts import Item
from probes.idp import PromptBank
from probes.prompts import SoftPrompt
from probes.scoring import Score, score
from probes.selection.fixed import FixedSelector
from probes.tokens import encode_questions
from probes.variants import Variant


@dataclass(frozen=True)
class Outcomes:
    """Scores of the same items behind each prompt of a bank."""

    items: tuple[Item, ...]
    rows: list[list[int]]
    """Tokens of each question."""
    singles: list[list[Score]]
    """By prompt, then by item."""
    members: list[Variant]
    """The variants that gave them: the bank with one prompt kept whatever is asked."""

    @property
    def log_probs(self) -> Float[np.ndarray, "item prompt"]:
        """Log-probability of the right answer over the vocabulary, nats."""
        return np.array([[one.log_prob for one in single] for single in self.singles]).T

    @property
    def correct(self) -> Bool[np.ndarray, "item prompt"]:
        """Whether the right answer is the best of its fixed candidates."""
        return np.array([[one.predicted == one.item.fact.answer for one in single] for single in self.singles]).T

    @property
    def said(self) -> Int[np.ndarray, "item prompt"]:
        """Place of the best candidate in its list."""
        return np.array([[int(np.argmax(one.log_probs)) for one in single] for single in self.singles]).T


def outcomes(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[SoftPrompt],
    items: Sequence[Item],
    *,
    batch: int = 64,
) -> Outcomes:
    """Score items behind each prompt, content starting where the longest one ends, as under any choice."""
    members = [
        Variant(f"prompt {kept}", model, tokenizer, bank=PromptBank(model, prompts, FixedSelector(len(prompts), kept)))
        for kept in range(len(prompts))
    ]
    rows = encode_questions(tokenizer, [item.question for item in items])
    return Outcomes(tuple(items), rows, [score(one, items, batch=batch) for one in members], members)
