"""One prompt for all: the best on tune facts. What a choice must beat to be worth making."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probes.selection.base import Selection, required
from probes.specs.selectors import Cost


class FixedSelector:
    """One prompt for every row."""

    cost: Cost = "none"

    def __init__(self, prompts: int, kept: int) -> None:
        self._prompts, self.kept = prompts, kept

    @classmethod
    def best(cls, log_probs: Float[np.ndarray, "fact prompt"]) -> "FixedSelector":
        """The prompt with the largest mean log-probability of the right answer over tune facts."""
        return cls(log_probs.shape[1], int(log_probs.mean(axis=0).argmax()))

    def scores(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch prompt"]:
        """One for the prompt that is kept, zero for the others."""
        scores = torch.zeros(len(rows), self._prompts)
        scores[:, self.kept] = 1.0
        return scores


SELECTION = Selection(lambda kind, found, people: FixedSelector.best(required(kind, found.tune).log_probs))
