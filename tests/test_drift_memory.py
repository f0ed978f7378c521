"""What streaming drift keeps: as much as is said, in one piece, and the same numbers however many rows are read."""

import numpy as np
import pytest
import torch

from analysis import drift
from analysis.comparison import Comparison
from analysis.drift import DRIFT_KINDS, Reference, held_bytes, rows_at_once
from analysis.shapes import Shape
from probes.capture import Recorder
from probes.sites import Kind, sites_of
from probes.variants import Variant

LENGTH = 40
NO_LOGITS = torch.empty(0, dtype=torch.long)


def rows(count: int) -> list[list[int]]:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(4, 60, (count, LENGTH), generator=draw).tolist()


@pytest.fixture
def dense(model, tokenizer) -> Variant:
    return Variant("dense", model, tokenizer)


def test_a_reference_keeps_what_is_foretold(dense):
    sites = sites_of(dense.model, DRIFT_KINDS)
    found = Reference.record(Recorder(dense.model, backend="hooks"), dense.inputs(rows(3)), sites)
    states = {one.data_ptr(): one for one in found.states.values()}
    assert len(states) < len(found.states), "what leaves a block and enters the next is kept once"
    kept = [*states.values(), *(block for one in found.rows.values() for block in one.blocks)]
    assert sum(one.numel() * one.element_size() for one in kept) == 3 * held_bytes(dense.model, sites, LENGTH)
    # One piece for the states and one for the patterns: what lies between them cannot be pinned.
    assert len({one.untyped_storage().data_ptr() for one in kept}) == 2


def test_rows_are_as_many_as_a_plain_pass_would_pay_for(dense, monkeypatch):
    sites = sites_of(dense.model, DRIFT_KINDS)
    assert rows_at_once(dense.model, sites, LENGTH, 8) == 8, "a small model is read in large batches"
    monkeypatch.setattr(drift, "ALWAYS_HELD", 0)
    held = held_bytes(dense.model, sites, LENGTH)
    plain = Shape.of(dense.model).plain(64, LENGTH)
    assert plain > 64 * LENGTH * dense.model.config.vocab_size * 4, "logits, and one layer"
    for references in (4, 20):
        assert rows_at_once(dense.model, sites, LENGTH, 64, references) == plain // (references * held) < 64
    assert rows_at_once(dense.model, sites, LENGTH, 64, 1000) == 1, "one row is read whatever is kept of it"


def test_all_rows_at_once_and_one_at_a_time_are_equally_far(dense):
    sites = sites_of(dense.model, [Kind.PATTERN, Kind.RESID_POST])
    recorder = Recorder(dense.model, backend="hooks")

    def compared(batch: list[list[int]]) -> Comparison:
        reference = Reference.record(recorder, dense.inputs(batch), sites)
        inputs = dense.inputs([row[::-1] for row in batch])  # the same words backwards, far from themselves
        found = Comparison({"dense": reference}, inputs)
        recorder.stream(inputs, sites, found, logits_at=NO_LOGITS)
        return found

    whole, parts = compared(rows(4)), [compared([row]) for row in rows(4)]
    for name in ("residual", "attention"):
        for key, values in getattr(whole, name).items():
            joined = np.concatenate([getattr(part, name)[key] for part in parts])
            assert values.shape == joined.shape
            np.testing.assert_allclose(values, joined, atol=1e-5)
    assert whole.residual["dense", sites[-1], "cosine"].min() > 0.01
