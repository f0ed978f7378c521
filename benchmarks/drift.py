"""What comparing costs: residual and attention drift of five variants, in units of running the six models at all.

1. Plain: one eager forward pass each of the reference and of five variants, language-model head included.
2. Streamed: the reference recorded, then every variant past it, all kinds of drift site at every layer, no head.
3. Peers: the same numbers from what `run_with_cache` (names filter, TransformerLens) and nnsight's saved tensors keep;
   they are checked to be the same.
4. Scaling: rows, variants and batches doubled or more, each against the streamed comparison itself.

Bridges are made before, as a study makes them once for all its batches. Memory is what the process holds at most
beyond what it held before (benchmarks/measure.py); the weights are there before.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from nnsight import save
from torch import Tensor

from analysis.drift import DRIFT_KINDS, Comparison, Reference
from analysis.timing import Work, time_ratio, times
from benchmarks.measure import Ratio, costs_of, peak_bytes
from benchmarks.models import Bench, rows_of
from probes.backends import BridgeBackend, NnsightBackend, arguments
from probes.capture import Recorder
from probes.inputs import Inputs
from probes.sites import Site, sites_of
from probes.variants import Variant

BATCH = 4
LENGTHS = (256, 1024)
TIME_TARGET, MEMORY_TARGET = 1.25, 1.5
LINEAR = 1.15
"""Twice the rows may cost this much more than twice the time."""
AGREEMENT = 2e-3
"""The peers' numbers may differ by rounding, which another order of the rotary and the mask brings."""
Rows = list[list[int]]
Numbers = dict[tuple[int, str, str, str], np.ndarray]


@dataclass
class _Setting:
    """The dense reference, five variants of a compressed copy, and everything made once for them."""

    dense: Variant
    variants: list[Variant]
    sites: tuple[Site, ...]
    _recorders: dict[tuple[str, int], Recorder] = field(default_factory=dict)

    @classmethod
    def open(cls) -> "_Setting":
        bench = Bench.open()
        dense = Variant("dense", bench.model, bench.tokenizer)
        setting = cls(dense, list(bench.variants().values()), sites_of(bench.model, DRIFT_KINDS))
        for variant in (dense, *setting.variants):
            setting.recorder(variant, "transformer_lens")
            setting.recorder(variant, "hooks")
            setting.recorder(variant, "nnsight")
        return setting

    def recorder(self, variant: Variant, backend: str) -> Recorder:
        key = (backend, id(variant.model))
        if key not in self._recorders:
            self._recorders[key] = Recorder(variant.model, backend=backend)
        return self._recorders[key]


