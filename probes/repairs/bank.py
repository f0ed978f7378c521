"""Open a bank of prompts with its selector: whatever of it is fitted is fitted here, on tune facts alone."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data.errors import InputError
from data.facts import Fact, FactSet, Item
from probes.banks import Clusters, cluster_rows, least_alike, relation_rows
from probes.idp import PromptBank
from probes.models import OpenedModel
from probes.outcomes import Outcomes, outcomes
from probes.prompts import SoftPrompt, brought_prompts, load_prompts, save_prompts, text_prompts
from probes.repairs.base import PROMPT, Making, Opening, RepairWork, Size
from probes.repairs.registry import work_of
from probes.selection.base import TuneFacts
from probes.selection.registry import make_selector
from probes.specs.repairs.bank import BY_RELATION, DIVIDING, BankKind, BankSpec
from probes.specs.repairs.base import Repair
from probes.specs.repairs.idp import IdpSpec
from probes.tokens import encode_questions
from probes.tuning import TuningRow, statement_rows
from probes.variants import Variant

BANK = "bank.safetensors"
"""The file that a bank is written to for use outside."""


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
        if self.repair.bank not in BY_RELATION:
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


def open_bank(found: Fitting) -> PromptBank:
    """The bank with the selector that its repair names."""
    repair = found.repair
    with torch.no_grad():
        selector = make_selector(repair.chooses_by, found, found.facts.select(found.groups))
        return PromptBank(found.model, found.prompts, selector)


B = TypeVar("B", bound=BankSpec)


class BankWork(RepairWork[B]):
    """A bank of prompts, however they are used."""

    def idp(self, spec: B) -> IdpSpec:
        """The bank with its selector."""
        raise NotImplementedError

    def fitting(self, spec: B, opening: Opening) -> Fitting:
        """The bank's prompts, the alike dropped where the repair says so, and what its selectors are made from."""
        opened, repair = opening.under(), self.idp(spec)
        if repair.texts:
            prompts = text_prompts(opened.model, opened.tokenizer, repair.texts)
        else:
            made = sum(role.startswith("tuned") for role in opening.needs)
            files = [opening.needs[f"tuned{place}"] / PROMPT for place in range(made)]
            prompts = [prompt.to(opened.model.device) for file in files for prompt in load_prompts(file)]
        found = Fitting(opened, opening.facts(), opening.groups, repair, opening.drawn_with, prompts)
        if repair.candidates is None:
            return found
        told = found.asked(found.facts.items(found.facts.select(found.groups, "tune"), "tune"))
        kept = least_alike(told.correct, told.said, len(repair.lengths))
        return replace(found, prompts=[prompts[place] for place in kept])

    def open(self, spec: B, opening: Opening) -> Variant:
        """What the bank stands over, with the bank before it."""
        found = self.fitting(spec, opening)
        return replace(opening, parent=found.opened).variant(bank=open_bank(found))

    def make(self, spec: B, making: Making, folder: Path) -> Size:
        """Keep the prompts of several files as one bank."""
        prompts = brought_prompts(_files(spec))
        save_prompts(prompts, folder / PROMPT)
        return Size.of(prompts, ())

    def parameters(self, spec: B, model: PreTrainedModel) -> int | None:
        """Of the prompts that are kept, and of the adapter under them."""
        if not spec.tuned:
            return None
        under = 0 if spec.adapter is None else work_of(spec.adapter).parameters(spec.adapter, model)
        assert under is not None
        return sum(spec.lengths) * int(model.config.hidden_size) + under

    def lengths(self, spec: B, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> list[int]:
        """Tokens of each prompt, whether it is tuned, a text or of a file."""
        held = brought_prompts(_files(spec)) if spec.files else []
        return [*super().lengths(spec, model, tokenizer, name), *map(len, held)]

    def sha(self, spec: B) -> str:
        """Hash of the files of its prompts.

        Raises:
            InputError: they are not there, or hold fewer than two prompts.
        """
        files = _files(spec)
        if len(brought_prompts(files)) < 2:
            raise InputError(f"bank of {spec.files[0]}: it holds one prompt, and a choice needs two or more")
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()

    def only_vectors(self, spec: B) -> bool:
        """Where no adapter stands under it."""
        return spec.adapter is None

    def write(self, spec: B, opening: Opening, to: Path) -> None:
        """The prompts that it keeps, in its order, as one file, which a bank of files reads: peft has no form for it.

        Raises:
            InputError: an adapter stands under it.
        """
        if spec.adapter is not None:
            super().write(spec, opening, to)
        prompts = self.fitting(spec, opening).prompts
        to.mkdir(parents=True)
        said = {"model": opening.base, "variant": opening.name, "scope": opening.scope}
        save_prompts(prompts, to / BANK, said)


def fitting_of(repair: Repair, opening: Opening) -> Fitting:
    """The bank that a repair is, opened."""
    work = work_of(repair)
    assert isinstance(work, BankWork)
    return work.fitting(repair, opening)


def _files(spec: BankSpec) -> list[Path]:
    return [Path(file).expanduser() for file in spec.files]
