"""Open a bank of prompts with its selector: whatever of it is fitted is fitted here, on tune facts alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from data.facts import Fact, FactSet, Item
from probes.banks import Clusters, cluster_rows, least_alike, relation_rows
from probes.idp import AttentionSelector, PromptBank, PromptSelector, Selector
from probes.models import OpenedModel
from probes.outcomes import Outcomes, outcomes
from probes.prompts import SoftPrompt, load_prompts, text_prompts
from probes.router import RouterSelector
from probes.selectors import (
    OUTPUT_READINGS,
    FixedSelector,
    KeySelector,
    MixtureSelector,
    OracleSelector,
    OutputSelector,
    RandomSelector,
)
from probes.specs.banks import DIVIDING, BankKind, IdpSpec, RouterStates, SelectorKind
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

    @cached_property
    def tune(self) -> Outcomes | None:
        """Tune facts in every tuning phrasing behind every prompt; None where there are none."""
        items = [
            replace(_answer_alone(item), question=phrasing.format(subject=item.fact.subject))
            for item, _, phrasing in self._phrased()
        ]
        return self.asked(items) if items else None

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

    def router(self, states: RouterStates) -> RouterSelector:
        """The learned choice: what of it is not fitted is chosen by leaving out a phrasing and half of the entities."""
        tune = self.tune
        rows, log_probs = ([], None) if tune is None else (tune.rows, tune.log_probs)
        phrased = [(item.fact.subject, place) for item, place, _ in self._phrased()]
        subjects = sorted({subject for subject, _ in phrased})
        groups = np.array([(place, subjects.index(subject) % 2) for subject, place in phrased]).reshape(-1, 2)
        return RouterSelector.fit(self.opened.model, rows, log_probs, states, groups=groups)

    def drawn(self, rows: Sequence[Sequence[int]], draws: int) -> Int[np.ndarray, "row draw"]:
        """Choices by seeds from the bank's own on: the first is what its selector 'random' keeps."""
        selectors = [RandomSelector(len(self.prompts), self.seed + draw) for draw in range(draws)]
        return np.stack([selector.scores(rows).argmax(dim=1).numpy() for selector in selectors], axis=1)

    @property
    def attention(self) -> Selector:
        """The settings of the choice by attention."""
        repair = self.repair
        return Selector(repair.layers, repair.queries, repair.per_token, repair.heads, repair.softmax)

    def selector(self, kind: SelectorKind) -> PromptSelector:
        """A selector of a kind, fitted on tune facts where it is one that learns.

        Raises:
            InputError: what it is fitted on is not there.
        """
        model = self.opened.model
        if kind == "attention":
            return AttentionSelector(model, self.prompts, self.attention)
        if kind == "random":
            return RandomSelector(len(self.prompts), self.seed)
        if kind == "fixed":
            return FixedSelector.best(None if self.tune is None else self.tune.log_probs)
        if kind in OUTPUT_READINGS:
            return OutputSelector(model, self.prompts, kind)
        if kind == "key":
            return KeySelector.of_prompts(model, self.prompts)
        if kind == "cluster":
            return KeySelector.of_clusters(model, self.centres)
        if kind == "router":
            return self.router(self.repair.states)
        return OracleSelector(self.known(self.facts.select(self.groups))) if kind == "oracle" else MixtureSelector()


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
    with torch.no_grad():
        return PromptBank(found.opened.model, found.prompts, found.selector(found.repair.selector))
