"""Where two variants part: a planted layer is found, the floor is respected, and names are helped along."""

import pandas as pd
import pytest

from analysis.parting import DIRECT, DISTANCES, compare, part
from data.errors import InputError
from tests.stored_runs import write_run

NAMES = {"d": "dense", "c": "gptq", "p": "gptq + prompt-4", "l": "gptq + lora-r2"}
FLOOR = 0.01


def frames(at: dict[str, dict[int, float]]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Drift from dense (and of repairs from their copy) as planted by variant and layer, elsewhere below the floor."""
    variants = pd.DataFrame(
        [
            {"variant_id": key, "variant": name, "scope": "main", "compression": name.split(" + ")[0]}
            | {"repair": name.partition(" + ")[2]}
            for key, name in NAMES.items()
        ]
    )
    rows = []
    for key, planted in at.items():
        for layer in range(4):
            for site in ("attn_out", "resid_post", "pattern"):
                value = planted.get(layer, FLOOR / 10)
                rows.append(
                    {"variant_id": key, "group": "questions", "layer": layer, "site": site, "value": value}
                    | {"metric": "jensen_shannon" if site == "pattern" else "relative_l2"}
                    | {"lower": value * 0.9, "upper": value * 1.1, "floor": FLOOR, "tokens": 50}
                )
    table = pd.concat([pd.DataFrame(rows).assign(reference=name) for name in ("dense", "parent")])
    heads = table[table["site"] == "pattern"]
    attention = pd.concat([heads.assign(head=head) for head in (0, 1)])
    return table[table["site"] != "pattern"], attention, variants


def test_the_planted_layer_is_found_against_dense_and_against_the_copy():
    tables = frames({"c": {1: 0.2, 2: 0.5}, "p": {2: 0.3}, "d": {}})
    for second in ("gptq", "gptq + prompt-4"):
        found = part(*tables, "dense", second)
        assert found.way == DIRECT
        one = found.places[found.places["parted"]].iloc[0]
        assert (one["layer"], one["site"]) == (1 if second == "gptq" else 2, "pattern")
    assert "20 times the floor" in part(*tables, "gptq", "dense").sentence
    assert part(*tables, "gptq", "gptq + prompt-4").places["parted"].sum() == 3


def test_two_repairs_are_compared_by_their_distances_from_dense():
    tables = frames({"d": {}, "p": {3: 0.5}, "l": {1: 0.2, 3: 0.51}})
    found = part(*tables, "gptq + prompt-4", "gptq + lora-r2")
    assert found.way == DISTANCES
    parted = found.places[found.places["parted"]]
    assert set(parted["layer"]) == {1}  # at layer 3 the intervals meet
    assert parted["value"].iloc[0] == pytest.approx(-0.199)


def test_below_the_floor_nothing_parts():
    tables = frames({"d": {}, "c": {}, "p": {}, "l": {}})
    assert "part at no layer" in part(*tables, "dense", "gptq").sentence
    assert "do not make them the same" in part(*tables, "gptq + prompt-4", "gptq + lora-r2").sentence


def test_a_stored_run_is_compared_and_mistakes_name_the_nearest(tmp_path):
    run = write_run(tmp_path / "first")
    assert "first part at layer 0" in compare(run, "dense", "gptq-3bit")
    assert "layer" in compare(run, "gptq-3bit + prompt-4", "gptq-3bit", scope="locked")
    with pytest.raises(InputError, match="nearest: gptq-3bit"):
        compare(run, "dense", "gptq-3bits")
    with pytest.raises(InputError, match="was not read"):
        compare(run, "dense", "gptq-3bit + recalibrated")
    with pytest.raises(InputError, match="name two variants"):
        compare(run, "dense", "dense")
    with pytest.raises(InputError, match="no scope 'mian'"):
        compare(run, "dense", "gptq-3bit", scope="mian")
    with pytest.raises(InputError, match="--group 'poems'"):
        compare(run, "dense", "gptq-3bit", group="poems")
