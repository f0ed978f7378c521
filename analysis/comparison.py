"""How far a variant's inside lies from its references: reduced as its tensors appear, at content positions only.

A `Comparison` reads a variant's tensors past the references' (`analysis/drift.py`) and keeps a few numbers per
sequence, which the reducers of the metrics compute (`analysis/metrics/`). Every metric is computed within a sequence,
so neither padding nor the batch plan can change it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.attention import content_width
from analysis.drift import Reference
from analysis.metrics.metric import Measured
from analysis.metrics.registry import BASIC, measured_in
from analysis.metrics.seen import Batch, Seen, reducer_of
from probes.inputs import Inputs
from probes.sites import Kind, Site


@dataclass
class Comparison:
    """Per-sequence drift of one variant from one or more references, gathered as its tensors appear.

    Args:
        references: by name; metrics of a movement need those called `parent` and `dense`.
        inputs: what the variant reads.
        metrics: what is measured, in the order in which it is kept; the basic ones unless told.
        prepared: what each module of metrics prepared of the variant.
        prompts: which of the variant's prompts stands before each row; its first unless told.
    """

    references: Mapping[str, Reference]
    inputs: Inputs
    metrics: Sequence[Measured] = field(default_factory=lambda: measured_in((BASIC,)))
    prepared: Mapping[str, Any] = field(default_factory=dict)
    prompts: Sequence[int] = ()
    residual: dict[tuple[str, Site, str], Float[np.ndarray, "batch *part"]] = field(default_factory=dict)
    attention: dict[tuple[str, Site, str], Float[np.ndarray, "batch head"]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse references whose content is not the same tokens in the same columns."""
        width = content_width(self.inputs)
        content = self.inputs.content[:, -width:]
        self.lengths: list[int] = content.sum(dim=1).tolist()
        self.batch = Batch(self.inputs, content, self.lengths, self.prompts or [0] * len(self.lengths))
        for name, reference in self.references.items():
            if not torch.equal(reference.content, content):
                raise ValueError(f"the content of reference '{name}' is not aligned with the variant's")

    def __call__(self, site: Site, tensor: Tensor) -> None:
        """Reduce one tensor against every reference."""
        pattern = site.kind == Kind.PATTERN
        seen = tensor if pattern else tensor[:, -self.batch.content.shape[1] :]
        asked = [one for one in self.metrics if site.kind in one.sites and set(one.references) <= set(self.references)]
        found: dict[tuple[str, str], np.ndarray] = {}
        for module in dict.fromkeys(one.module for one in asked):
            names = frozenset(one.name for one in asked if one.module == module)
            prepared = self.prepared.get(module)
            view = Seen(site, seen, self.references, self.batch, names, prepared)
            found |= {(name, metric): values for name, metric, values in reducer_of(module).measure(view)}
        kept = self.attention if pattern else self.residual
        for name, metric in self._ordered(asked):
            if (name, metric) in found:
                kept[name, site, metric] = found[name, metric]

    def _ordered(self, asked: Sequence[Measured]) -> list[tuple[str, str]]:
        """References and metrics in the order in which they are kept: those of several references come last."""
        each = [(name, one.name) for name in self.references for one in asked if not one.references]
        return each + [(one.references[0], one.name) for one in asked if one.references]
