"""Compare every variant of one parent with the parent and with dense, in one reference pass per batch.

1. Gate: each model's capture must agree with Hugging Face and with the plain-hook referee, or the run stops.
2. Per batch: run dense and the parent once, keep their content columns; stream every variant past them.
3. Floor: dense against itself, one sequence at a time against the batch.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.drift import Comparison, Reference
from analysis.opening import dense, facts_of, open_variant, parent_model, spec_of
from analysis.statistics import column_means
from analysis.study import Drift
from data.text import load_text
from probes.capture import Recorder
from probes.inputs import encode
from probes.sites import Kind, Site, sites_of
from probes.specs import VariantSpec
from probes.tuning import encode_blocks
from probes.variants import Variant

FLOOR = "dense, one by one"
PARITY_ROWS = 2

Rows = list[list[int]]


class _Recorders:
    """One gated recorder per model: variants that share a model share it."""

    def __init__(self, backend: str, sites: tuple[Site, ...], rows: Rows) -> None:
        self.backend, self.sites, self.rows = backend, sites, rows
        self._held: dict[int, tuple[Recorder, float]] = {}

    def of(self, variant: Variant) -> Recorder:
        """The recorder of a variant's model, after its parity gate."""
        return self._gated(variant)[0]

    def parity(self, variant: Variant) -> float:
        """Largest absolute difference of logits and sites from Hugging Face's."""
        return self._gated(variant)[1]

    def _gated(self, variant: Variant) -> tuple[Recorder, float]:
        if id(variant.model) not in self._held:
            recorder = Recorder(variant.model, backend=self.backend)
            found = recorder.parity(variant.inputs(self.rows), self.sites).require()
            worst = max(found.max_abs_logits, *found.max_abs.values())
            self._held[id(variant.model)] = (recorder, worst)
        return self._held[id(variant.model)]


def work(fields: dict[str, Any], needs: dict[str, Path], folder: Path) -> None:
    """Write the drift and attention tables and the parity that licenses them."""
    settings = Drift(**fields["drift"])
    specs = [spec_of(stored) for stored in fields["variants"]]
    opened = dense(fields)
    reference = Variant("dense", opened.model, opened.tokenizer)
    variants = {spec.identity: open_variant(fields, spec, _of(needs, place)) for place, spec in enumerate(specs)}
    parent = _parent(fields, specs, needs)
    sites = sites_of(opened.model, [kind.value for kind in Kind])
    batches = _batches(fields, settings)
    recorders = _Recorders(settings.backend, sites, batches["questions"][0][:PARITY_ROWS])
    gathered = _Gathered()
    for group, rows_of_batches in batches.items():
        for rows in rows_of_batches:
            _measure(group, rows, reference, parent, variants, recorders, sites, gathered)
    residual, attention = gathered.tables()
    residual.to_parquet(folder / "drift.parquet", index=False)
    attention.to_parquet(folder / "attention.parquet", index=False)
    parity = {identity: recorders.parity(variant) for identity, variant in variants.items()}
    (folder / "parity.json").write_text(json.dumps(parity, indent=1) + "\n")


def _of(needs: dict[str, Path], place: int) -> dict[str, Path]:
    """The parts of one of the cell's variants."""
    prefix = f"{place}."
    return {role.removeprefix(prefix): path for role, path in needs.items() if role.startswith(prefix)}


def _parent(fields: dict[str, Any], specs: list[VariantSpec], needs: dict[str, Path]) -> Variant | None:
    """The compressed copy that the cell is about, or None where that is dense itself."""
    if specs[0].compression is None:
        return None
    opened = parent_model(fields, _of(needs, 0))
    return Variant(specs[0].name, opened.model, opened.tokenizer)


