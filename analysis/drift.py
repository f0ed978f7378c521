"""How far a variant's inside lies from a reference: streamed, at content positions only.

A `Reference` keeps what one pass of the reference model showed at the requested sites of one batch; a `Comparison`
is a reducer that reads a variant's tensors as they appear and keeps two or three numbers per sequence.

Residual sites, mean over content tokens:
    cosine        1 - cos(h, h_ref): 0 where directions agree
    relative_l2   |h - h_ref| / |h_ref|
Attention, mean over content queries, per head:
    jensen_shannon   divergence in bits between the two rows, renormalised over content keys: 0 to 1
    prompt_mass      share of the variant's row on the prompt
    first_mass       share of the variant's row on the first content token
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from probes.capture import Recorder
from probes.inputs import Inputs
from probes.sites import Kind, Site

RESIDUAL_METRICS = ("cosine", "relative_l2")
ATTENTION_METRICS = ("jensen_shannon", "prompt_mass", "first_mass")


def _content_length(inputs: Inputs) -> int:
    """Columns that hold the longest content; content ends in the last column of every variant's batch."""
    return int(inputs.content.sum(dim=1).max())


@dataclass
class Reference:
    """What the reference model showed at each site, cut to the content columns of one batch."""

    content: Bool[Tensor, "batch token"]
    states: dict[Site, Tensor] = field(default_factory=dict)

    @classmethod
    def record(cls, recorder: Recorder, inputs: Inputs, sites: Sequence[Site]) -> "Reference":
        """Run the reference once on a batch."""
        width = _content_length(inputs)
        reference = cls(inputs.content[:, -width:])

        def keep(site: Site, tensor: Tensor) -> None:
            if site.kind == Kind.PATTERN:
                reference.states[site] = _over_content(tensor, inputs)[0]
            else:
                reference.states[site] = tensor[:, -width:].clone()

        recorder.stream(inputs, sites, keep, logits_at=torch.empty(0, dtype=torch.long))
        return reference

    def sequence(self, place: int, length: int) -> "Reference":
        """One sequence of the batch by itself, its padding cut off: what a batch of one is compared with."""
        cut = Reference(self.content[place : place + 1, -length:])
        for site, tensor in self.states.items():
            one = tensor[place : place + 1]
            cut.states[site] = one[..., -length:, -length:] if site.kind == Kind.PATTERN else one[:, -length:]
        return cut


@dataclass
class Comparison:
    """Per-sequence drift of one variant from one or more references, gathered as its tensors appear."""

    references: dict[str, Reference]
    inputs: Inputs
    residual: dict[tuple[str, Site, str], Float[np.ndarray, " batch"]] = field(default_factory=dict)
    attention: dict[tuple[str, Site, str], Float[np.ndarray, "batch head"]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse references whose content is not the same tokens in the same columns."""
        width = _content_length(self.inputs)
        for name, reference in self.references.items():
            if not torch.equal(reference.content, self.inputs.content[:, -width:]):
                raise ValueError(f"the content of reference '{name}' is not aligned with the variant's")

    def __call__(self, site: Site, tensor: Tensor) -> None:
        """Reduce one tensor against every reference."""
        if site.kind == Kind.PATTERN:
            self._compare_pattern(site, tensor)
        else:
            for name, reference in self.references.items():
                self._compare_states(name, site, tensor, reference)

    def _compare_states(self, name: str, site: Site, tensor: Tensor, reference: Reference) -> None:
        ours = tensor[:, -reference.content.shape[1] :].float()
        theirs = reference.states[site].float()
        cosine = 1 - torch.nn.functional.cosine_similarity(ours, theirs, dim=-1)
        distance = (ours - theirs).norm(dim=-1) / theirs.norm(dim=-1).clamp(min=torch.finfo(torch.float32).tiny)
        self.residual[name, site, "cosine"] = _mean(cosine, reference.content)
        self.residual[name, site, "relative_l2"] = _mean(distance, reference.content)

    def _compare_pattern(self, site: Site, tensor: Tensor) -> None:
        ours, on_prompt = _over_content(tensor, self.inputs)
        content = next(iter(self.references.values())).content
        first = content.float().argmax(dim=1)
        width = content.shape[1]
        raw = tensor[:, :, -width:, -width:].float()
        on_first = raw.gather(3, first[:, None, None, None].expand(*raw.shape[:3], 1))[..., 0]
        for name, reference in self.references.items():
            values = {
                "jensen_shannon": jensen_shannon(ours, reference.states[site]),
                "prompt_mass": on_prompt,
                "first_mass": on_first,
            }
            for metric, value in values.items():
                self.attention[name, site, metric] = _mean(value.transpose(1, 2), content)


def _over_content(
    pattern: Float[Tensor, "batch head query key"], inputs: Inputs
) -> tuple[Float[Tensor, "batch head query key"], Float[Tensor, "batch head query"]]:
    """Rows of content queries renormalised over content keys, and the share that went to the prompt."""
    width = _content_length(inputs)
    rows = pattern[:, :, -width:].float()
    prompt = inputs.attention_mask.bool() & ~inputs.content
    on_prompt = (rows * prompt[:, None, None]).sum(dim=-1)
    content = rows[..., -width:] * inputs.content[:, None, None, -width:]
    return content / content.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny), on_prompt


def jensen_shannon(first: Float[Tensor, "... key"], second: Float[Tensor, "... key"]) -> Float[Tensor, "..."]:
    """Jensen-Shannon divergence of two distributions in bits, in [0, 1]."""
    middle = (first + second) / 2
    halves = torch.xlogy(first, first / middle) + torch.xlogy(second, second / middle)
    return halves.nan_to_num(0.0).sum(dim=-1).clamp(min=0) / (2 * np.log(2))


def _mean(values: Float[Tensor, "batch token *head"], content: Bool[Tensor, "batch token"]) -> np.ndarray:
    """Mean over content tokens of each sequence."""
    weight = content.to(values.dtype)
    weight = weight / weight.sum(dim=1, keepdim=True)
    return torch.einsum("bt,bt...->b...", weight, values).cpu().numpy()
