"""What comparing costs: residual and attention drift of five variants, in units of running the six models at all.

1. Plain: one eager forward pass each of the reference and of five variants, language-model head included.
2. Streamed: the reference recorded, then every variant past it, all kinds of drift site at every layer, no head.
3. Peers: the same numbers from what `run_with_cache` (names filter, TransformerLens) and nnsight's saved tensors keep;
   they are checked to be the same.
4. Scaling: rows, variants and batches doubled or more, each against the streamed comparison itself.

Bridges are made before, as a study makes them once for all its batches. Memory is what a process holds at most beyond
what it held before (benchmarks/measure.py), weights, bridges and a pass over a few tokens being there before; the
streamed comparison reads as many of the rows at once as a study would, everything else all four.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from nnsight import save
from torch import Tensor
from tqdm import tqdm

from analysis.comparison import Comparison
from analysis.drift import DRIFT_KINDS, Reference, rows_at_once, stream_states
from analysis.timing import Work, time_ratio, times
from benchmarks.measure import Ratio, peak_alone, peak_bytes
from benchmarks.models import Bench, rows_of
from probes.backends import BACKENDS, BridgeBackend, NnsightBackend, arguments
from probes.capture import Recorder
from probes.inputs import Inputs
from probes.sites import Site, sites_of
from probes.variants import Variant

BATCH = 4
LENGTHS = (256, 1024)
TIME_TARGET, MEMORY_TARGET = 1.25, 1.5
ONE_PASS = "one plain pass"
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
    def open(cls, backends: Iterable[str] = BACKENDS) -> "_Setting":
        bench = Bench.open()
        dense = Variant("dense", bench.model, bench.tokenizer)
        setting = cls(dense, list(bench.variants().values()), sites_of(bench.model, DRIFT_KINDS))
        for variant in (dense, *setting.variants):
            for backend in backends:
                setting.recorder(variant, backend)
        return setting

    def recorder(self, variant: Variant, backend: str) -> Recorder:
        key = (backend, id(variant.model))
        if key not in self._recorders:
            self._recorders[key] = Recorder(variant.model, backend=backend)
        return self._recorders[key]


def drift_ratios(rounds: int) -> dict[str, Ratio]:
    """Time of the streamed comparison and of its peers, at two lengths, and how it grows."""
    setting = _Setting.open()
    _require_same(setting, rows_of(BATCH, LENGTHS[0]))
    found: dict[str, Ratio] = {}
    for length in LENGTHS:
        # The longer rows have sixteen times the attention, and everything has run before: one round, none unseen.
        first = length == LENGTHS[0]
        taken = times(_works(setting, rows_of(BATCH, length)), rounds=rounds if first else 1, unseen=int(first))
        found |= _against_plain(taken, length)
    return found | _scaling(setting, max(1, rounds // 2))


def _works(setting: _Setting, rows: Rows) -> dict[str, Work]:
    return {
        "plain": lambda: _plain(setting, rows),
        "streamed": lambda: _streamed(setting, rows, setting.variants, "transformer_lens"),
        "streamed_hooks": lambda: _streamed(setting, rows, setting.variants, "hooks"),
        "streamed_nnsight": lambda: _streamed(setting, rows, setting.variants, "nnsight"),
        "run_with_cache": lambda: _compared(setting, rows, _cached),
        "nnsight_saved": lambda: _compared(setting, rows, _saved),
    }


BACKEND_OF = {
    "streamed": "transformer_lens",
    "streamed_hooks": "hooks",
    "streamed_nnsight": "nnsight",
    "run_with_cache": "transformer_lens",
    "nnsight_saved": "nnsight",
}


def _against_plain(taken: Mapping[str, list[float]], length: int) -> dict[str, Ratio]:
    return {
        f"drift_{name}_time_{length}": Ratio(
            time_ratio(taken, name, "plain"),
            TIME_TARGET if name == "streamed" else None,
            "time ratio",
            f"6 plain passes, {BATCH} x {length} tokens, {len(taken[name])} round(s)",
        )
        for name in BACKEND_OF
    }


def memory_ratios(rounds: int) -> dict[str, Ratio]:
    """Peak memory of each, once, in a process of its own: what ran before leaves memory that the next fills unseen."""
    found = {}
    for length in LENGTHS:
        one = peak_alone(peak_of, ONE_PASS, length)
        for name in tqdm(BACKEND_OF, desc=f"memory at {length}", leave=False):
            target = MEMORY_TARGET if (name, length) == ("streamed", LENGTHS[0]) else None
            found[f"drift_{name}_memory_{length}"] = Ratio(
                peak_alone(peak_of, name, length) / one,
                target,
                "memory ratio",
                f"one plain pass, {BATCH} x {length} tokens, {one / 1e6:.0f} MB",
            )
    flat = peak_alone(peak_of, "streamed", LENGTHS[0], 3) / peak_alone(peak_of, "streamed", LENGTHS[0])
    base = f"the streamed comparison at {BATCH} x {LENGTHS[0]}"
    return found | {"drift_three_batches_memory": Ratio(flat, LINEAR, "memory ratio", base)}


def peak_of(name: str, length: int, batches: int = 1) -> int:
    """Bytes that one piece of work takes at most, after the same on a few tokens."""
    setting = _Setting.open([BACKEND_OF[name]] if name in BACKEND_OF else [])

    def work(rows: Rows) -> Work:
        return (lambda: _forward(setting.dense, rows)) if name == ONE_PASS else _works(setting, rows)[name]

    work(rows_of(BATCH, 16))()
    whole = work(rows_of(BATCH, length))
    return peak_bytes(lambda: [whole() for _ in range(batches)])


def _scaling(setting: _Setting, rounds: int) -> dict[str, Ratio]:
    rows, twice = rows_of(BATCH, LENGTHS[0]), rows_of(2 * BATCH, LENGTHS[0])
    works: dict[str, Work] = {
        "base": lambda: _streamed(setting, rows, setting.variants, "transformer_lens"),
        "rows": lambda: _streamed(setting, twice, setting.variants, "transformer_lens"),
        "variants": lambda: _streamed(setting, rows, setting.variants * 2, "transformer_lens"),
    }
    taken = times(works, rounds=rounds)
    base = f"the streamed comparison at {BATCH} x {LENGTHS[0]}"
    return {
        "drift_twice_the_rows": Ratio(time_ratio(taken, "rows", "base"), 2 * LINEAR, "time ratio", base),
        "drift_twice_the_variants": Ratio(time_ratio(taken, "variants", "base"), 2 * LINEAR, "time ratio", base),
    }


@torch.no_grad()
def _forward(variant: Variant, rows: Rows) -> None:
    variant.model(**variant.inputs(rows).forward_arguments(), use_cache=False)


def _plain(setting: _Setting, rows: Rows) -> None:
    for variant in (setting.dense, *setting.variants):
        _forward(variant, rows)


def _streamed(setting: _Setting, rows: Rows, variants: list[Variant], backend: str) -> Numbers:
    """What a study does for a batch: as many rows at once as what is kept of them stays below a plain pass."""
    size = rows_at_once(setting.dense.model, setting.sites, len(rows[0]), len(rows))
    parts = [
        _compared_rows(setting, rows[first : first + size], variants, backend) for first in range(0, len(rows), size)
    ]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _compared_rows(setting: _Setting, rows: Rows, variants: list[Variant], backend: str) -> Numbers:
    dense = setting.dense
    reference = Reference.record(setting.recorder(dense, backend), dense.inputs(rows), setting.sites)
    numbers: Numbers = {}
    for place, variant in enumerate(variants):
        comparison = Comparison({"dense": reference}, variant.inputs(rows))
        stream_states(setting.recorder(variant, backend), comparison.inputs, setting.sites, comparison)
        numbers |= _numbers(place, comparison)
    return numbers


Held = Mapping[Site, Tensor]


def _compared(setting: _Setting, rows: Rows, hold: Callable[[_Setting, Variant, Inputs], Held]) -> Numbers:
    """The same comparison from tensors that were all kept first, the reference's as long as it is needed."""
    inputs = setting.dense.inputs(rows)
    theirs = hold(setting, setting.dense, inputs)
    reference = Reference(inputs.content)
    keep = reference.keeper(setting.sites)
    for site in setting.sites:
        keep(site, theirs[site])
    del theirs
    numbers: Numbers = {}
    for place, variant in enumerate(setting.variants):
        comparison = Comparison({"dense": reference}, variant.inputs(rows))
        ours = hold(setting, variant, comparison.inputs)
        for site in setting.sites:
            comparison(site, ours[site])
        numbers |= _numbers(place, comparison)
    return numbers


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
