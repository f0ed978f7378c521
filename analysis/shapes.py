"""What of a model's shape decides how much memory a pass takes."""

from dataclasses import dataclass
from typing import Self

import torch
from transformers import PreTrainedModel

from probes.families import family_of
from probes.models import DTYPES


@dataclass(frozen=True)
class Shape:
    """What of a model's shape decides how much memory it takes."""

    parameters: int
    layers: int
    width: int
    inner: int
    """Between the two layers of an MLP."""
    heads: int
    vocabulary: int
    number: int
    """Bytes of one number."""

    @classmethod
    def of(cls, model: PreTrainedModel, dtype: str | None = None) -> Self:
        """Read the shape off a model, which may have no weights; its numbers are of its own dtype unless told."""
        config, family = model.config, family_of(model)
        # Read off the layer that runs last in a block: families have several words for it, and GPT-2 need not say it.
        last = family.module_of(model, 0, family.linears[-1]).get_parameter("weight")
        return cls(
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            layers=config.num_hidden_layers,
            width=config.hidden_size,
            inner=last.shape[0 if family.conv1d else 1],
            heads=config.num_attention_heads,
            vocabulary=config.vocab_size,
            number=torch.finfo(model.dtype if dtype is None else DTYPES[dtype]).bits // 8,
        )

    @property
    def weights(self) -> int:
        """Bytes of the weights."""
        return self.parameters * self.number

    def plain(self, rows: int, length: int) -> int:
        """Bytes of what a plain pass holds at once: the logits of all positions, and one layer."""
        return self.number * rows * length * self.vocabulary + self.layer(rows, length)

    def layer(self, rows: int, length: int) -> int:
        """Bytes of what one layer holds at once while it runs: states, inner states, three patterns."""
        tokens = rows * length
        return self.number * tokens * (8 * self.width + 3 * self.inner + 3 * self.heads * length)
