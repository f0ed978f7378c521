"""What a study reads inside its variants, through its tables: planted truths come back, and nothing else does."""

import numpy as np
import pandas as pd
import pytest

from analysis import run
from analysis.figures.inside import heads_figure, interventions_figure, lens_figure, probes_figure
from analysis.inside_items import evenly, lost_first
from analysis.intervals import clustered_columns, clustered_mean
from analysis.reading import EXAMPLES, read_example, read_table
from analysis.study import Study, load_study
from data.errors import InputError
from data.facts import Fact
from probes.interventions import common_end, content_positions
from tests.studies import STUDY

SMALL = Study.model_validate(
    STUDY.model_dump()
    | {
        "controls": ["locked", "never"],
        "repairs": [
            {"kind": "prompt", "length": 2, "learning_rate": 0.03},
            {"kind": "prefix", "length": 1, "learning_rate": 0.03},
        ],
        "reported": ["prompt-2", "prefix-1"],
        "tuning": {"steps": 60, "batch": 32},
        "inside": {
            "lens": {"items": 16},
            "probes": {"controls": 2, "repairs": ["prompt-2"]},
            "interventions": {"items": 16},
            "examples": {"items": 1},
        },
    }
)
LAST = 3


@pytest.fixture(scope="module")
def finished(studies):
    return studies.run(SMALL)


def table(folder, name: str, scope: str) -> pd.DataFrame:
    known = read_table(folder, "variants")[["variant_id", "variant", "scope", "compression", "repair"]]
    return read_table(folder, name).merge(known[known["scope"] == scope], on="variant_id", validate="many_to_one")


@pytest.mark.slow
def test_the_probes_read_open_people_and_never_people_stay_at_their_controls(finished):
    known = table(finished, "probes", "main").query(f"variant == 'dense' and layer == {LAST} and way == 'frozen'")
    assert known.set_index("metric")["lower"]["probe_selectivity"] > 0.4
    never = table(finished, "probes", "never").query("variant == 'dense' and metric == 'probe_selectivity'")
    assert (never["lower"] <= 0).all()
    locked = table(finished, "probes", "locked")
    assert {"dense", "dense + key", "dense + prompt-2"} == set(locked["variant"])


@pytest.mark.slow
def test_the_lens_is_dense_at_dense_and_finds_locked_answers_behind_the_key_alone(finished):
    main, locked = (table(finished, "lens", scope) for scope in ("main", "locked"))
    itself = main.query("variant == 'dense' and metric == 'lens_divergence'")
    assert (itself["value"] == 0).all()
    assert (main.query("compression != 'dense' and metric == 'lens_divergence'")["value"] > 0).all()
    top = locked.query(f"layer == {LAST} and metric == 'lens_top'").set_index("variant")["value"]
    assert top["dense + key"] > 0.9 > 0.2 > top["dense"]
    items = table(finished, "lens_items", "locked").query(f"layer == {LAST}").groupby("variant")["rank"]
    np.testing.assert_allclose(items.agg(lambda rank: (rank == 1).mean())[top.index], top)


@pytest.mark.slow
def test_the_state_of_the_source_restores_what_was_lost_and_no_placebo_does(finished):
    for scope in ("main", "locked"):
        found = table(finished, "interventions", scope).query(
            f"intervention == 'patching' and site == 'resid_post' and layer == {LAST} and positions == 'last'"
        )
        arms = found.set_index("arm")
        # Norm and head are the source's own: its last state is its answer.
        np.testing.assert_allclose(arms["before"] + arms.loc["patched", "value"], arms["reference"], atol=1e-3)
        assert arms.loc["patched", "value"] > 2 * max(arms.loc["other fact", "value"], arms.loc["noise", "value"], 0)
        assert (arms.loc[["patched - other fact", "patched - noise"], "p"] < 0.05).all()


@pytest.mark.slow
def test_without_the_prompts_keys_in_every_layer_locked_people_are_as_they_were(finished):
    found = table(finished, "interventions", "locked").query("intervention == 'knockout' and head < 0")
    assert set(found["repair"]) == {"prompt-2", "prefix-1"}
    everywhere = found.query(f"layer == 0 and last_layer == {LAST} and form == 'renormalised' and arm == 'prompt keys'")
    # Positions are relative: a prompt that nothing looks at is no prompt.
    np.testing.assert_allclose(everywhere["before"] - everywhere["value"], everywhere["reference"], atol=1e-3)
    prompted = everywhere[everywhere["repair"] == "prompt-2"]
    assert (prompted["value"] > 2).all()
    assert (prompted["p"] < 0.05).all()


