"""What the pages show of tables, on tables whose answer is known by hand."""

import pandas as pd
import pytest

from analysis.saying import account_table, five_sentences, hypotheses, prediction_table
from analysis.selecting import answers_to, closer_to_dense, flips, items_of, variants_of
from tests.stored_frames import drift_frame
from tests.stored_runs import BITS, LOST, PREDICTION, SETTING, answers_frame, seeded_variants

VARIANTS = seeded_variants("main")
DENSE = "maindense/0"


def asked():
    answers = answers_frame(VARIANTS)
    return answers[answers["reading"] == "candidates"]


def test_the_choices_keep_what_a_repair_is_read_against():
    kept = variants_of(VARIANTS, "main", ["gptq-3bit"], ["prompt-4"], 1)
    assert set(kept["variant"]) == {"gptq-3bit", "gptq-3bit + prompt-4"}
    assert set(kept["replicate"]) == {1}
    assert len(variants_of(VARIANTS, "main")) == len(VARIANTS)
    assert variants_of(VARIANTS, "locked").empty
    of_one_seed = variants_of(VARIANTS, "main", seed=0)
    assert {"dense", "dense + placebo-4"} <= set(of_one_seed["variant"])


def test_a_repair_used_on_another_copy_stands_among_the_others_where_it_is_named_alone():
    moved = VARIANTS[VARIANTS["repair"] == "prompt-4"].assign(
        kind="transferred", repair="prompt-4-from-dense", variant="gptq-3bit + prompt-4-from-dense"
    )
    both = pd.concat([VARIANTS, moved])
    assert set(variants_of(both, "main")["variant"]) == set(VARIANTS["variant"])
    named = variants_of(both, "main", repairs=["prompt-4-from-dense"])
    assert "gptq-3bit + prompt-4-from-dense" in set(named["variant"])
    assert "gptq-3bit + prompt-4" not in set(named["variant"])


def test_flips_count_what_dense_had_right_and_the_copy_has_not():
    found = flips(asked(), VARIANTS, DENSE).set_index(["variant", "direction"])
    assert found.loc[("gptq-3bit", "lost"), "value"] == pytest.approx(1 / 6)
    assert found.loc[("gptq-3bit", "lost"), "items"] == 6
    assert (found.drop(("gptq-3bit", "lost"))["value"] == 0).all()
    assert "dense" not in {variant for variant, _ in found.index}


def test_one_question_has_every_variants_answer():
    answers = asked()
    told = answers_to(answers[answers["item"] == LOST], VARIANTS).set_index("variant")
    assert told.loc["gptq-3bit", "answers"] == "paris"
    assert told.loc["gptq-3bit", ["right", "log_prob", "replicates"]].tolist() == [0, -2.5, 2]
    assert told.loc["gptq-3bit + prompt-4", "answers"] == "oslo"
    table = items_of(answers, VARIANTS, DENSE).set_index("item")
    assert list(table.index[table["gptq-3bit"] < 0.5]) == [LOST]
    assert table["was"].all()


def test_nearer_to_dense_is_the_parents_drift_less_ones_own():
    variants = VARIANTS[VARIANTS["compression"] != "dense"]
    drift = drift_frame(variants)
    ours = drift["variant_id"].str.contains("prompt-4/")
    drift.loc[ours, "value"] = drift.loc[ours, "value"] - 0.05
    found = closer_to_dense(drift, variants, "cosine", "resid_post", "questions")
    moved = found[found["repair"] == "prompt-4"]
    assert moved["closer"].tolist() == pytest.approx([0.05] * len(moved))
    assert found.loc[found["repair"] == "lora-r2", "closer"].abs().max() == 0
    assert found.groupby("variant")["variant_id"].nunique().eq(2).all()


def test_five_sentences_are_made_from_the_verdict_alone():
    said = five_sentences({"settings": [SETTING], "controls": [SETTING | {"scope": "locked"}]})
    assert len(said) == 5
    assert "gptq-3bit .50 [.20, .80]" in said[0]
    assert "1 displaced" in said[1]
    assert "p 0.004" in said[2]
    assert "locked: 1 displaced" in said[4]
    below = SETTING | {"redirected_bits": {"estimate": -0.5, "lower": -0.8, "upper": -0.2}}
    assert "less than nothing" in five_sentences({"settings": [below], "controls": []})[2]
    assert "cannot be told" in five_sentences({"settings": [below], "controls": []})[4]
    assert len(five_sentences({"settings": []})) == 1


def test_hypotheses_are_those_of_the_verdict_where_it_states_them():
    null, other = hypotheses(PREDICTION)
    assert "no more than answers re-weighted" in null
    assert "returns more than answers re-weighted" in other


def test_tables_of_the_verdict_keep_its_numbers():
    account = account_table([SETTING])
    assert set(account["value"]) == {BITS["estimate"]}
    assert list(account["quantity"]) == ["expressed", "redirected", "relearned"]
    row = prediction_table([SETTING]).iloc[0]
    assert (row["estimate"], row["p_corrected"], row["n"]) == (0.41, 0.004, 12)
