"""Untrained prompts: however many a replicate has, each is another, and none takes part in a replicate not its own."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from analysis import run
from analysis.reading import read_table
from analysis.recovery import join, recovery_table
from analysis.run_files import read_json
from analysis.study import Study
from analysis.tables import draw_of, replicate_of
from analysis.task_scores import seeded
from probes.prompts import draw_prompt
from probes.specs.repairs.bank import MEMBER_SEEDS
from probes.specs.repairs.placebo import DRAWS, PLACEBO_KINDS, PlaceboSpec
from probes.specs.variants import spec_of
from tests.tiny_models import tiny

MANY = Study.model_validate(
    {
        **{"name": "many", "model": "atlas", "facts": "atlas", "relations": ["instrument"], "groups": ["open"]},
        **{"text": "atlas", "seeds": [7], "reported": ["prompt-2"], "tuning": {"steps": 1, "batch": 2}},
        "compressions": [{"method": "magnitude", "sparsity": 0.6, "samples": 4, "block_length": 32}],
        "repairs": [{"kind": "prompt", "length": 2, "learning_rate": 0.03}],
        "placebos": 104,
        "drift": {"questions": 4, "windows": 2, "length": 16, "batch": 2},
    }
)


def placebos_of(study):
    plan, _ = run.prepare(study)
    specs = [spec_of(cell.fields["variant"]) for cell in plan.of("scored")]
    return [spec for spec in specs if isinstance(spec.repair, PlaceboSpec)]


places = st.tuples(st.integers(0, MEMBER_SEEDS - 1), st.integers(0, DRAWS - 1))


def seed_of(place):
    """As a generator of torch reads it: of 64 bits the lower half."""
    replicate, number = place
    return PlaceboSpec(length=1, draw="vocabulary", number=number).seed(replicate) % 2**32


@given(places, places)
def test_no_two_draws_of_any_replicates_share_a_seed(one, other):
    assert (seed_of(one) == seed_of(other)) == (one == other)


def test_all_draws_that_a_study_may_have_have_seeds_of_their_own():
    """Every one of them: what a sample of pairs could miss."""
    every = {seed_of(place) for place in itertools.product(range(MEMBER_SEEDS), range(0, DRAWS))}
    assert len(every) == MEMBER_SEEDS * DRAWS


def test_a_generator_reads_no_more_than_the_lower_half_of_its_seed():
    """Why the seeds of later draws lie below 2**32."""
    drawn = [torch.rand(4, generator=torch.Generator().manual_seed(7 + shift)) for shift in (0, 2**32)]
    assert torch.equal(*drawn)


@pytest.mark.parametrize("kind", PLACEBO_KINDS)
@pytest.mark.parametrize("replicate", [0, 3, 999])
def test_the_first_hundred_draws_are_those_of_the_old_formula(kind, replicate):
    model = tiny("llama")
    for number in (0, 1, 42, 99):
        spec = PlaceboSpec(length=3, draw=kind, number=number)
        drawn = draw_prompt(model, 3, spec.seed(replicate), kind)
        assert torch.equal(drawn, draw_prompt(model, 3, 10_000 + replicate * 100 + number, kind))


def test_more_draws_than_a_study_may_have_are_refused():
    with pytest.raises(ValidationError, match="less than 1000"):
        PlaceboSpec(length=1, draw="vocabulary", number=DRAWS)
    most = Study.model_validate(MANY.model_dump() | {"placebos": DRAWS})
    assert len({spec.identity for spec in placebos_of(most)}) == 2 * DRAWS


def test_every_draw_is_planned_in_its_own_replicate():
    """Two parents, 120 draws each: none is lost, and draw 100 of replicate 7 is not the first of replicate 8."""
    two = Study.model_validate(MANY.model_dump() | {"seeds": [7, 8], "placebos": 240})
    specs = placebos_of(two)
    assert len({spec.identity for spec in specs}) == len(specs) == 2 * 2 * 120
    table = pd.DataFrame([{"replicate": replicate_of(spec), "draw": draw_of(spec)} for spec in specs])
    assert set(table.value_counts()) == {2}
    assert set(table["replicate"]) == {7, 8}
    assert set(table["draw"]) == set(range(120))


def rows_of(draws, replicates):
    """Answers and variants of a dense model and of many untrained prompts, each right on what its number says."""
    variants, answers = [], []
    for replicate, draw in itertools.product(range(replicates), range(draws)):
        identity = f"{replicate}/{draw}"
        variants.append((identity, replicate, draw))
        answers += [(identity, f"person {place}", (replicate * draws + draw) % 4 == place) for place in range(4)]
    known = pd.DataFrame(variants, columns=["variant_id", "replicate", "draw"])
    known = known.assign(variant="placebo-2", scope="main", compression="dense", repair="placebo-2", kind="placebo")
    known = known.assign(repair_seed=known["replicate"].astype(float), compression_seed=np.nan)
    told = pd.DataFrame(answers, columns=["variant_id", "entity", "correct"])
    told = told.assign(
        phrasing="measure", reading="candidates", group="people", split="test", relation="city", bits=1.0
    )
    return told.assign(relation="city"), known.assign(parameters_added=0, bytes_added=0)


@pytest.mark.parametrize(("draws", "replicates"), [(4, 2), (120, 1), (120, 2)])
def test_every_draw_counts_once_in_an_interval(draws, replicates):
    answers, variants = rows_of(draws, replicates)
    joined = join(answers, variants)
    assert joined["replicate"].nunique() == draws * replicates
    found = recovery_table(answers, variants).query("measure == 'accuracy'")
    assert found["replicates"].tolist() == [draws * replicates]
    assert found["value"].tolist() == pytest.approx([0.25])


def test_the_replicate_of_a_placebo_is_its_seed_on_tasks():
    _, variants = rows_of(120, 2)
    assert set(seeded(variants)["seed"]) == {0, 1}


@pytest.mark.slow
def test_more_than_a_hundred_untrained_prompts_get_a_verdict(studies):
    """From the study to its verdict, on one replicate."""
    folder = studies.run(MANY)
    variants = read_table(folder, "variants").query("kind == 'placebo'")
    assert variants.groupby("compression").size().to_dict() == {"dense": 104, "magnitude-60%": 104}
    assert set(variants["replicate"]) == {7}
    counted = read_table(folder, "recovery").query("repair == 'placebo-2'")
    assert set(counted["replicates"]) == {104}
    (setting,) = read_json(folder, "verdict.json")["settings"]
    assert any("untrained prompts" in one["name"] for one in setting["predictions"])
    answers = read_table(folder, "answers")
    one = answers[answers["variant_id"].isin(variants["variant_id"])].query("reading == 'candidates'")
    drawn = one.pivot_table(index="variant_id", columns=["item", "phrasing"], values="log_prob")
    assert len(drawn.round(6).drop_duplicates()) == 208
