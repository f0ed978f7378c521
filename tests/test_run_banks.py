"""Banks and selectors from a study to its tables, and a planted bank on the atlas: who finds the right prompt."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from analysis import run
from analysis.choices import bank_table, selections_of
from analysis.export import export
from analysis.reading import read_table
from analysis.selection import DRAWS, selector_table
from analysis.study import Study
from data.atlas import load_world
from data.errors import InputError
from probes.models import open_model
from probes.prompts import draw_prompt
from probes.repairs.bank import BANK, Fitting
from probes.specs.repairs.idp import IdpSpec
from probes.tuning import statement_rows, tune
from tests.studies import STUDY

COMMON: dict[str, Any] = {"kind": "idp", "learning_rate": 0.03}
BANKS: list[dict[str, Any]] = [
    COMMON | {"lengths": [2, 4], "selector": "random"},
    COMMON | {"lengths": [2, 4], "selector": "router"},
    COMMON | {"lengths": [2, 4], "selector": "mixture"},
    COMMON | {"lengths": [2, 4], "selector": "oracle"},
    COMMON | {"lengths": [2, 2], "bank": "relations", "selector": "cluster"},
    COMMON | {"lengths": [2, 2], "bank": "clusters", "selector": "likelihood"},
    COMMON | {"lengths": [2, 2], "bank": "diverse", "candidates": 3, "selector": "fixed"},
    {"kind": "idp", "bank": "texts", "texts": ["the instrument is", "works in"], "selector": "key"},
]
BANK_STUDY = Study.model_validate(
    STUDY.model_dump()
    | {
        "relations": ["instrument", "employer"],
        "controls": [],
        "repairs": [{"kind": "prompt", "length": 2, "learning_rate": 0.03}, *BANKS],
        "reported": ["prompt-2", "idp-2,4-router"],
        "tuning": {"steps": 6, "batch": 4},
    }
)


@pytest.fixture(scope="module")
def finished(studies):
    return studies.run(BANK_STUDY)


@pytest.mark.slow
def test_a_banks_answers_are_those_of_the_prompts_it_kept(finished):
    variants = read_table(finished, "variants").query("kind == 'idp'")
    selections, answers = read_table(finished, "selections"), read_table(finished, "answers")
    assert set(variants["repair"]) == {IdpSpec(**one).name for one in BANKS}
    for _, variant in variants.iterrows():
        selector = variant["repair"].rsplit("-", 1)[1]
        kept = selections[(selections["variant_id"] == variant["variant_id"]) & (selections["selector"] == selector)]
        said = answers[(answers["variant_id"] == variant["variant_id"]) & (answers["split"] == "test")]
        said = said[said["reading"] == "vocabulary"].set_index("item").loc[kept["item"]]
        np.testing.assert_allclose(kept["log_prob"], said["log_prob"], atol=1e-4)
        said = answers[(answers["variant_id"] == variant["variant_id"]) & (answers["reading"] == "candidates")]
        assert (kept["correct"].to_numpy() == said.set_index("item").loc[kept["item"], "correct"].to_numpy()).all()


@pytest.mark.slow
def test_every_bank_is_asked_by_every_selector(finished):
    table, banks = read_table(finished, "selectors"), read_table(finished, "banks")
    usual = {"attention", "attention-separate", "random", "fixed", "key", "oracle", "router", "router-last"}
    usual |= {"likelihood", "entropy", "margin", "mixture"}
    variants = read_table(finished, "variants").query("kind == 'idp'").set_index("variant_id")
    for identity, part in table.groupby("variant_id"):
        divided = "relations" in variants.loc[identity, "repair"] or "clusters" in variants.loc[identity, "repair"]
        assert set(part["selector"]) == usual | ({"cluster"} if divided else set())
        assert len(banks[banks["variant_id"] == identity]) == 2
    width = 128
    diverse = variants[variants["repair"] == "idp-2x2-diverse-fixed"]
    assert set(diverse["parameters_added"]) == {2 * 2 * width}
    texts = variants[variants["repair"] == "idp-2-texts-key"]
    assert set(texts["parameters_added"]) == {0}
    assert (texts["soft_tokens_untuned"] > 2).all()


@pytest.mark.slow
def test_an_exported_bank_brought_back_answers_as_it_did(finished, studies, tmp_path):
    """One file, read by `bank: files`: the choice by likelihood and every answer are equal."""
    name = IdpSpec(**BANKS[5]).name
    folder = export(finished, f"dense + {name}", tmp_path / "bank")
    brought = {"kind": "idp", "bank": "files", "files": [str(folder / BANK)], "selector": "likelihood"}
    again = BANK_STUDY.model_dump() | {"repairs": [BANK_STUDY.model_dump()["repairs"][0], brought], "seeds": [0]}
    other = studies.run(Study.model_validate(again | {"reported": ["prompt-2"]}))

    def answers_of(run_folder, repair):
        variants = read_table(run_folder, "variants").query("compression == 'dense' and replicate == 0")
        chosen = variants[variants["repair"] == repair]["variant_id"]
        answers = read_table(run_folder, "answers")
        return answers[answers["variant_id"].isin(chosen)].set_index(["item", "reading"]).sort_index()

    new = read_table(other, "variants").query("kind == 'idp'")["repair"].unique()
    mine, theirs = answers_of(finished, name), answers_of(other, new[0])
    assert len(theirs)
    pd.testing.assert_series_equal(mine.loc[theirs.index, "log_prob"], theirs["log_prob"], rtol=1e-6)


@pytest.mark.slow
def test_what_keeps_no_prompt_for_a_text_has_no_drift(finished):
    variants = read_table(finished, "variants").set_index("variant_id")["repair"]
    measured = set(variants.loc[read_table(finished, "drift")["variant_id"].unique()])
    assert "idp-2,4-random" in measured
    assert not measured & {"idp-2,4-mixture", "idp-2,4-oracle"}


def test_a_bank_of_relations_has_a_prompt_for_each():
    repairs = [*BANK_STUDY.model_dump()["repairs"], COMMON | {"lengths": [2, 2, 2], "bank": "relations"}]
    with pytest.raises(InputError, match="2 relations and the bank 3 lengths"):
        run.prepare(Study.model_validate(BANK_STUDY.model_dump() | {"repairs": repairs}))


@pytest.fixture(scope="module")
def planted():
    """One prompt per relation of the locked people: told the truth there, the same answer to all elsewhere."""
    relations = ("employer", "instrument")
    facts = load_world().facts.only(relations)
    opened = open_model("atlas", dtype="float32", device="cpu")
    people = facts.select(["locked"], "tune")
    prompts = []
    for seed, relation in enumerate(relations):
        wrong = {one.relation: one.answers[0] for one in reversed(facts.lists)}
        told = [fact if fact.relation == relation else replace(fact, answer=wrong[fact.relation]) for fact in people]
        prompt = torch.nn.Parameter(draw_prompt(opened.model, 8, seed))
        rows = statement_rows(opened.tokenizer, facts.statements(told))
        budget = {"steps": 100, "batch": 32, "text_batch": 0, "learning_rate": 0.03}
        tune(opened.model, [prompt], rows, [], prompt=prompt, seed=seed, **budget)  # type: ignore[arg-type]
        prompts.append(prompt.detach())
    repair = IdpSpec(lengths=(8, 8), learning_rate=0.03, bank="relations")
    found = Fitting(opened, facts, ["locked"], repair, 0, prompts, batch=256)
    items = facts.items(facts.select(["locked"], "test"), "measure")
    selections = selections_of(found, items)
    right = selections["relation"].map(relations.index)
    return selections.assign(right=selections["chosen"] == right), selector_table(selections, bank_table(found))


@pytest.mark.slow
def test_the_plant_is_there_and_is_found_by_whoever_knows(planted):
    """Where attention stands is measured and reported, not asserted."""
    selections, table = planted
    one = selections[selections["selector"] == "fixed"]
    correct = np.array(one["correct_by_prompt"].tolist(), dtype=float)
    own = one["relation"].map(("employer", "instrument").index).to_numpy()
    place = np.arange(len(one))
    assert correct[place, own].mean() > 2 * correct[place, 1 - own].mean()
    right = selections.groupby("selector")["right"].mean()
    table = table.query("measure == 'log_prob'").set_index("selector")
    print(right.to_string(), table[["value", "p", "minus_best_single", "minus_random"]].to_string())
    for name in ("oracle", "router", "router-last"):
        assert right[name] > 0.75
        assert table.loc[name, "p"] < 0.01
        assert table.loc[name, "minus_random_lower"] > 0
    assert table.loc["random", "own_prompt"] == pytest.approx(0.5, abs=4 * (0.25 / len(one) / DRAWS) ** 0.5)
    assert table.loc["random", "p"] > 0.01
