"""What a reducer of a metric is handed, one site of one batch at a time, and what it gives back."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from analysis.drift import Reference
from probes.inputs import Inputs
from probes.sites import Site
from probes.variants import Variant

Found = Iterable[tuple[str, str, Float[np.ndarray, "batch *part"]]]
"""Reference, metric, and a number per sequence (and head) of it."""


@dataclass(frozen=True)
class Batch:
    """One batch of a variant, the same at every site."""

    inputs: Inputs
    content: Bool[Tensor, "batch token"]
    """Which of the content's columns hold content: shorter sequences are padded at their start."""
    lengths: list[int]
    prompts: Sequence[int]
    """Which of the variant's prompts stands before each row."""


@dataclass(frozen=True)
class Seen:
    """What a variant shows at one site of one batch, and what references showed there."""

    site: Site
    tensor: Tensor
    """States cut to the content's columns; of a pattern every query and key, the prompt's too."""
    references: Mapping[str, Reference]
    batch: Batch
    asked: frozenset[str]
    """Metrics wanted, of those that the reducer computes."""
    prepared: Any = None
    """What the reducer prepared of the variant; None where it prepares nothing, or could not."""

    def mean(self, values: Float[Tensor, "batch token *head"]) -> Float[np.ndarray, "batch *head"]:
        """Mean over content tokens of each sequence."""
        weight = self.batch.content.to(values.dtype)
        weight = weight / weight.sum(dim=1, keepdim=True)
        return torch.einsum("bt,bt...->b...", weight, values).cpu().numpy()

    def per_head(self, values: Float[Tensor, "batch head query"]) -> Float[np.ndarray, "batch head"]:
        """Mean over content queries of each sequence and head."""
        return self.mean(values.transpose(1, 2))

    def each(
        self, measure: Callable[..., Any], *states: Float[Tensor, "batch token width"]
    ) -> Float[np.ndarray, "batch *part"]:
        """A measure of each sequence by itself in float32, its padding cut off."""
        lengths = enumerate(self.batch.lengths)
        return np.array([measure(*(one[place, -length:].float() for one in states)) for place, length in lengths])


@dataclass(frozen=True)
class Reducer:
    """How the metrics of one module are computed."""

    measure: Callable[[Seen], Found]
    """Numbers at one site; what is found at no sequence is left out, or NaN."""
    prepare: Callable[[Variant], Any] | None = None
    """Made once of each variant, for every batch; None of a variant that has nothing to prepare."""
    finish: Callable[[Float[np.ndarray, "draw part"]], Float[np.ndarray, "draw 1"]] | None = None
    """Of the mean over sequences of several parts the number that is stored: for a ratio of means."""


def reducer_of(module: str) -> Reducer:
    """The reducer of a module, by its name: no list of modules stands beside the list of metrics."""
    found = import_module(module).REDUCER
    if not isinstance(found, Reducer):
        raise TypeError(f"{module}: its REDUCER is no Reducer")
    return found
