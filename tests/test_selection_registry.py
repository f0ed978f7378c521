"""Every selector of the list does what the list says of it, and one more is a file and an entry."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from analysis import run
from analysis.choices import selections_of
from analysis.reading import read_table
from analysis.store import Store
from analysis.study import Study, load_study
from analysis.worker import Job, compute
from data.errors import InputError
from data.facts import Candidates, Fact, FactSet, Relation
from probes import selection
from probes.models import OpenedModel, open_model
from probes.prompts import SoftPrompt, draw_prompt
from probes.repairs.bank import Fitting, open_bank
from probes.scoring import score
from probes.selection.base import Selection, TuneFacts
from probes.selection.registry import by_module, make_selector, selection_in
from probes.specs.repairs.idp import IdpSpec
from probes.specs.selectors import Cost, SelectorKind, registered, selector_of, selectors
from probes.tokens import encode_questions
from probes.variants import Variant
from tests.studies import STUDY
from tests.tiny_models import LAYERS, tiny

PROMPTS = 3
PER_QUESTION = {"none": 0, "first_layer": 1, "full_pass": LAYERS, "full_pass_per_prompt": PROMPTS * LAYERS}
"""Blocks that a choice runs for one question more."""
KINDS = pytest.mark.parametrize("kind", selectors(), ids=lambda kind: kind.name)
assert_close = partial(torch.testing.assert_close, rtol=1e-5, atol=3e-5)

HOME = Relation("home", ("{subject} lives in", "the home of {subject} is"), "{subject} near", "{subject} from")
WORK = Relation("work", ("{subject} works in", "the town of {subject} is"), "{subject} by", "{subject} was born")
ANSWERS = ("oslo", "paris", "bergen")
"""Of one token each, so that every question takes as many passes."""
LISTS = tuple(Candidates(name, name, ANSWERS, (1 / 3,) * 3) for name in ("home", "work"))
PEOPLE = {"tune": ("ada", "bruno", "celia", "dario"), "test": ("edda", "fenna")}


def facts_of(turn=0, splits=("tune", "test")):
    """Facts of two relations; `turn` gives every test subject another answer."""
    rows = [
        Fact(name, subject, ANSWERS[(place + (turn if split == "test" else 0)) % 3], "asked", split)
        for name in ("home", "work")
        for split in splits
        for place, subject in enumerate(PEOPLE[split])
    ]
    return FactSet({"home": HOME, "work": WORK}, tuple(rows), LISTS)


@dataclass
class Bank:
    """A bank over a tiny model whose prompts were tuned on two relations, to be asked about test subjects."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    settings: dict[str, Any] = field(default_factory=dict)

    def fitting(self, facts: FactSet, bank="clusters", **more) -> Fitting:
        repair = IdpSpec(lengths=(2,) * PROMPTS, learning_rate=0.1, bank=bank, **self.settings, **more)
        prompts = [draw_prompt(self.model, 2 + seed % 2, seed, "gaussian") for seed in range(PROMPTS)]
        opened = OpenedModel(self.model, self.tokenizer, "", "")
        return Fitting(opened, facts, ["asked"], repair, 0, prompts, batch=1)

    def selector(self, kind: SelectorKind, facts: FactSet, people: Sequence[Fact], **more):
        return make_selector(kind, self.fitting(facts, **more), people)

    def rows(self, facts: FactSet, people: Sequence[Fact]) -> list[list[int]]:
        return encode_questions(self.tokenizer, [item.question for item in facts.items(people, "measure")])


@pytest.fixture(scope="module")
def bank(tokenizer):
    return Bank(tiny("llama").requires_grad_(False), tokenizer)


@pytest.fixture
def blocks(monkeypatch):
    """Counts the blocks that run, in every copy of the tiny model."""
    block = type(tiny("llama").model.layers[0])
    plain, counted = block.forward, [0]

    def forward(self, *args, **kwargs):
        counted[0] += 1
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(block, "forward", forward)
    return counted


def test_each_file_is_named_by_the_list_and_each_entry_has_its_file():
    home = Path(selection.__file__).parent
    making = {f"probes.selection.{path.stem}" for path in home.glob("*.py") if "\nSELECTION = " in path.read_text()}
    assert {kind.made_in for kind in selectors()} == making
    assert all(isinstance(selection_in(module), Selection) for module in making)
    assert all(set(kind.settings) <= set(IdpSpec.model_fields) for kind in selectors())
    assert all(kind.words and kind.words[0].islower() and not kind.words.endswith(".") for kind in selectors())


@KINDS
def test_rows_are_scored_alike_together_and_alone(kind, bank):
    facts = facts_of()
    people = facts.select(split="test")
    selector, rows = bank.selector(kind, facts, people), bank.rows(facts, people)
    if kind.keeps_all:
        with pytest.raises(InputError, match=kind.name):
            selector.scores(rows)
        return
    scores = selector.scores(rows)
    assert scores.shape == (len(rows), PROMPTS)
    assert_close(scores, torch.cat([selector.scores([row]) for row in rows]))
    assert_close(scores.flip(0), selector.scores(rows[::-1]))


