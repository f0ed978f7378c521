"""Every kind of repair from a study's config to its tables: scored, compared layer by layer, and counted."""

import pytest

from analysis import run
from analysis.reading import read_table
from analysis.study import Study
from tests.test_run import STUDY

WIDTH, KEYS, LAYERS = 128, 128, 4
REPAIRS = [
    {"kind": "prefix", "length": 1, "learning_rate": 0.03},
    {"kind": "prefix", "length": 2, "learning_rate": 0.01, "encoder_width": 8},
    {"kind": "ptuning", "length": 2, "learning_rate": 0.01},
]
SMALL = Study.model_validate(
    STUDY.model_dump()
    | {
        "controls": [],
        "repairs": [{"kind": "prompt", "length": 2, "learning_rate": 0.03}, *REPAIRS],
        "reported": ["prompt-2", "prefix-1"],
        "tuning": {"steps": 2, "batch": 4},
        "drift": {"questions": 2, "windows": 2, "length": 16, "batch": 2},
    }
)


@pytest.fixture(scope="module")
def variants(tmp_path_factory):
    folder = run.run(SMALL, out=tmp_path_factory.mktemp("runs"))
    drift = read_table(folder, "drift")
    return read_table(folder, "variants").assign(drifted=lambda table: table["variant_id"].isin(drift["variant_id"]))


def of(variants, repair):
    """The two variants, dense and compressed, of one repair."""
    found = variants[variants["repair"] == repair]
    assert len(found) == 2
    return found


def test_a_prefix_is_counted_and_compared(variants):
    for repair, slots in (("prefix-1", 1), ("prefix-2-mlp8", 2)):
        found = of(variants, repair)
        assert found["drifted"].all()
        assert (found["logit_difference"] > 1e-3).all()
        assert (found["parity_max_abs"] < 1e-4).all()
        assert set(found["parameters_added"]) == {slots * LAYERS * 2 * KEYS}
        assert set(found["bytes_added"]) == {4 * slots * LAYERS * 2 * KEYS}
    assert set(of(variants, "prefix-1")["parameters_tuned"]) == {LAYERS * 2 * KEYS}
    encoder = 2 * KEYS + (KEYS + 1) * 8 + (8 + 1) * LAYERS * 2 * KEYS  # vectors, then two linear layers
    assert set(of(variants, "prefix-2-mlp8")["parameters_tuned"]) == {encoder}


def test_p_tuning_keeps_a_prompt_and_counts_the_encoder_it_dropped(variants):
    found = of(variants, "ptuning-2")
    assert found["drifted"].all()
    assert (found["logit_difference"] > 1e-3).all()
    assert set(found["parameters_added"]) == {2 * WIDTH}
    assert set(found["parameters_tuned"]) == {2 * WIDTH + 3 * (WIDTH + 1) * WIDTH}