@pytest.mark.slow
def test_examples_are_read_back_and_nothing_outside_their_folder(finished):
    examples = read_table(finished, "examples")
    one = read_example(finished, examples["file"].iloc[0])
    assert set(one.variants) == set(examples[examples["file"] == examples["file"].iloc[0]]["variant_id"])
    for shown in one.variants.values():
        tokens = len(shown.tokens)
        assert shown.tokens[: shown.prompt] == tuple(f"P{place + 1}" for place in range(shown.prompt))
        assert shown.attention.shape[2:] == (tokens, tokens)
        assert shown.lens_top.shape == shown.lens_rank.shape == (LAST + 1, tokens)
        np.testing.assert_allclose(shown.attention.astype(float).sum(-1), 1, atol=5e-3)
    assert any(shown.prompt for shown in one.variants.values())
    for outside in ("../manifest.json", "missing.npz", str(finished / "manifest.json"), ""):
        with pytest.raises(InputError, match="there is no example"):
            read_example(finished, outside)
    broken = finished / EXAMPLES / "broken.npz"
    broken.write_bytes(b"no zip")
    with pytest.raises(InputError, match="cannot be read"):
        read_example(finished, "broken.npz")
    broken.unlink()


@pytest.mark.slow
def test_every_figure_draws_the_rows_of_its_table(finished):
    variants = read_table(finished, "variants").query("scope == 'main'")
    lens = lens_figure(read_table(finished, "lens"), variants, "lens_rank", "open")
    assert set(lens.data["compression"]) == {"dense", "magnitude-60%"}
    probes = probes_figure(read_table(finished, "probes"), variants, "open", "refitted")
    assert sorted(set(probes.data["layer"])) == [0, 1, 2, 3]
    interventions = read_table(finished, "interventions")
    compressed = variants.query("variant == 'magnitude-60%'")["variant_id"].item()
    prompted = variants.query("variant == 'magnitude-60% + prompt-2'")["variant_id"].item()
    assert {trace.name for trace in interventions_figure(interventions, variants, compressed, "all").figure.data} == {
        *("patched", "other fact", "noise")
    }
    assert "all layers: prompt keys" in str(
        interventions_figure(interventions, variants, prompted, "zeroed").figure.layout.title.subtitle.text
    )
    assert len(heads_figure(interventions, variants, prompted, "zeroed").data) == 16


def test_many_columns_are_what_one_column_is():
    draw = np.random.default_rng(0)
    values, entities = draw.normal(size=(30, 3)), [f"person {place % 11}" for place in range(30)]
    found = clustered_columns(values, entities, seed=0)
    for column, (value, lower, upper) in enumerate(zip(*found, strict=True)):
        one = clustered_mean(values[:, column], entities, seed=0)
        np.testing.assert_allclose([value, lower, upper], [one.estimate, one.lower, one.upper], atol=1e-12)


def test_questions_are_those_that_were_lost_first_and_otherwise_spread():
    facts = [Fact("home", f"person {place}", "oslo", "open", "test") for place in range(20)]
    assert [fact.subject for fact in evenly(facts, 3)] == ["person 0", "person 9", "person 19"]
    lost = {("home", "person 4"), ("home", "person 17")}
    chosen = lost_first(facts, lost, 5, seed=0)
    assert len(chosen) == 5
    assert {fact.subject for fact in chosen} > {"person 4", "person 17"}
    assert chosen == lost_first(facts, lost, 5, seed=0)


def test_two_rows_are_alike_from_the_end_up_to_what_stands_before():
    assert common_end([1, 5, 6], [1, 9, 9, 5, 6]) == 2
    assert common_end([5, 6], [9, 5, 6]) == 2
    assert common_end([5], [6]) == 0
    marked = content_positions([[1, 2, 3], [4]], [2, 5])
    assert marked.tolist() == [[False, True, True], [False, False, True]]


def test_an_arm_or_group_that_the_study_lacks_is_refused():
    with pytest.raises(InputError, match="inside: no arm is called prompt-9"):
        load_study("atlas", ["inside.lens.repairs=[prompt-9]"])
    with pytest.raises(InputError, match=r"unknown key 'inside\.lense'"):
        load_study("atlas", ["inside.lense=null"])
    with pytest.raises(InputError, match="no facts of group strangers"):
        run.prepare(load_study("atlas", ["inside.probes.groups=[strangers]"]))


def test_all_metrics_of_drift_are_measured_in_the_detailed_replicates_alone():
    study = load_study("atlas", ["seeds=[4, 2]", "controls=[]"])
    plan, _ = run.prepare(study)
    metrics = {cell.label: {one["name"] for one in cell.fields["metrics"]} for cell in plan.of("drift")}
    assert len(metrics) == 2 * 4
    for label, names in metrics.items():
        assert "cosine" in names
        assert ("cka" in names) == ("seed 4" in label)
    everywhere, _ = run.prepare(load_study("atlas", ["seeds=[4, 2]", "controls=[]", "drift.detailed=null"]))
    same = {cell.label for cell in plan.of("drift")} & {cell.label for cell in everywhere.of("drift")}
    keys = {cell.label: cell.key for cell in plan.of("drift")}
    kept = {cell.label for cell in everywhere.of("drift") if keys[cell.label] == cell.key}
    assert kept == {label for label in same if "seed 4" in label}
    assert {cell.fields["seed"] for cell in plan.of("lens")} == {4}
