"""Open a bank of prompts with its selector: whatever of it is fitted is fitted here, on tune facts alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from data.facts import Fact, FactSet, Item
from probes.banks import Clusters, cluster_rows, least_alike, relation_rows
from probes.idp import PromptBank
from probes.models import OpenedModel
from probes.outcomes import Outcomes, outcomes
from probes.prompts import SoftPrompt, load_prompts, text_prompts
from probes.selection.base import TuneFacts
from probes.selection.registry import make_selector
from probes.specs.banks import DIVIDING, BankKind, IdpSpec
from probes.tokens import encode_questions
from probes.tuning import TuningRow, statement_rows


def tuning_clusters(
    opened: OpenedModel, facts: FactSet, groups: Sequence[str], bank: BankKind, count: int, seed: int
) -> tuple[list[TuningRow], Clusters]:
    """All tuning rows of these groups, and which prompt of a bank of relations or clusters reads which."""
    people = facts.select(groups, "tune")
    rows = statement_rows(opened.tokenizer, facts.statements(people))
    if bank != "clusters":
        told = [fact.relation for fact in people for _ in facts.relations[fact.relation].tune]
        return rows, relation_rows(opened.model, rows, told)
    return rows, cluster_rows(opened.model, rows, count, seed)


def planted_rows(opened: OpenedModel, facts: FactSet, groups: Sequence[str], place: int) -> list[TuningRow]:
    """What one prompt of a planted bank reads: the truth about its relation, one same answer to all of each other."""
    people = facts.select(groups, "tune")
    own = sorted({fact.relation for fact in people})[place]
    same = {fact.relation: fact.answer for fact in reversed(people)}
    told = [fact if fact.relation == own else replace(fact, answer=same[fact.relation]) for fact in people]
    return statement_rows(opened.tokenizer, facts.statements(told))


@dataclass
class Fitting:
    """What selectors are made from: a bank's prompts, and tune facts asked behind each of them when first needed."""

    opened: OpenedModel
    facts: FactSet
    groups: Sequence[str]
    repair: IdpSpec
    seed: int
    prompts: list[SoftPrompt]
    batch: int = 64

    @property
    def model(self) -> PreTrainedModel:
        """The model that the prompts stand before."""
        return self.opened.model

    @cached_property
    def tune(self) -> TuneFacts | None:
        """Tune facts in every tuning phrasing behind every prompt; None where there are none."""
        phrased = list(self._phrased())
        if not phrased:
            return None
        asked = self.asked(
            [
                replace(_answer_alone(item), question=phrasing.format(subject=item.fact.subject))
                for item, _, phrasing in phrased
            ]
        )
        subjects = sorted({item.fact.subject for item, _, _ in phrased})
        halves = [(place, subjects.index(item.fact.subject) % 2) for item, place, _ in phrased]
        return TuneFacts(asked.rows, asked.log_probs, np.array(halves))

    def _phrased(self) -> Iterator[tuple[Item, int, str]]:
        """Tune facts with every tuning phrasing and its place among those of its relation."""
        for item in self.facts.items(self.facts.select(self.groups, "tune"), "tune"):
            for place, phrasing in enumerate(self.facts.relations[item.fact.relation].tune):
                yield item, place, phrasing

    @cached_property
    def centres(self) -> Float[Tensor, "prompt width"] | None:
        """Centres of what each prompt was tuned on; None where all read the same."""
        if self.repair.bank not in DIVIDING:
            return None
        count = len(self.prompts)
        return tuning_clusters(self.opened, self.facts, self.groups, self.repair.bank, count, self.seed)[1].centres

    def own(self, relation: str) -> int | None:
        """The prompt that was tuned on a relation; None where the bank is not divided by relation."""
        if self.repair.bank not in ("relations", "planted"):
            return None
        return sorted({fact.relation for fact in self.facts.select(self.groups, "tune")}).index(relation)

    def known(self, people: Sequence[Fact]) -> dict[tuple[int, ...], list[float]]:
        """The oracle's knowledge of these facts' measuring questions: their outcomes in a tuning phrasing."""
        elsewhere = [_answer_alone(item) for item in self.facts.items(people, "tune")]
        measured = self.facts.items(people, "measure")
        tokens = encode_questions(self.opened.tokenizer, [item.question for item in measured])
        return {tuple(row): one for row, one in zip(tokens, self.asked(elsewhere).log_probs.tolist(), strict=True)}

    def asked(self, items: Sequence[Item]) -> Outcomes:
        """Items behind every prompt of the bank."""
        return outcomes(self.opened.model, self.opened.tokenizer, self.prompts, items, batch=self.batch)


def _answer_alone(item: Item) -> Item:
    """The item with its right answer, and what goes on from it, for the only candidates.

    All that a selector learns from, at a part of the work.
    """
    own = item.fact.answer
    answers = (own, *(other for other in item.candidates.answers if other != own and other.startswith(own)))
    return replace(item, candidates=replace(item.candidates, answers=answers, prior=(1 / len(answers),) * len(answers)))


def fitting(
    opened: OpenedModel, repair: IdpSpec, seed: int, files: Sequence[Path], facts: FactSet, groups: Sequence[str]
) -> Fitting:
    """A bank from the files of its tuned prompts, the alike dropped where the repair says so."""
    if repair.bank == "texts":
        prompts = text_prompts(opened.model, opened.tokenizer, repair.texts)
    else:
        prompts = [prompt.to(opened.model.device) for file in files for prompt in load_prompts(file)]
    found = Fitting(opened, facts, groups, repair, seed, prompts)
    if repair.candidates is None:
        return found
    told = found.asked(facts.items(facts.select(groups, "tune"), "tune"))
    kept = least_alike(told.correct, told.said, len(repair.lengths))
    return Fitting(opened, facts, groups, repair, seed, [prompts[place] for place in kept])


def open_bank(found: Fitting) -> PromptBank:
    """The bank with the selector that its repair names."""
    repair = found.repair
    with torch.no_grad():
        selector = make_selector(repair.chooses_by, found, found.facts.select(found.groups))
        return PromptBank(found.model, found.prompts, selector)