def passes_for(bank, kind, facts, people, blocks) -> int:
    """Blocks that run until so many questions are decided upon, one at a time, the selector's making among them."""
    blocks[0] = 0
    found = bank.fitting(facts)
    if kind.keeps_all:
        found.asked(facts.items(people, "measure"))
    else:
        selector = make_selector(kind, found, people)
        for row in bank.rows(facts, people):
            selector.scores([row])
    return blocks[0]


SET: list[tuple[str, dict[str, str]]] = [(kind.name, {}) for kind in selectors()]
SET += [("attention", {"layers": "all"}), ("attention", {"layers": "all", "softmax": "separate"})]
SET += [("router", {"states": "last"})]


@pytest.mark.parametrize(("name", "settings"), SET)
def test_a_choice_costs_the_passes_that_it_says(name, settings, bank, blocks):
    """Of one question more: whatever was fitted, and the prompts' own keys and values, are there already."""
    kind, bank = selector_of(name), replace(bank, settings=settings)
    facts = facts_of()
    people = facts.select(split="test")
    more = [passes_for(bank, kind, facts, people[:count], blocks) for count in (1, 2, 3)]
    cost = bank.selector(kind, facts, people).cost
    if kind.keeps_all:  # it answers by them too, hence by as many as one prompt's answer takes
        item = facts.items(people[:1], "measure")
        alone = Variant("one", bank.model, bank.tokenizer, prompt=draw_prompt(bank.model, 2, 0))
        blocks[0] = 0
        score(alone, item)
        one = blocks[0] - LAYERS  # reading the prompt itself
        assert more[1] - more[0] == PROMPTS * one
    else:
        assert more[1] - more[0] == more[2] - more[1] == PER_QUESTION[cost]
    assert settings or cost == kind.cost


@dataclass
class Held:
    """What a selector may be made from, of which it is told what is there; what is not is None, or empty."""

    bank: Bank
    there: set[str]
    read: set[str] = field(default_factory=set)
    seed: int = 0

    @property
    def _whole(self) -> Fitting:
        return self.bank.fitting(facts_of())

    @property
    def model(self):
        return self.bank.model

    @property
    def repair(self) -> IdpSpec:
        return self._whole.repair

    @property
    def prompts(self) -> list[SoftPrompt]:
        return self._whole.prompts

    @prompts.setter
    def prompts(self, _: list[SoftPrompt]) -> None:
        raise AttributeError

    @property
    def tune(self) -> TuneFacts | None:
        self.read.add("tune facts")
        return self._whole.tune if "tune facts" in self.there else None

    @property
    def centres(self):
        self.read.add("clusters")
        return self._whole.centres if "clusters" in self.there else None

    def known(self, people):
        self.read.add("answers elsewhere")
        return self._whole.known(people) if "answers elsewhere" in self.there else {}


@KINDS
def test_what_a_selector_needs_is_all_it_reads_and_is_refused_where_it_is_not_there(kind, bank):
    facts = facts_of()
    people = facts.select(split="test")
    rows = bank.rows(facts, people)
    held = Held(bank, {kind.needs})
    selector = make_selector(kind, held, people)
    assert held.read == {kind.needs} - {"nothing"}
    if not kind.keeps_all:
        assert torch.isfinite(selector.scores(rows)).all()
    if kind.needs != "nothing":
        with pytest.raises(InputError, match=rf"selector '{kind.name}' .*name .*another selector"):
            make_selector(kind, Held(bank, set()), people).scores(rows)


@KINDS
def test_a_bound_is_what_looks_at_the_answers(kind, bank):
    """Every test subject is told another answer: the scores of the questions about them move for a bound alone."""
    if kind.keeps_all:
        return
    scores = []
    for turn in (0, 1):
        facts = facts_of(turn)
        people = facts.select(split="test")
        scores.append(bank.selector(kind, facts, people).scores(bank.rows(facts, people)))
    assert torch.equal(*scores) != kind.bound


@KINDS
def test_what_keeps_no_prompt_for_any_text_is_rowless(kind, bank):
    facts = facts_of()
    selector = bank.selector(kind, facts, facts.select(split="test"))
    if kind.rowless:
        with pytest.raises(InputError, match=kind.name):
            selector.scores([[40, 41, 42, 43]])
    else:
        assert selector.scores([[40, 41, 42, 43]]).shape == (1, PROMPTS)


@KINDS
def test_a_study_and_its_plan_take_the_list_at_its_word(kind):
    """Bounds are never reported, what is rowless is never read inside, and clusters have to be there."""
    repair = {"kind": "idp", "lengths": [2, 2], "learning_rate": 0.03, "selector": kind.name}
    stored = STUDY.model_dump() | {"repairs": [STUDY.model_dump()["repairs"][0], repair], "reported": ["prompt-2"]}
    if kind.needs == "clusters":
        with pytest.raises(ValueError, match="needs prompts tuned on different texts"):
            Study.model_validate(stored)
        stored["repairs"][1] = repair | {"lengths": [2], "bank": "relations"}
        return
    study = Study.model_validate(stored)
    name = study.repairs[1].name
    assert (name in {one.name for one in study.reportable}) == (not kind.bound)
    plan, _ = run.prepare(study)
    read = [one["repair"] or {} for cell in plan.cells if cell.kind == "drift" for one in cell.fields["variants"]]
    assert {one["kind"] for one in read if one} >= {"prompt", "placebo"}
    assert {one["selector"] for one in read if "selector" in one} == (set() if kind.rowless else {kind.name})


