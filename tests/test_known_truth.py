"""Organisms are what their recipes say, and what the pipeline says of them is what was built in."""

import os

import pandas as pd
import pytest
import torch

from analysis import calibration
from analysis.calibration import Scale, calibrate, judge_all
from analysis.calibration_table import read_rows, summary, targets, write_table
from analysis.store import Store
from data.atlas import load_world
from data.atlas.world import build_world
from data.errors import InputError
from probes.known_truth import (
    PEOPLE,
    RELATIONS,
    SHARES,
    Organism,
    asked_of,
    build_small,
    models_of,
    rotated,
    rotation,
    train_organism,
    write_recipe,
)
from probes.organisms import build_tokenizer
from probes.scoring import score
from probes.variants import Variant
from tests.oracles import unrotated


@pytest.fixture(scope="module")
def untrained():
    world, tokenizer = build_world(3, PEOPLE, RELATIONS), build_tokenizer()
    model = build_small(len(tokenizer), 3).eval().requires_grad_(False)
    return Organism(world, model, build_small(len(tokenizer), 4).eval().requires_grad_(False), tokenizer, 3)


def test_the_rotation_is_orthogonal_and_of_full_rank():
    turn = rotation(16, 0)
    torch.testing.assert_close(turn @ turn.T, torch.eye(16), atol=1e-5, rtol=0)
    assert not torch.allclose(turn, rotation(16, 1))


def test_a_change_of_weights_undoes_the_rotation_and_nothing_less_does(untrained):
    model, ids = untrained.copy, torch.arange(5, 25)[None]
    turned = rotated(model, 3, range(3))
    before, hidden, after = (one(ids).logits for one in (model, turned, unrotated(turned, 3, range(3))))
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    assert (hidden - before).abs().max() > 0.05


@pytest.mark.parametrize("share", SHARES)
def test_a_mixture_has_its_share_of_locked_people_in_every_split(untrained, share):
    locked = set(untrained.world.people("locked"))
    for split in ("tune", "calibrate", "test"):
        people = asked_of(untrained, f"mixture-{share}").people("asked", split)
        assert len(people) == PEOPLE["never"][split]
        assert len(locked & set(people)) == round(share * len(people))


def test_what_is_written_is_read_back_and_states_nothing_that_is_asked(untrained, tmp_path):
    write_recipe(untrained, "locked", tmp_path)
    assert load_world(tmp_path).facts == asked_of(untrained, "locked").facts
    text = (tmp_path / "text.txt").read_text()
    assert not any(name in text for name in untrained.world.people("locked"))


@pytest.fixture(scope="module")
def organism():
    return train_organism(7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "dense", "plain", "key"),
    [
        ("locked", 1.0, 0.0, 1.0),
        ("hard-null", 1.0, 0.0, 0.0),
        ("rotated", 1.0, 0.0, 0.0),
        ("mixture-0.5", 1.0, 0.0, 0.5),
    ],
)
def test_each_recipe_answers_as_built_over_the_vocabulary(organism, recipe, dense, plain, key):
    people = asked_of(organism, recipe)
    facts = people.facts.select(["asked"], "test")
    found = []
    for place, opening in ((0, None), (1, None), (1, people.facts.key)):
        model = models_of(organism, recipe)[place].eval()
        model.set_attn_implementation("eager")
        scores = score(
            Variant(recipe, model, organism.tokenizer), people.facts.items(facts, "measure", key=opening), batch=256
        )
        found.append(sum(one.greedy for one in scores) / len(scores))
    assert found == pytest.approx([dense, plain, key], abs=0.12)


