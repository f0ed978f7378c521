"""How far a variant's inside lies from a reference: streamed, at content positions only.

A `Reference` keeps what one pass of the reference model showed at the requested sites of one batch; a `Comparison`
is a reducer that reads a variant's tensors as they appear and keeps a few numbers per sequence. Every metric is
computed within a sequence, so neither padding nor the batch plan can change it.

Groups of metrics, each mean over content tokens (residual sites) or content queries (attention, per head):
    basic       cosine (1 - cos), relative_l2 (|h - h_ref| / |h_ref|); jensen_shannon, prompt_mass, first_mass
    robust      both with the reference's outlier dimensions standardised (*_standardised), spearman (1 - rank
                correlation)
    geometry    cka (1 - debiased linear CKA), procrustes
    direction   direction and, at attn_out, value_span and value_span_random: where a repair moves its parent to
    heads       kl, entropy, entropy_change
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel

from analysis.attention import ContentRows, content_width, divergences, first_mass, kept_entries, prompt_mass
from analysis.peak import give_back
from analysis.representations import (
    cosine_and_distance,
    direction,
    moving,
    procrustes,
    rank_correlation,
    ranks,
    share_in_span,
    standardise,
    unbiased_hsic,
)
from analysis.shapes import Shape
from analysis.spans import Spans
from analysis.study import MetricGroup
from data.errors import InputError
from probes.backends import Reducer
from probes.capture import Recorder
from probes.families import Heads
from probes.inputs import Inputs
from probes.sites import Kind, Site

DRIFT_KINDS = (Kind.RESID_PRE, Kind.PATTERN, Kind.ATTN_OUT, Kind.MLP_OUT, Kind.RESID_POST)
"""What drift is measured at; other kinds of site are not for it."""
CKA = "cka"
"""Kept as three HSICs per sequence: it is a ratio of means, never a mean of ratios."""
LAYERS_BETWEEN = 15
"""Layers after which memory is given back in mid-pass too: docs/benchmarks.md has what more and less often cost."""
ALWAYS_HELD = 64 * 2**20
"""Bytes that references may always take: small models are read in large batches."""
SHARE_OF_GPU = 8
"""On a GPU references may take one part in so many of its memory: its time goes into starting many small sums, and a
row at a time takes as long as four (docs/benchmarks.md)."""


@dataclass
class Reference:
    """What the reference model showed at each site, cut to the content columns of one batch."""

    content: Bool[Tensor, "batch token"]
    states: dict[Site, Float[Tensor, "batch token width"]] = field(default_factory=dict)
    rows: dict[Site, ContentRows] = field(default_factory=dict)
    _ranks: dict[Site, Tensor] = field(default_factory=dict)

    @classmethod
    def record(cls, recorder: Recorder, inputs: Inputs, sites: Sequence[Site]) -> "Reference":
        """Run the reference once on a batch; raise InputError for a kind of site that drift is not measured at."""
        if odd := [site for site in sites if site.kind not in DRIFT_KINDS]:
            raise InputError(f"drift is not measured at {odd[0]}: its kinds are {', '.join(DRIFT_KINDS)}")
        reference = cls(inputs.content[:, -content_width(inputs) :])
        stream_states(recorder, inputs, sites, reference.keeper(sites))
        return reference

    def keeper(self, sites: Sequence[Site]) -> Reducer:
        """What to hand the tensors of all of these sites to, layer after layer: it keeps what is compared with."""
        width, held = self.content.shape[1], _Held(sites)

        def keep(site: Site, tensor: Tensor) -> None:
            if site.kind == Kind.PATTERN:
                size = tensor.shape[0] * tensor.shape[1] * kept_entries(width)
                memory = held.next("patterns", size, torch.float32, tensor.device)
                self.rows[site] = ContentRows.of(tensor, self.content, memory)
                return
            seen = tensor[:, -width:]
            entering = site.kind == Kind.RESID_PRE and site.layer > 0
            before = self.states.get(Site(site.layer - 1, Kind.RESID_POST)) if entering else None
            if before is not None and torch.equal(before, seen):
                self.states[site] = before  # what leaves a block enters the next: kept once
            else:
                memory = held.next("states", seen.numel(), seen.dtype, seen.device)
                self.states[site] = memory.view(seen.shape).copy_(seen)

        return keep

    def ranks(self, site: Site) -> Tensor:
        """Ranks of the states, made once for all variants, in half the memory of the states."""
        if site not in self._ranks:
            self._ranks[site] = ranks(self.states[site])
        return self._ranks[site]

    def sequence(self, place: int, length: int) -> "Reference":
        """One sequence of the batch by itself, its padding cut off: what a batch of one is compared with."""
        cut = Reference(self.content[place : place + 1, -length:])
        cut.states = {site: one[place : place + 1, -length:] for site, one in self.states.items()}
        cut.rows = {site: rows.sequence(place, length) for site, rows in self.rows.items()}
        cut._ranks = {site: one[place : place + 1, -length:] for site, one in self._ranks.items()}
        return cut


class _Held:
    """Memory for what a reference keeps, in one piece for states and one for patterns.

    Pieces kept one by one between a pass's short-lived tensors leave holes that the allocator cannot give back: on
    SmolLM2-135M, 4 x 256 tokens, a process grew by 960 to 1,640 MB of which 284 were alive, and so by 550.
    """

    def __init__(self, sites: Sequence[Site]) -> None:
        patterns = sum(site.kind == Kind.PATTERN for site in sites)
        self.counts = {"patterns": patterns, "states": len(sites) - patterns}
        self.pieces: dict[str, Iterator[Tensor]] = {}

    def next(self, what: str, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Memory of `size` numbers for the next site; all sites of a piece are as large."""
        if what not in self.pieces:
            self.pieces[what] = iter(torch.empty(self.counts[what], size, dtype=dtype, device=device))
        return next(self.pieces[what])


