"""Compare every variant of one parent with the parent and with dense, in one reference pass per batch.

1. Gate: each model's capture must agree with Hugging Face and with the plain-hook referee, or the run stops.
2. Per batch: run dense and the parent once, keep their content columns; stream every variant past them. A batch has
   as many rows as the study says, fewer where what is kept of them would outgrow a plain pass.
3. Floors: dense against itself, a sequence by itself against the same among others; and the doubles asked for.
4. Gate: where positions are relative, a prompt leaves the first layer's attention among content keys as it was.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis.attention import positions_are_relative
from analysis.comparison import Comparison
from analysis.drift import DRIFT_KINDS, Reference, rows_at_once, stream_states
from analysis.drift_tables import BATCH_PLAN, Gathered
from analysis.floors import OPENED, doubles_of
from analysis.inside_items import evenly
from analysis.metrics.metric import Measured
from analysis.metrics.seen import reducer_of
from analysis.opening import dense, facts_of, open_variant, parent_model, parts_of
from analysis.study import Drift
from data.text import text_as_planned
from probes.capture import TOLERANCE, Recorder
from probes.inputs import Inputs
from probes.sites import Kind, Site, sites_of
from probes.specs.variants import VariantSpec, spec_of
from probes.tokens import encode_questions
from probes.tuning import encode_blocks
from probes.variants import Variant

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
    """Write the tables of drift, attention and floors, and the parity that licenses them."""
    settings = Drift(**fields["drift"])
    specs = [spec_of(stored) for stored in fields["variants"]]
    cell = _Cell(fields, settings, specs, needs)
    for group, rows in cell.rows.items():
        for batch in cell.batches(rows):
            cell.measure(group, batch)
    residual, attention = cell.gathered.tables(list(cell.variants))
    models = {"parent": specs[0].identity, "dense": VariantSpec(model=specs[0].model, scope=specs[0].scope).identity}
    residual.to_parquet(folder / "drift.parquet", index=False)
    attention.to_parquet(folder / "attention.parquet", index=False)
    cell.gathered.floors(fields["floors"], models).to_parquet(folder / "floors.parquet", index=False)
    parity = {identity: cell.recorders.parity(variant) for identity, variant in cell.variants.items()}
    (folder / "parity.json").write_text(json.dumps(parity, indent=1) + "\n")


class _Cell:
    """The models of one cell, each ready to be read, and what was gathered so far."""

    def __init__(
        self, fields: dict[str, Any], settings: Drift, specs: list[VariantSpec], needs: dict[str, Path]
    ) -> None:
        opened = dense(fields)
        self.settings = settings
        self.reference = Variant("dense", opened.model, opened.tokenizer)
        self.variants = {
            spec.identity: open_variant(fields, spec, parts_of(needs, str(place))) for place, spec in enumerate(specs)
        }
        self.parent = _parent(fields, specs, needs)
        self.sites = sites_of(opened.model, DRIFT_KINDS)
        self.rows = rows_of(fields, settings)
        rows = self.rows["questions"][:PARITY_ROWS]
        self.recorders = _Recorders(settings.backend, self.sites, rows)
        named = [name for name in OPENED if name in fields["floors"]]
        self.doubles = doubles_of(named, fields, parts_of(needs, "draw"), self.sites, rows)
        self.metrics = tuple(Measured.of(stored) for stored in fields["metrics"])
        self.prepared = {identity: self._prepared(variant) for identity, variant in self.variants.items()}
        self.gathered = Gathered(self.metrics)

    def _prepared(self, variant: Variant) -> dict[str, Any]:
        """What each metric makes once of a variant, by the module that makes it."""
        there = {"dense"} if self.parent is None else {"dense", "parent"}
        modules = dict.fromkeys(one.module for one in self.metrics if set(one.references) <= there)
        makers = {module: prepare for module in modules if (prepare := reducer_of(module).prepare)}
        return {module: prepare(variant) for module, prepare in makers.items()}

    def batches(self, rows: Rows) -> Iterator[Rows]:
        """Rows of one group, so many at once as a plain pass has memory for."""
        references = 1 if self.parent is None else 2
        longest = max(map(len, rows), default=1)
        size = rows_at_once(self.reference.model, self.sites, longest, self.settings.batch, references)
        for first in range(0, len(rows), size):
            yield rows[first : first + size]

    def measure(self, group: str, rows: Rows) -> None:
        """One batch: the references once, every variant past them, and the floors."""
        references = {"dense": self._recorded(self.reference, rows)}
        if self.parent is not None:
            references["parent"] = self._recorded(self.parent, rows)
        for identity, variant in self.variants.items():
            choice = variant.choose(rows)
            comparison = Comparison(
                references,
                variant.inputs(rows, choice),
                self.metrics,
                self.prepared[identity],
                [0] * len(rows) if choice is None else choice.kept.tolist(),
            )
            self._stream(identity, group, comparison, self.recorders.of(variant), self.sites)
            if self.parent is not None and variant.model is self.parent.model:
                _require_first_layer(variant, comparison)
        for place, row in enumerate(rows):
            one = {"dense": references["dense"].sequence(place, len(row))}
            # A row that stood among others is read alone; one that stood alone, beside the longest there is.
            others = [] if len(rows) > 1 else [max(self.rows[group], key=len)]
            inputs = self.reference.inputs([row, *others])
            comparison = Comparison(one, _first_row(inputs), self.metrics)
            self._stream(BATCH_PLAN, group, comparison, self.recorders.of(self.reference), self.sites, inputs)
        for name, double in self.doubles.items():
            one = {double.reference: references[double.reference]}
            comparison = Comparison(one, double.variant.inputs(rows), self.metrics)
            self._stream(name, group, comparison, double.recorder, double.sites)

    def _recorded(self, variant: Variant, rows: Rows) -> Reference:
        return Reference.record(self.recorders.of(variant), variant.inputs(rows), self.sites)

    def _stream(
        self,
        owner: str,
        group: str,
        comparison: Comparison,
        recorder: Recorder,
        sites: tuple[Site, ...],
        inputs: Inputs | None = None,
    ) -> None:
        """Stream a pass into a comparison, which reads the first of its rows: all, unless it has a row less."""
        rows = len(comparison.lengths)
        read = comparison.inputs if inputs is None else inputs
        stream_states(recorder, read, sites, lambda site, tensor: comparison(site, tensor[:rows]))
        self.gathered.add(owner, group, comparison)


def _first_row(inputs: Inputs) -> Inputs:
    """The first row by itself, in the columns that it has among the others."""
    return Inputs(inputs.embeds[:1], inputs.attention_mask[:1], inputs.position_ids[:1], inputs.content[:1])


def _require_first_layer(variant: Variant, comparison: Comparison) -> None:
    """A prompt before a model with relative positions moves no first-layer ratio of attention over content keys.

    Raises:
        RuntimeError: it did, so content is read in the wrong columns or at the wrong positions.
    """
    if not positions_are_relative(variant.model):
        return
    moved = float(comparison.attention["parent", Site(0, Kind.PATTERN), "jensen_shannon"].max())
    if not moved <= TOLERANCE[variant.model.dtype]:
        raise RuntimeError(
            f"'{variant.name}': its prompt moved the first layer's attention among content keys by {moved:.1e} bits, "
            "which relative positions forbid: its drift cannot be used"
        )


def _parent(fields: dict[str, Any], specs: list[VariantSpec], needs: dict[str, Path]) -> Variant | None:
    """The compressed copy that the cell is about, or None where that is dense itself."""
    if specs[0].compression is None:
        return None
    opened = parent_model(fields, parts_of(needs, "0"))
    return Variant(specs[0].name, opened.model, opened.tokenizer)


def rows_of(fields: dict[str, Any], settings: Drift) -> dict[str, Rows]:
    """Test questions in the measuring phrasing, evenly over the facts, and windows of held-out text."""
    facts = facts_of(fields)
    chosen = facts.select(fields["groups"], "test")
    picked = evenly(chosen, settings.questions)
    tokenizer = dense(fields).tokenizer
    questions = encode_questions(tokenizer, [item.question for item in facts.items(picked, "measure")])
    # Held-out text is only measured, never read by a repair: it may state test facts.
    text = text_as_planned(fields["text"], fields["text_sha"], "heldout")
    windows = encode_blocks(tokenizer, text.paragraphs, settings.length)[: settings.windows]
    return {"questions": sorted(questions, key=len), "text": windows}