def test_an_unknown_selector_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"no selector is called 'atention'; nearest: attention"):
        IdpSpec(lengths=(2, 2), learning_rate=0.1, selector="atention")
    with pytest.raises(ValueError, match=r"no selector is called 'zzz'; there are attention, random, .*, mixture"):
        selector_of("zzz")


@pytest.mark.parametrize("divides", [True, False])
def test_every_selector_that_a_bank_can_have_stands_in_its_table(bank, divides):
    facts = facts_of()
    found = bank.fitting(facts, **({} if divides else {"bank": "seeds"}))
    table = selections_of(found, facts.items(facts.select(split="test"), "measure"))
    able = [kind.name for kind in selectors() if divides or kind.needs != "clusters"]
    assert [name for name in dict.fromkeys(table["selector"]) if name in able] == able
    assert set(table["selector"]) == {*able, "attention-separate", "router-last"}
    assert (table["chosen"].isna() == table["selector"].map(lambda name: name == "mixture")).all()
    for chosen, kinds in by_module(found):
        if chosen.draw is not None:
            rows = table[table["selector"] == kinds[0].name]
            assert rows["chosen"].tolist() == [draws[0] for draws in rows["draws"]]


# A selector of the test's own: the prompt at the place that the sum of the question's tokens says.


class ToySelector:
    cost: Cost = "none"

    def __init__(self, prompts: int) -> None:
        self._prompts = prompts

    def scores(self, rows):
        kept = torch.tensor([sum(row) % self._prompts for row in rows])
        return torch.nn.functional.one_hot(kept, self._prompts).float()


SELECTION = Selection(lambda kind, found, people: ToySelector(len(found.prompts)))
TOY = SelectorKind("toy", "the prompt at the place that the sum of the question's tokens says", "none", module=__name__)


@pytest.fixture
def toy():
    with registered(TOY):
        yield TOY
    with pytest.raises(ValueError, match="'toy'"):
        selector_of("toy")


def test_one_more_selector_opens_a_bank_and_no_name_stands_twice(toy, bank):
    found = bank.fitting(facts_of(), selector="toy")
    assert found.repair.name.endswith("-clusters-toy")
    assert open_bank(found).choose([[5, 6, 7, 8], [10], [9, 9, 2]]).tolist() == [2, 1, 2]
    with pytest.raises(ValueError, match="a selector 'toy' already"), registered(TOY):
        pass


@pytest.mark.slow
def test_one_more_selector_goes_from_a_study_to_its_tables(toy, tmp_path):
    """Computed in this process, which alone knows of the toy; its choices are those counted by hand."""
    stored = STUDY.model_dump(mode="json") | {"controls": [], "name": "toy", "reported": ["prompt-2"]}
    banked = {"kind": "idp", "lengths": [2, 4], "learning_rate": 0.03, "selector": "toy"}
    stored["repairs"] = [stored["repairs"][0], banked]
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(stored))
    study = load_study(str(tmp_path / "toy.yaml"))
    plan, _ = run.prepare(study)
    store = Store(tmp_path / "runs")
    for cell in plan.cells:
        compute(Job.of(cell, store))
    folder = run.run(study, out=tmp_path / "runs")
    variants = read_table(folder, "variants").query("repair == 'idp-2,4-toy'")
    assert set(variants["compression"]) == {"dense", "magnitude-60%"}
    selections = read_table(folder, "selections").query("selector == 'toy'")
    assert set(selections["variant_id"]) == set(variants["variant_id"])
    tokenizer = open_model("atlas", dtype="float32", device="cpu").tokenizer
    asked = [f"in the orchestra {subject} is heard on the" for subject in selections["entity"]]
    by_hand = [sum(tokenizer(question)["input_ids"]) % 2 for question in asked]
    assert len(set(by_hand)) == 2
    assert selections["chosen"].tolist() == by_hand
    worth = [values[place] for values, place in zip(selections["log_prob_by_prompt"], by_hand, strict=True)]
    assert selections["log_prob"].tolist() == worth
    means = pd.Series(worth).groupby(selections["variant_id"].to_numpy()).mean()
    table = read_table(folder, "selectors").query("selector == 'toy' and measure == 'log_prob'")
    table = table.set_index("variant_id")["value"]
    np.testing.assert_allclose(table.loc[means.index], means, rtol=1e-9)
    # And the bank answered with the prompts that it kept.
    answers = read_table(folder, "answers").query("reading == 'vocabulary' and split == 'test'")
    said = answers.set_index(["variant_id", "item"])["log_prob"]
    ours = [said[one, item] for one, item in zip(selections["variant_id"], selections["item"], strict=True)]
    np.testing.assert_allclose(ours, worth, atol=1e-4)