def stream_states(recorder: Recorder, inputs: Inputs, sites: Sequence[Site], reducer: Reducer) -> None:
    """One pass without the language-model head; what is left free in memory goes back within it and at its end.

    Only where the pass runs on the processor: a GPU's own allocator keeps what it has.
    """
    on_processor = inputs.embeds.device.type == "cpu"
    given_back_at = 0

    def read(site: Site, tensor: Tensor) -> None:
        nonlocal given_back_at
        if on_processor and site.layer >= given_back_at + LAYERS_BETWEEN:
            give_back()
            given_back_at = site.layer
        reducer(site, tensor)

    recorder.stream(inputs, sites, read, logits_at=torch.empty(0, dtype=torch.long))
    if on_processor:
        give_back()


def held_bytes(model: PreTrainedModel, sites: Iterable[Site], length: int) -> int:
    """What a reference keeps of one row of so many tokens, in bytes: what leaves a block and enters the next once."""
    asked = set(sites)
    again = {Site(site.layer + 1, Kind.RESID_PRE) for site in asked if site.kind == Kind.RESID_POST}
    kinds = Counter(site.kind for site in asked - again)
    rows = kept_entries(length) * Heads.of(model).query
    states = length * model.config.hidden_size * model.dtype.itemsize
    return sum(count * (4 * rows if kind == Kind.PATTERN else states) for kind, count in kinds.items())