def drift_ratios(rounds: int) -> dict[str, Ratio]:
    """Time and memory of the streamed comparison and of its peers, at two lengths, and how they grow."""
    setting = _Setting.open()
    short, long = (rows_of(BATCH, length) for length in LENGTHS)
    _require_same(setting, short)
    found = _against_plain(setting, short, rounds)
    # Sixteen times the attention: each piece of work is done once, and timed and weighed together.
    return found | _against_plain(setting, long, None) | _scaling(setting, max(1, rounds // 2))


def _against_plain(setting: _Setting, rows: Rows, rounds: int | None) -> dict[str, Ratio]:
    works: dict[str, Callable[[], object]] = {
        "plain": lambda: _plain(setting, rows),
        "streamed": lambda: _streamed(setting, rows, setting.variants, "transformer_lens"),
        "streamed_hooks": lambda: _streamed(setting, rows, setting.variants, "hooks"),
        "streamed_nnsight": lambda: _streamed(setting, rows, setting.variants, "nnsight"),
        "run_with_cache": lambda: _compared(setting, rows, _cached),
        "nnsight_saved": lambda: _compared(setting, rows, _saved),
    }
    taken, peaks = costs_of(works, rounds)
    one = peak_bytes(lambda: _forward(setting.dense, rows))
    length = len(rows[0])
    shape = f"{BATCH} x {length} tokens"
    found = {}
    for name in list(works)[1:]:
        own = name == "streamed"
        found[f"drift_{name}_time_{length}"] = Ratio(
            time_ratio(taken, name, "plain"), TIME_TARGET if own else None, "time ratio", f"6 plain passes, {shape}"
        )
        found[f"drift_{name}_memory_{length}"] = Ratio(
            peaks[name] / one, MEMORY_TARGET if own else None, "memory ratio", f"one plain pass, {shape}"
        )
    return found


def _scaling(setting: _Setting, rounds: int) -> dict[str, Ratio]:
    rows = rows_of(BATCH, LENGTHS[0])
    twice = rows_of(2 * BATCH, LENGTHS[0])
    works: dict[str, Work] = {
        "base": lambda: _streamed(setting, rows, setting.variants, "transformer_lens"),
        "rows": lambda: _streamed(setting, twice, setting.variants, "transformer_lens"),
        "variants": lambda: _streamed(setting, rows, setting.variants * 2, "transformer_lens"),
    }
    taken = times(works, rounds=rounds)

    def batches(count: int) -> Work:
        return lambda: [_streamed(setting, rows, setting.variants, "transformer_lens") for _ in range(count)]

    flat = peak_bytes(batches(3)) / peak_bytes(batches(1))
    base = f"the streamed comparison at {BATCH} x {LENGTHS[0]}"
    return {
        "drift_twice_the_rows": Ratio(time_ratio(taken, "rows", "base"), 2 * LINEAR, "time ratio", base),
        "drift_twice_the_variants": Ratio(time_ratio(taken, "variants", "base"), 2 * LINEAR, "time ratio", base),
        "drift_three_batches_memory": Ratio(flat, LINEAR, "memory ratio", base),
    }


@torch.no_grad()
def _forward(variant: Variant, rows: Rows) -> None:
    variant.model(**variant.inputs(rows).forward_arguments(), use_cache=False)


def _plain(setting: _Setting, rows: Rows) -> None:
    for variant in (setting.dense, *setting.variants):
        _forward(variant, rows)


def _streamed(setting: _Setting, rows: Rows, variants: list[Variant], backend: str) -> Numbers:
    """What a study does for a batch."""
    dense = setting.dense
    reference = Reference.record(setting.recorder(dense, backend), dense.inputs(rows), setting.sites)
    numbers: Numbers = {}
    for place, variant in enumerate(variants):
        comparison = Comparison({"dense": reference}, variant.inputs(rows))
        recorder = setting.recorder(variant, backend)
        recorder.stream(comparison.inputs, setting.sites, comparison, logits_at=torch.empty(0, dtype=torch.long))
        numbers |= _numbers(place, comparison)
    return numbers


Held = Mapping[Site, Tensor]


def _compared(setting: _Setting, rows: Rows, hold: Callable[[_Setting, Variant, Inputs], Held]) -> Numbers:
    """The same comparison from tensors that were all kept first, the reference's as long as it is needed."""
    inputs = setting.dense.inputs(rows)
    theirs = hold(setting, setting.dense, inputs)
    reference = Reference.record(_Replay(theirs), inputs, setting.sites)  # type: ignore[arg-type]
    del theirs
    numbers: Numbers = {}
    for place, variant in enumerate(setting.variants):
        comparison = Comparison({"dense": reference}, variant.inputs(rows))
        ours = hold(setting, variant, comparison.inputs)
        for site in setting.sites:
            comparison(site, ours[site])
        numbers |= _numbers(place, comparison)
    return numbers


@dataclass(frozen=True)
class _Replay:
    """Kept tensors, handed out as a recorder hands them out."""

    held: Held

    def stream(self, inputs: Inputs, sites: tuple[Site, ...], reducer: Callable, *, logits_at: Tensor) -> None:
        for site in sites:
            reducer(site, self.held[site])


@torch.no_grad()
def _cached(setting: _Setting, variant: Variant, inputs: Inputs) -> Held:
    backend = setting.recorder(variant, "transformer_lens")._backend
    assert isinstance(backend, BridgeBackend)
    names = {f"blocks.{site.layer}.{site.kind.hook}": site for site in setting.sites}
    _, cache = backend.bridge.run_with_cache(
        inputs.embeds, names_filter=lambda name: name in names, **arguments(inputs)
    )
    return {site: cache[name] for name, site in names.items()}


@torch.no_grad()
def _saved(setting: _Setting, variant: Variant, inputs: Inputs) -> Held:
    backend = setting.recorder(variant, "nnsight")._backend
    assert isinstance(backend, NnsightBackend)
    held: dict[Site, Tensor] = {}
    with backend.traced.trace(inputs_embeds=inputs.embeds, **arguments(inputs)):
        for site in setting.sites:
            held[site] = save(backend.value(site))
    return held


def _numbers(place: int, comparison: Comparison) -> Numbers:
    both = comparison.residual | comparison.attention
    return {(place, str(site), metric, name): values for (name, site, metric), values in both.items()}


def _require_same(setting: _Setting, rows: Rows) -> None:
    """Refuse to time peers that compute something else.

    Raises:
        RuntimeError: a peer's number differs from the streamed one.
    """
    ours = _streamed(setting, rows, setting.variants, "transformer_lens")
    for name, theirs in _peers(setting, rows):
        for key, values in ours.items():
            gap = float(np.abs(values - theirs[key]).max())
            if not gap <= AGREEMENT:
                raise RuntimeError(f"{name} differs at {key} by {gap:.1e}: it is not the same comparison")


def _peers(setting: _Setting, rows: Rows) -> Iterator[tuple[str, Numbers]]:
    for backend in ("hooks", "nnsight"):
        yield backend, _streamed(setting, rows, setting.variants, backend)
    yield "run_with_cache", _compared(setting, rows, _cached)
    yield "nnsight saved", _compared(setting, rows, _saved)