def _batches(fields: dict[str, Any], settings: Drift) -> dict[str, list[Rows]]:
    """Test questions in the measuring phrasing, evenly over the facts, and windows of held-out text."""
    facts = facts_of(fields)
    chosen = facts.select(fields["groups"], "test")
    picked = [chosen[place] for place in np.linspace(0, len(chosen) - 1, settings.questions).astype(int)]
    tokenizer = dense(fields).tokenizer
    questions = [encode(tokenizer, item.question) for item in facts.items(picked, "measure")]
    # Held-out text is only measured, never read by a repair: it may state test facts.
    text = load_text(fields["text"], "heldout")
    windows = encode_blocks(tokenizer, text.paragraphs, settings.length)[: settings.windows]
    size = settings.batch
    return {
        name: [rows[first : first + size] for first in range(0, len(rows), size)]
        for name, rows in (("questions", sorted(questions, key=len)), ("text", windows))
    }


def _measure(
    group: str,
    rows: Rows,
    reference: Variant,
    parent: Variant | None,
    variants: dict[str, Variant],
    recorders: _Recorders,
    sites: tuple[Site, ...],
    gathered: "_Gathered",
) -> None:
    """One batch: the references once, every variant past them, and the floor."""
    references = {"dense": Reference.record(recorders.of(reference), reference.inputs(rows), sites)}
    if parent is not None:
        references["parent"] = Reference.record(recorders.of(parent), parent.inputs(rows), sites)
    for identity, variant in variants.items():
        inputs = variant.inputs(rows)
        comparison = Comparison(references, inputs)
        recorders.of(variant).stream(inputs, sites, comparison, logits_at=_no_logits())
        gathered.add(identity, group, comparison, sum(map(len, rows)))
    for place, row in enumerate(rows):
        inputs = reference.inputs([row])
        alone = Comparison({"dense": references["dense"].sequence(place, len(row))}, inputs)
        recorders.of(reference).stream(inputs, sites, alone, logits_at=_no_logits())
        gathered.add(FLOOR, group, alone, len(row))


def _no_logits() -> Tensor:
    return torch.empty(0, dtype=torch.long)


class _Gathered:
    """Per-sequence numbers of all batches, frozen into tables with intervals and floors."""

    def __init__(self) -> None:
        self.residual: dict[tuple[str, str, str, Site, str], list[np.ndarray]] = defaultdict(list)
        self.attention: dict[tuple[str, str, str, Site, str], list[np.ndarray]] = defaultdict(list)
        self.tokens: dict[tuple[str, str], int] = defaultdict(int)

    def add(self, identity: str, group: str, comparison: Comparison, tokens: int) -> None:
        """Append one batch of one variant."""
        self.tokens[identity, group] += tokens
        for held, found in (
            (self.residual, comparison.residual),
            (self.attention, comparison.attention),
        ):
            for (reference, site, metric), values in found.items():
                held[identity, group, reference, site, metric].append(values)

    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The drift table, and the attention table with a row per head."""
        return self._table(self.residual), self._table(self.attention)

    def _table(self, held: dict[tuple[str, str, str, Site, str], list[np.ndarray]]) -> pd.DataFrame:
        keys = list(held)
        stacked = {key: np.concatenate(values) for key, values in held.items()}
        floors = {
            (group, site, metric): stacked[FLOOR, group, "dense", site, metric].mean(axis=0)
            for identity, group, _, site, metric in keys
            if identity == FLOOR
        }
        rows = []
        for key in keys:
            identity, group, reference, site, metric = key
            if identity == FLOOR:
                continue
            columns = stacked[key].reshape(len(stacked[key]), -1)
            value, lower, upper = column_means(columns, seed=0)
            floor = np.atleast_1d(floors[group, site, metric])
            for head in range(columns.shape[1]):
                row: dict[str, Any] = {
                    "variant_id": identity,
                    "reference": reference,
                    "group": group,
                    "layer": site.layer,
                    "site": site.kind.value,
                    "metric": metric,
                    "value": value[head],
                    "lower": lower[head],
                    "upper": upper[head],
                    "floor": floor[head],
                    "tokens": self.tokens[identity, group],
                }
                if site.kind == Kind.PATTERN:
                    row["head"] = head
                rows.append(row)
        return pd.DataFrame(rows)
