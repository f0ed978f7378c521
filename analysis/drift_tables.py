"""Per-sequence drift of all batches, frozen into tidy tables: a mean, its interval over sequences, and its floor."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.comparison import Comparison
from analysis.intervals import bootstrap_means, interval_of
from analysis.metrics.metric import Measured
from analysis.metrics.seen import reducer_of
from probes.sites import Kind, Site

BATCH_PLAN = "batch_plan"
COLUMNS = ("reference", "group", "layer", "site", "metric", "value", "lower", "upper", "tokens")

Key = tuple[str, str, Site, str]
"""Group of texts, reference, site, metric."""


@dataclass(frozen=True)
class _Frozen:
    """One metric at one site: a number per head, or a single one."""

    value: Float[np.ndarray, " head"]
    lower: Float[np.ndarray, " head"]
    upper: Float[np.ndarray, " head"]
    tokens: int


class Gathered:
    """Numbers of all batches by whose they are: a variant's identity, or the name of a floor."""

    def __init__(self, metrics: Sequence[Measured]) -> None:
        self._finishes = {one.name: finish for one in metrics if (finish := reducer_of(one.module).finish)}
        self._held: dict[str, dict[Key, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
        self._lengths: dict[tuple[str, str], list[int]] = defaultdict(list)

    def add(self, owner: str, group: str, comparison: Comparison) -> None:
        """Append one batch."""
        self._lengths[owner, group] += comparison.lengths
        for found in (comparison.residual, comparison.attention):
            for (reference, site, metric), values in found.items():
                self._held[owner][group, reference, site, metric].append(values)

    def tables(self, owners: Collection[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The drift table and the attention table, which has a row per head, each number beside its batch-plan floor.

        The floor is NaN where none can be: a direction needs a parent, and the floor is dense against itself.
        """
        floors = {(group, site, metric): one.value for (group, _, site, metric), one in self._frozen(BATCH_PLAN)}
        rows: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
        for owner in owners:
            for key, one in self._frozen(owner):
                group, _, site, metric = key
                floor = floors.get((group, site, metric), np.full(len(one.value), np.nan))
                for row in _rows(key, one):
                    row |= {"variant_id": owner, "floor": float(floor[max(row["head"], 0)])}
                    rows[site.kind == Kind.PATTERN].append(row)
        drift = pd.DataFrame(rows[0], columns=["variant_id", *COLUMNS[:-1], "floor", "tokens"])
        return drift, pd.DataFrame(rows[1], columns=[*drift.columns, "head"])

    def floors(self, names: Collection[str], models: dict[str, str]) -> pd.DataFrame:
        """A row per floor and number; `models` says whose noise a reference's is, by identity."""
        rows = [
            row | {"floor": name, "variant_id": models[key[1]]}
            for name in names
            for key, one in self._frozen(name)
            for row in _rows(key, one)
        ]
        return pd.DataFrame(rows, columns=["variant_id", "floor", *COLUMNS[:4], "head", *COLUMNS[4:]])

    def _frozen(self, owner: str) -> Iterator[tuple[Key, _Frozen]]:
        """Means over sequences with intervals; sequences without a value do not count, nor do metrics without any."""
        stacked = {key: np.concatenate(parts) for key, parts in self._held[owner].items()}
        frozen: dict[Key, _Frozen] = {}
        for (group, kept), keys in _alike(stacked).items():
            lengths, present = np.array(self._lengths[owner, group]), np.array(kept)
            if not present.any():
                continue
            tables = [stacked[key][present].reshape(present.sum(), -1) for key in keys]
            values = np.concatenate(tables, axis=1)
            draws = bootstrap_means(values, seed=0)
            ends = np.cumsum([table.shape[1] for table in tables])
            for key, end, table in zip(keys, ends, tables, strict=True):
                part = slice(end - table.shape[1], end)
                means, drawn = values[:, part].mean(axis=0)[None], draws[:, part]
                if finish := self._finishes.get(key[3]):
                    means, drawn = finish(means), finish(drawn)
                if np.isfinite(means).all():
                    frozen[key] = _Frozen(means[0], *interval_of(drawn), int(lengths[present].sum()))
        yield from ((key, frozen[key]) for key in stacked if key in frozen)


def _alike(stacked: dict[Key, np.ndarray]) -> dict[tuple[str, tuple[bool, ...]], list[Key]]:
    """Metrics of one group of texts that the same sequences have: they share their bootstrap draws."""
    found: dict[tuple[str, tuple[bool, ...]], list[Key]] = defaultdict(list)
    for key, values in stacked.items():
        present = ~np.isnan(values.reshape(len(values), -1)).any(axis=1)
        found[key[0], tuple(present)].append(key)
    return found


def _rows(key: Key, one: _Frozen) -> Iterator[dict[str, Any]]:
    """A row per head; -1 stands for a site that has none."""
    group, reference, site, metric = key
    for head, (value, lower, upper) in enumerate(zip(one.value, one.lower, one.upper, strict=True)):
        yield {
            "reference": reference,
            "group": group,
            "layer": site.layer,
            "site": site.kind.value,
            "metric": metric,
            "value": float(value),  # whatever precision a metric was measured in
            "lower": float(lower),
            "upper": float(upper),
            "tokens": one.tokens,
            "head": head if site.kind == Kind.PATTERN else -1,
        }