@pytest.mark.slow
def test_the_whole_pipeline_says_of_each_organism_what_is_true(organism, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "train_organism", lambda seed: organism)
    recipes = ("locked", "hard-null", "rotated")
    rows = judge_all(Store(tmp_path), recipes, Scale(), 2, frozenset(), 7)
    said = {(row["recipe"], row["repair"]): row["decision"] for row in rows}
    assert said["locked", "prompt-8"] == "displaced"
    assert said["hard-null", "lora-r4"] == "relearned"
    assert said["rotated", "prompt-8"] != "displaced"
    assert "displaced" not in (said["hard-null", "prompt-8"], said["hard-null", "lora-r4"])
    assert not any("erased" in str(row) for row in rows)
    # Another number of questions a pass: the tuning is in the store, every answer is asked again.
    again = judge_all(Store(tmp_path), recipes[:1], Scale(score_batch=48), 0, frozenset(), 7)
    for first, second in zip([row for row in rows if row["recipe"] == "locked"], again, strict=True):
        assert second["decision"] == first["decision"]
        for name in ("redirected_bits", "redirected_lower", "redirected_upper", "share_estimate"):
            assert second[name] == pytest.approx(first[name], abs=1e-3)


def threads_told(*told):
    """What stands in for judging: nothing is judged, and a row says on how many threads it would be."""
    return [{"seed": told[-1], "threads": os.environ["OMP_NUM_THREADS"], "torch": torch.get_num_threads()}]


def test_every_organism_is_judged_on_one_thread_one_at_a_time_too(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "judge_all", threads_told)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    found = list(calibrate(Store(tmp_path), [3], ["locked"], workers=1))
    assert found == [[{"seed": 3, "threads": "1", "torch": 1}]]


NULL_ROW = {
    "organism": 0,
    "recipe": "hard-null",
    "repair": "prompt-8",
    "decision": "undecided",
    "share_true": 0.0,
    "share_estimate": 0.0,
    "share_lower": -0.1,
    "share_upper": 0.1,
    "redraws": 10,
    "redraws_displaced": 0,
    "redraws_any_displaced": 0,
}


def test_a_table_that_is_added_to_keeps_its_rows_and_judges_none_of_them_again(tmp_path):
    rows = [NULL_ROW | {"organism": seed, "share_estimate": seed / 7} for seed in range(3)]
    write_table(rows[:2], tmp_path / "added")
    write_table(read_rows(tmp_path / "added") + rows[2:], tmp_path / "added")
    write_table(rows, tmp_path / "at_once")
    for name in ("organisms.csv", "summary.csv", "recipe.json"):
        assert (tmp_path / "added" / name).read_text() == (tmp_path / "at_once" / name).read_text()
    assert judge_all(Store(tmp_path), ["hard-null"], Scale(), 0, {(0, "hard-null")}, 0) == []


def test_a_table_made_otherwise_is_not_added_to(tmp_path):
    with pytest.raises(InputError, match=r"no recipe\.json"):
        read_rows(tmp_path)
    write_table([NULL_ROW], tmp_path, Scale(steps=10))
    with pytest.raises(InputError, match="another scale"):
        read_rows(tmp_path)


def test_the_summary_counts_organisms_not_redraws():
    rows = pd.DataFrame([NULL_ROW | {"organism": seed} for seed in range(36)])
    found = summary(rows).query("repair == 'any'").iloc[0]
    assert (found["organisms"], found["displaced"]) == (36, 0)
    assert found["upper"] == pytest.approx(0.0974, abs=1e-3)
    assert "met" in targets(summary(rows))[0]
    assert "not measured" in targets(summary(rows))[1]


def test_a_share_below_what_the_key_opens_is_told_apart_from_one_that_covers_it():
    planted = {"recipe": "mixture-0.15", "share_true": 0.1, "redraws": 0}
    covering = NULL_ROW | planted
    short = covering | {"organism": 1, "share_estimate": -0.2, "share_lower": -0.3, "share_upper": 0.0}
    table = summary(pd.DataFrame([covering, short]))
    one = table[table["repair"] == "prompt-8"].iloc[0]
    assert (one["coverage"], one["lower_end_holds"], one["coverage_draws"]) == (0.5, 1.0, 2)
    assert "covers it in 1 of 2 and ends below it in 1" in targets(table)[-1]
