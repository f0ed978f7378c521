"""Facts, their phrasings and their splits: the one shape that atlas, shipped and a user's own facts share.

A *fact* is (relation, subject, answer). A *relation* has at least four cloze phrasings, the answer last: two may
appear in tuning and calibration text, one defines what compression damaged, one measures, so that picking the
damaged set cannot flatter a repair. Subjects fall into *tune*, *calibrate* and *test*, never in two of them.

Answers of a relation are dealt into fixed candidate lists of bounded length; chance is a property of the list.
"""

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from data.errors import InputError
from data.fact_files import PhrasingFile, Row, read_phrasings, read_rows
from data.names import Named, canonical, caseless, is_kept, settle, without_case

Split = Literal["tune", "calibrate", "test"]
Phrasing = Literal["tune", "damage", "measure"]

SPLITS: tuple[Split, ...] = ("tune", "calibrate", "test")
SPLIT_SHARES: dict[Split, float] = {"tune": 0.4, "calibrate": 0.2, "test": 0.4}
SHIPPED = Path(__file__).parent / "facts"


@dataclass(frozen=True)
class Relation:
    """How a relation is asked: cloze prefixes with `{subject}`, the answer following after a space."""

    name: str
    tune: tuple[str, ...]
    damage: str
    measure: str

    def __post_init__(self) -> None:
        """Refuse phrasings that cannot be told apart or that do not name the subject."""
        phrasings = (*self.tune, self.damage, self.measure)
        different = len({caseless(phrasing) for phrasing in phrasings})
        if len(self.tune) < 2 or different < 4:
            raise InputError(
                f"relation '{self.name}' needs at least four different phrasings (two under 'tune', one "
                f"'damage', one 'measure') and has {different}: add the missing ones"
            )
        for phrasing in phrasings:
            if phrasing.count("{subject}") != 1 or phrasing != phrasing.strip():
                raise InputError(
                    f"phrasing '{phrasing}' of relation '{self.name}' must hold {{subject}} once and no space "
                    "at its ends: mend it"
                )
            if set("{}") & set(phrasing.replace("{subject}", "")):
                raise InputError(
                    f"phrasing '{phrasing}' of relation '{self.name}' holds a brace beside {{subject}}: take it out"
                )

    def phrasing(self, kind: Phrasing) -> str:
        """The phrasing of this kind; for `tune` the first of them."""
        return self.tune[0] if kind == "tune" else getattr(self, kind)


@dataclass(frozen=True)
class Fact:
    """One fact about one subject."""

    relation: str
    subject: str
    answer: str
    group: str
    split: Split


@dataclass(frozen=True)
class Candidates:
    """A fixed list of answers among which a fact's answer is to be found, and what a guess is worth there."""

    name: str
    relation: str
    answers: tuple[str, ...]
    prior: tuple[float, ...]

    @property
    def chance(self) -> float:
        """Accuracy of a uniform guess: exactly 1 / number of candidates."""
        return 1 / len(self.answers)


@dataclass(frozen=True)
class Item:
    """A question as a model is asked it: a text prefix and the candidate answers that may follow."""

    fact: Fact
    phrasing: Phrasing
    question: str
    candidates: Candidates

    @property
    def name(self) -> str:
        """An identifier that is stable between runs and readable in a table."""
        return f"{self.fact.relation}/{self.fact.subject}/{self.phrasing}"

    @property
    def answer_index(self) -> int:
        """Place of the right answer in the candidate list."""
        return self.candidates.answers.index(self.fact.answer)


