"""The prompt whose key is nearest to the question's mean input embedding: its own mean vector, unless told."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from probes.prompts import SoftPrompt
from probes.selection.base import Selection
from probes.specs.selectors import Cost


class KeySelector:
    """The prompt whose key is nearest to the row's mean input embedding."""

    cost: Cost = "none"

    def __init__(
        self,
        model: PreTrainedModel,
        keys: Float[Tensor, "prompt width"],
        distance: Literal["cosine", "euclidean"] = "cosine",
    ) -> None:
        self._model, self._keys, self._distance = model, keys.float(), distance

    @classmethod
    def of_prompts(cls, model: PreTrainedModel, prompts: Sequence[SoftPrompt]) -> "KeySelector":
        """Each prompt's own mean vector is its key."""
        return cls(model, torch.stack([prompt.float().mean(dim=0) for prompt in prompts]))

    def scores(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch prompt"]:
        """Cosine, or minus the Euclidean distance."""
        means = mean_embeddings(self._model, rows)
        if self._distance == "euclidean":
            return -torch.cdist(means, self._keys)
        return nn.functional.cosine_similarity(means[:, None], self._keys[None], dim=2)


def mean_embeddings(model: PreTrainedModel, rows: Sequence[Sequence[int]]) -> Float[Tensor, "row width"]:
    """Mean input embedding of each row, in fp32."""
    table = model.get_input_embeddings()
    means = [table(torch.tensor(list(row), device=model.device)).float().mean(dim=0) for row in rows]
    return torch.stack(means).detach()


SELECTION = Selection(lambda kind, found, people: KeySelector.of_prompts(found.model, found.prompts))
