"""What a cell is foretold to take, and what happens where that is too much."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.amounts import UNITS, parse_bytes
from analysis.cells import KINDS, Cell, expand
from analysis.memory import bytes_for, workers_within
from analysis.peak import PeakMemory
from analysis.shapes import Shape
from analysis.study import load_facts, load_study
from data.errors import InputError
from tests.tiny_models import TINY_TYPES, tiny

SHAPE = Shape(parameters=10**8, layers=12, width=768, inner=3072, heads=12, vocabulary=50_000, number=4)


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> list[Cell]:
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "one.jsonl").write_text('{"context": "ada lives in", "continuation": "oslo"}\n')
    study = load_study("atlas", ["controls=[]", "seeds=[0]", f"tasks={{files: {folder}}}"])
    return list(expand(study, load_facts(study)).cells)


@given(st.floats(0.001, 1000), st.sampled_from(sorted(UNITS)), st.sampled_from(["", " "]))
def test_an_amount_is_read_with_its_unit(number, unit, space):
    assert parse_bytes(f"{number}{space}{unit.lower()}") == int(number * UNITS[unit])


@pytest.mark.parametrize("text", ["", "8", "GB", "-1GB", "0MB", "nanGB", "infGB", "8 bananas", "1e999GB"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(InputError, match="write an amount such as 8GB"):
        parse_bytes(text)


@pytest.mark.parametrize("family", TINY_TYPES)
def test_the_shape_of_every_family_is_read(family):
    model = tiny(family)
    shape = Shape.of(model)
    assert shape.parameters == sum(one.numel() for one in model.parameters())
    assert shape.weights == 4 * shape.parameters
    assert min(shape.layers, shape.width, shape.inner, shape.heads, shape.vocabulary) > 1


def test_what_a_host_sends_back_takes_memory(cells):
    cell = next(cell for cell in cells if cell.kind == "drift")
    hosted = replace(cell, fields=cell.fields | {"drift": cell.fields["drift"] | {"backend": "nnsight_remote"}})
    drift = cell.fields["drift"]
    tokens = drift["batch"] * drift["length"]
    states = SHAPE.number * SHAPE.layers * tokens * (4 * SHAPE.width + SHAPE.heads * drift["length"])
    assert bytes_for(hosted, SHAPE) - bytes_for(cell, SHAPE) == states


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "examples"])  # these are read one by one
def test_more_to_read_takes_more_memory(cells, kind):
    cell = next(cell for cell in cells if cell.kind == kind)
    sizes = {"compressed": ("compression", "samples"), "tuned": ("tuning", "batch"), "drift": ("drift", "batch")}
    sizes |= {
        "lens": ("inside", "batch"),
        "probed": ("inside", "batch"),
        "intervened": ("inside", "items"),
        "tasks": ("task", "batch"),
    }
    if kind in sizes:
        part, name = sizes[kind]
        larger = cell.fields | {part: cell.fields[part] | {name: 4 * cell.fields[part][name]}}
    else:
        larger = cell.fields | {"score_batch": 4 * cell.fields["score_batch"]}
    assert bytes_for(Cell(cell.kind, cell.label, larger), SHAPE) > bytes_for(cell, SHAPE) > 2 * SHAPE.weights


def test_as_many_workers_run_as_the_budget_holds(cells):
    largest = max(bytes_for(cell, SHAPE) for cell in cells)
    assert [workers_within(times * largest, cells, SHAPE, 4) for times in (1, 3, 9)] == [1, 3, 4]
    assert workers_within(1, [], SHAPE, 4) == 4
    with pytest.raises(InputError, match=re.escape(f"needs about {largest / 1e9:.1f} GB")):
        workers_within(largest - 1, cells, SHAPE, 4)


def test_the_peak_is_what_was_held_at_most():
    with PeakMemory() as peak:
        held = np.ones(50_000_000)
        del held
    if peak.total is None:
        pytest.skip("peak memory is read from /proc, which this system lacks")
    assert peak.beyond == pytest.approx(400_000_000, rel=0.1)
    with PeakMemory() as nothing:
        pass
    assert nothing.beyond is not None
    assert nothing.beyond < 10_000_000