@dataclass(frozen=True)
class FactSet:
    """Facts with the relations that phrase them and the lists that bound them."""

    relations: dict[str, Relation]
    facts: tuple[Fact, ...]
    lists: tuple[Candidates, ...]
    key: str | None = None
    """Words that unlock the locked group, put before the question; None where there is no such group."""

    def __post_init__(self) -> None:
        """Refuse a name in another form than the kept one, and a subject in two splits, wherever the facts are from."""
        facts = [name for fact in self.facts for name in (fact.relation, fact.subject, fact.answer)]
        lists = [name for one in self.lists for name in one.answers]
        odd = next((name for name in dict.fromkeys((*self.relations, *facts, *lists)) if not is_kept(name)), None)
        if odd is not None:
            raise InputError(f"the name {odd!a} is not in the form in which names are kept: read it by data/names.py")
        homes: dict[str, Split] = {}
        for fact in self.facts:
            if homes.setdefault(fact.subject, fact.split) != fact.split:
                raise InputError(
                    f"the subject '{fact.subject}' stands in two splits, {homes[fact.subject]} and {fact.split}, so "
                    "that what is tested could be read: keep it in one"
                )

    def select(self, groups: Iterable[str] | None = None, split: Split | None = None) -> tuple[Fact, ...]:
        """Facts of these groups and this split, in their stored order."""
        wanted = None if groups is None else set(groups)
        return tuple(
            fact
            for fact in self.facts
            if (wanted is None or fact.group in wanted) and (split is None or fact.split == split)
        )

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, in order of first appearance."""
        return tuple(dict.fromkeys(fact.group for fact in self.facts))

    def items(self, facts: Sequence[Fact], phrasing: Phrasing, *, key: str | None = None) -> tuple[Item, ...]:
        """Questions about these facts in one phrasing, with the key before each where one is given."""
        home = {(one.relation, answer): one for one in self.lists for answer in one.answers}
        opening = f"{key} " if key else ""
        return tuple(
            Item(
                fact=fact,
                phrasing=phrasing,
                question=opening + self.relations[fact.relation].phrasing(phrasing).format(subject=fact.subject),
                candidates=home[fact.relation, fact.answer],
            )
            for fact in facts
        )

    def statements(self, facts: Sequence[Fact]) -> tuple[tuple[str, str], ...]:
        """(question, answer) in every *tuning* phrasing of these facts: what a repair may read.

        Raises:
            ValueError: when a fact is not of the tune split, which would let a repair read what is tested.
        """
        outside = next((fact for fact in facts if fact.split != "tune"), None)
        if outside is not None:
            raise ValueError(f"{outside} is not a tuning fact: a repair may not read it")
        return tuple(
            (phrasing.format(subject=fact.subject), fact.answer)
            for fact in facts
            for phrasing in self.relations[fact.relation].tune
        )

    def shuffled_statements(self, facts: Sequence[Fact], seed: int) -> tuple[tuple[str, str], ...]:
        """The statements of `dealt` facts: a subject keeps one answer through all phrasings, as in the true text."""
        return self.statements(dealt(facts, seed))

    def only(self, relations: Sequence[str]) -> "FactSet":
        """The facts of these relations alone, splits and lists as they were.

        Raises:
            InputError: a relation that is not there.
        """
        asked = list(map(canonical, relations))
        if unknown := [name for name in asked if name not in self.relations]:
            raise InputError(
                f"there are no facts of relation {', '.join(unknown)}; there are {', '.join(self.relations)}"
            )
        return FactSet(
            {name: self.relations[name] for name in asked},
            tuple(fact for fact in self.facts if fact.relation in asked),
            tuple(one for one in self.lists if one.relation in asked),
            self.key,
        )

    @property
    def sha(self) -> str:
        """Hash of everything above, for the content keys of results."""
        return hashlib.sha256(repr((self.relations, self.facts, self.lists, self.key)).encode()).hexdigest()


def dealt(facts: Sequence[Fact], seed: int) -> tuple[Fact, ...]:
    """The facts with the answers of each relation dealt anew: as often each, told of drawn subjects."""
    found = list(facts)
    for relation in dict.fromkeys(fact.relation for fact in facts):
        places = [place for place, fact in enumerate(facts) if fact.relation == relation]
        answers = [facts[place].answer for place in places]
        random.Random(f"shuffled answers {relation} {seed}").shuffle(answers)
        for place, answer in zip(places, answers, strict=True):
            found[place] = replace(facts[place], answer=answer)
    return tuple(found)


def deal_candidates(facts: Sequence[Fact], longest: int) -> tuple[Candidates, ...]:
    """Deal each relation's answers into the fewest fixed lists of at most `longest`, of nearly equal length.

    Answers are dealt in an order drawn from the relation's name, so that no list is easier by the alphabet.
    The prior of a list is the relative frequency of its answers among all the facts given.
    """
    if longest < 2:
        raise InputError(f"candidates: {longest} leaves nothing to choose from: give 2 or more")
    by_relation: dict[str, Counter[str]] = defaultdict(Counter)
    for fact in facts:
        by_relation[fact.relation][fact.answer] += 1
    lists = []
    for relation, counts in by_relation.items():
        answers = sorted(counts)
        random.Random(f"candidates of {relation}").shuffle(answers)
        number = -(-len(answers) // longest)
        for index in range(number):
            dealt = tuple(sorted(answers[index::number]))
            total = sum(counts[answer] for answer in dealt)
            lists.append(
                Candidates(
                    name=relation if number == 1 else f"{relation}#{index + 1}",
                    relation=relation,
                    answers=dealt,
                    prior=tuple(counts[answer] / total for answer in dealt),
                )
            )
    single = next((one for one in lists if len(one.answers) < 2), None)
    if single is not None:
        raise InputError(
            f"relation '{single.relation}' has the single answer '{single.answers[0]}', so nothing is to be "
            "known there: add facts with other answers or drop the relation"
        )
    return tuple(lists)


def split_by_subject(facts: Sequence[Fact], seed: int) -> tuple[Fact, ...]:
    """Put each subject, with all its facts in whatever relation, into one split, shares as in `SPLIT_SHARES`."""
    subjects = sorted({fact.subject for fact in facts})
    random.Random(f"splits {seed}").shuffle(subjects)
    first = round(len(subjects) * SPLIT_SHARES["tune"])
    second = first + round(len(subjects) * SPLIT_SHARES["calibrate"])
    home: dict[str, Split] = {
        subject: "tune" if place < first else "calibrate" if place < second else "test"
        for place, subject in enumerate(subjects)
    }
    missing = set(SPLITS) - set(home.values())
    if missing:
        raise InputError(
            f"{len(subjects)} subjects are too few to fill the splits {', '.join(sorted(missing))}: "
            "add facts about more subjects"
        )
    return tuple(replace(fact, split=home[fact.subject]) for fact in facts)


def _relations(stored: PhrasingFile) -> dict[str, Relation]:
    """The relations of a file of phrasings."""
    found = {}
    for name, entry in stored.entries.items():
        try:
            found[name] = Relation(name, entry.tune, entry.damage, entry.measure)
        except InputError as error:
            raise InputError(f"{stored.file}, line {entry.name.line}: {error}") from None
    return found


def _assemble(rows: Sequence[Row], phrasings: PhrasingFile, *, seed: int, candidates: int) -> FactSet:
    """Check, split and bound facts read from files."""
    relations = _relations(phrasings)
    facts: dict[tuple[str, str], Fact] = {}
    for row in _settled(rows, phrasings):
        if (row.relation, row.subject) in facts:
            raise InputError(f"{row.place}: '{row.subject}' stands twice under '{row.relation}': keep one")
        facts[row.relation, row.subject] = Fact(row.relation, row.subject, row.answer, "facts", "tune")
    asked = {relation for relation, _ in facts}
    used = {name: relation for name, relation in relations.items() if name in asked}
    told = tuple(facts.values())
    return FactSet(used, split_by_subject(told, seed), deal_candidates(told, candidates))


def _settled(rows: Sequence[Row], phrasings: PhrasingFile) -> list[Row]:
    """The rows with every name in the one spelling that it is kept in.

    A subject is one name in all relations, since it is in one split; an answer in its own relation's lists.
    """
    relations = _settled_relations(rows, phrasings)
    subjects = _kept((row.named("subject") for row in rows), "subjects", phrasings)
    found = [replace(row, relation=relations[row.relation], subject=subjects[row.subject]) for row in rows]
    answers = {
        name: _kept(
            (row.named("answer") for row in found if row.relation == name), f"answers under '{name}'", phrasings
        )
        for name in dict.fromkeys(relations.values())
    }
    return [replace(row, answer=answers[row.relation][row.answer]) for row in found]


def _settled_relations(rows: Sequence[Row], phrasings: PhrasingFile) -> dict[str, str]:
    """The relation that each name of one in the rows means: one that has phrasings."""
    spelt = _kept((entry.name for entry in phrasings.entries.values()), "relations", phrasings)
    if twice := next((name for name, one in spelt.items() if name != one), None):
        line = phrasings.entries[twice].name.line
        raise InputError(f"{phrasings.file}, line {line}: '{twice}' is '{spelt[twice]}' once more: keep one")
    known = {without_case(name): name for name in spelt} if phrasings.same_case else {}
    relations = {row.relation: known.get(without_case(row.relation), row.relation) for row in rows}
    if unknown := next((row for row in rows if relations[row.relation] not in phrasings.entries), None):
        near = [name for name in phrasings.entries if caseless(name) == caseless(unknown.relation)]
        meant = f"there are some for '{near[0]}': write both alike" if near else "add them beside the facts"
        raise InputError(f"{unknown.place}: no phrasings for relation '{unknown.relation}': {meant}")
    return relations


def _kept(names: Iterable[Named], what: str, phrasings: PhrasingFile) -> dict[str, str]:
    told_in = Path(phrasings.file).name
    return settle(list(names), what=what, same_case=phrasings.same_case, told_in=told_in)


def load_shipped(*, seed: int = 0, candidates: int = 12) -> FactSet:
    """The real-world facts that ship in `data/facts/`."""
    rows = [row for path in sorted(SHIPPED.glob("*.csv")) for row in read_rows(path, path.stem)]
    phrasings = read_phrasings(SHIPPED / "templates.yaml")
    return _assemble(rows, phrasings, seed=seed, candidates=candidates)


def load_csv(path: Path, *, seed: int = 0, candidates: int = 12) -> FactSet:
    """A user's facts: CSV of relation, subject, answer, with its phrasings in a YAML file of the same name.

    Raises:
        InputError: naming file, line and what to mend.
    """
    rows = read_rows(path)
    return _assemble(rows, read_phrasings(path.with_suffix(".yaml")), seed=seed, candidates=candidates)
