"""What a reference model shows at the requested sites of one batch: streamed, at content positions only.

A `Reference` keeps what one pass of the reference model showed; every variant's tensors are read past it as they
appear (`analysis/comparison.py`), and reduced to a few numbers per sequence (`analysis/metrics/`).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel

from analysis.attention import ContentRows, content_width, kept_entries
from analysis.peak import give_back
from analysis.shapes import Shape
from data.errors import InputError
from probes.backends import Reducer
from probes.capture import Recorder
from probes.families import Heads
from probes.inputs import Inputs
from probes.sites import Kind, Site

DRIFT_KINDS = (Kind.RESID_PRE, Kind.PATTERN, Kind.ATTN_OUT, Kind.MLP_OUT, Kind.RESID_POST)
"""What drift is measured at; other kinds of site are not for it."""
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
    _made: dict[tuple[str, Site], Tensor] = field(default_factory=dict)

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

    def once(self, name: str, site: Site, make: Callable[[Tensor], Tensor]) -> Tensor:
        """What a metric makes of the states of a site, token by token: made once for all variants.

        Args:
            name: what is made; equal names are made alike.
            site: whose states it is made of.
            make: keeps the axes batch and token.
        """
        if (name, site) not in self._made:
            self._made[name, site] = make(self.states[site])
        return self._made[name, site]

    def sequence(self, place: int, length: int) -> "Reference":
        """One sequence of the batch by itself, its padding cut off: what a batch of one is compared with."""
        cut = Reference(self.content[place : place + 1, -length:])
        cut.states = {site: one[place : place + 1, -length:] for site, one in self.states.items()}
        cut.rows = {site: rows.sequence(place, length) for site, rows in self.rows.items()}
        cut._made = {made: one[place : place + 1, -length:] for made, one in self._made.items()}
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