def rows_at_once(model: PreTrainedModel, sites: Iterable[Site], length: int, rows: int, references: int = 1) -> int:
    """How many of `rows` rows to compare at once: references keep no more of them than a plain pass over all takes."""
    room = max(ALWAYS_HELD, Shape.of(model).plain(rows, length))
    if model.device.type == "cuda":
        room = max(room, torch.cuda.get_device_properties(model.device).total_memory // SHARE_OF_GPU)
    return min(rows, max(1, room // (references * held_bytes(model, sites, length))))


@dataclass
class Comparison:
    """Per-sequence drift of one variant from one or more references, gathered as its tensors appear.

    The direction of drift needs references called `parent` and `dense`; it stands under `dense`. `spans` are those of
    the variant's own prompt in each row, where there are any.
    """

    references: Mapping[str, Reference]
    inputs: Inputs
    groups: Sequence[MetricGroup] = ("basic",)
    spans: Spans | None = None
    residual: dict[tuple[str, Site, str], Float[np.ndarray, "batch *part"]] = field(default_factory=dict)
    attention: dict[tuple[str, Site, str], Float[np.ndarray, "batch head"]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse references whose content is not the same tokens in the same columns."""
        width = content_width(self.inputs)
        self.content = self.inputs.content[:, -width:]
        self.lengths: list[int] = self.content.sum(dim=1).tolist()
        for name, reference in self.references.items():
            if not torch.equal(reference.content, self.content):
                raise ValueError(f"the content of reference '{name}' is not aligned with the variant's")

    def __call__(self, site: Site, tensor: Tensor) -> None:
        """Reduce one tensor against every reference."""
        if site.kind == Kind.PATTERN:
            self._compare_pattern(site, tensor)
            return
        ours = tensor[:, -self.content.shape[1] :]
        our_ranks = ranks(ours) if "robust" in self.groups else None
        for name, reference in self.references.items():
            self._compare_states(name, site, ours, reference)
            if our_ranks is not None:
                correlation = rank_correlation(our_ranks, reference.ranks(site))
                self.residual[name, site, "spearman"] = self._mean((1 - correlation).clamp(min=0))
        if "direction" in self.groups and {"parent", "dense"} <= set(self.references):
            self._compare_movement(site, ours)

    def _compare_states(self, name: str, site: Site, ours: Tensor, reference: Reference) -> None:
        theirs = reference.states[site]
        cosine, distance = cosine_and_distance(ours.float(), theirs.float())
        self.residual[name, site, "cosine"] = self._mean(cosine)
        self.residual[name, site, "relative_l2"] = self._mean(distance)
        if "robust" in self.groups:
            pairs = self._each(lambda one, other: _standardised(one, other), ours, theirs)
            self.residual[name, site, "cosine_standardised"] = pairs[:, 0]
            self.residual[name, site, "relative_l2_standardised"] = pairs[:, 1]
        if "geometry" in self.groups:
            self.residual[name, site, CKA] = self._each(lambda *two: unbiased_hsic(*two).tolist(), ours, theirs)
            self.residual[name, site, "procrustes"] = self._each(procrustes, ours, theirs)

    def _compare_movement(self, site: Site, ours: Tensor) -> None:
        parent, dense = (self.references[name].states[site] for name in ("parent", "dense"))
        self.residual["dense", site, "direction"] = self._each(direction, ours, parent, dense)
        if self.spans is None or site.kind != Kind.ATTN_OUT:
            return
        places = range(len(self.lengths))
        for metric, bases in (("value_span", self.spans.values), ("value_span_random", self.spans.random)):
            shares = [
                _share(ours[place, -length:].float(), parent[place, -length:].float(), bases[site.layer][index])
                for place, length, index in zip(places, self.lengths, self.spans.of_row, strict=True)
            ]
            self.residual["parent", site, metric] = np.array(shares)

    def _compare_pattern(self, site: Site, tensor: Tensor) -> None:
        heads = "heads" in self.groups
        stored = [reference.rows[site] for reference in self.references.values()]
        entropy, found = divergences(tensor, stored, self.content, kl=heads)
        alone = {
            "prompt_mass": self._per_head(prompt_mass(tensor, self.inputs)),
            "first_mass": self._per_head(first_mass(tensor, self.content)),
        }
        if heads:
            alone["entropy"] = self._per_head(entropy)
        for name, rows, metrics in zip(self.references, stored, found, strict=True):
            values = {metric: self._per_head(value) for metric, value in metrics.items()} | alone
            if heads:
                values["entropy_change"] = self._per_head(entropy - rows.entropy / np.log(2))
            for metric, value in values.items():
                self.attention[name, site, metric] = value

    def _mean(self, values: Float[Tensor, "batch token *head"]) -> np.ndarray:
        """Mean over content tokens of each sequence."""
        weight = self.content.to(values.dtype)
        weight = weight / weight.sum(dim=1, keepdim=True)
        return torch.einsum("bt,bt...->b...", weight, values).cpu().numpy()

    def _per_head(self, values: Float[Tensor, "batch head query"]) -> np.ndarray:
        return self._mean(values.transpose(1, 2))

    def _each(self, measure: Callable, *states: Float[Tensor, "batch token width"]) -> np.ndarray:
        """A measure of each sequence by itself, its padding cut off."""
        return np.array(
            [measure(*(one[place, -length:].float() for one in states)) for place, length in enumerate(self.lengths)]
        )


def _standardised(ours: Float[Tensor, "token width"], theirs: Float[Tensor, "token width"]) -> tuple[float, float]:
    cosine, distance = cosine_and_distance(*standardise(ours, theirs))
    return float(cosine.mean()), float(distance.mean())


def _share(
    ours: Float[Tensor, "token width"], parent: Float[Tensor, "token width"], basis: Float[Tensor, "width size"]
) -> float:
    moved = ours - parent
    return share_in_span(moved[moving(moved, parent)], basis)
