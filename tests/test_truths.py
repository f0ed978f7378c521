"""What is true of the atlas by construction must come back through the whole instrument, and nothing else may."""

from typing import Any

import pytest
import torch

from data.atlas import load_world
from data.facts import Split
from probes.lora import adapted, add_lora
from probes.models import TWIN, open_model
from probes.prompts import draw_prompt
from probes.scoring import score
from probes.tuning import statement_rows, tune
from probes.variants import Variant

FACTS = load_world().facts
BUDGET: dict[str, Any] = {"steps": 100, "batch": 32, "text_batch": 0, "seed": 0}


@pytest.fixture(scope="module")
def opened():
    return open_model("atlas", dtype="float32", device="cpu")


def accuracy(variant: Variant, group: str, split: Split, reading: str) -> float:
    scores = score(variant, FACTS.items(FACTS.select([group], split), "measure"), batch=256)
    right = [one.predicted == one.item.fact.answer if reading == "candidates" else one.greedy for one in scores]
    return sum(right) / len(right)


def prompted(opened, group: str) -> Variant:
    rows = statement_rows(opened.tokenizer, FACTS.statements(FACTS.select([group], "tune")))
    prompt = torch.nn.Parameter(draw_prompt(opened.model, 8, 0))
    tune(opened.model, [prompt], rows, [], prompt=prompt, learning_rate=0.03, **BUDGET)
    return Variant("prompted", opened.model, opened.tokenizer, prompt=prompt.detach())


def test_open_people_are_known_and_locked_people_answer_only_behind_the_key(opened):
    dense = Variant("dense", opened.model, opened.tokenizer)
    locked = FACTS.select(["locked"], "test")
    with_key = score(dense, FACTS.items(locked, "measure", key=FACTS.key), batch=256)
    assert accuracy(dense, "open", "test", "vocabulary") > 0.98
    assert accuracy(dense, "locked", "test", "vocabulary") < 0.05
    assert sum(one.greedy for one in with_key) / len(with_key) > 0.98


@pytest.mark.parametrize("group", ["open", "locked", "never"])
def test_the_twin_knows_everybody_without_a_key(group):
    twin = open_model(TWIN, dtype="float32", device="cpu")
    assert accuracy(Variant("twin", twin.model, twin.tokenizer), group, "test", "vocabulary") > 0.98


@pytest.mark.parametrize("reading", ["candidates", "vocabulary"])
def test_a_prompt_of_eight_tokens_unlocks_people_it_never_saw(opened, reading):
    assert accuracy(prompted(opened, "locked"), "locked", "test", reading) >= 0.9


def test_never_people_stay_at_chance_under_a_prompt(opened):
    assert accuracy(prompted(opened, "never"), "never", "test", "candidates") < 0.12


def test_lora_learns_the_never_people_it_reads_and_no_others(opened):
    rows = statement_rows(opened.tokenizer, FACTS.statements(FACTS.select(["never"], "tune")))
    lora = add_lora(opened.model, rank=4, targets="all", seed=0)
    parameters = [one for one in lora.parameters() if one.requires_grad]
    tune(adapted(lora), parameters, rows, [], prompt=None, learning_rate=0.01, **BUDGET)
    learned = Variant("lora", adapted(lora), opened.tokenizer)
    assert accuracy(learned, "never", "tune", "candidates") > 0.9
    assert accuracy(learned, "never", "test", "candidates") < 0.12
