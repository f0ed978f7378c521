"""Which questions are asked when a variant's inside is read, and how they are put to it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from data.facts import Fact, FactSet
from probes.specs.variants import VariantSpec
from probes.states import Question, encode_questions

Key = tuple[str, str]
"""A fact by relation and subject."""


def evenly(facts: Sequence[Fact], most: int) -> list[Fact]:
    """At most so many facts, evenly over their stored order."""
    return [facts[place] for place in np.unique(np.linspace(0, len(facts) - 1, min(most, len(facts))).astype(int))]


def questions_of(
    tokenizer: PreTrainedTokenizerBase, facts: FactSet, spec: VariantSpec, chosen: Sequence[Fact]
) -> tuple[Question, ...]:
    """The measuring questions about these facts, as a variant reads them: behind the key where that is its repair."""
    key = facts.key if spec.repair is not None and spec.repair.behind_key else None
    return encode_questions(tokenizer, facts.items(chosen, "measure", key=key))


def right_on(folder: Path, phrasing: str) -> pd.Series:
    """Whether a scored variant is right, best of the candidates, on each test fact asked in one phrasing."""
    answers = pd.read_parquet(
        folder / "answers.parquet", columns=["relation", "entity", "split", "phrasing", "reading", "correct"]
    )
    kept = answers[
        (answers["reading"] == "candidates") & (answers["phrasing"] == phrasing) & (answers["split"] == "test")
    ]
    return kept.set_index(["relation", "entity"])["correct"]


def lost_first(facts: Sequence[Fact], lost: set[Key], most: int, seed: int) -> list[Fact]:
    """At most so many facts in a seeded order, those that were lost before any other; then in their stored order."""
    draw = np.random.default_rng(seed)
    shuffled = [facts[place] for place in draw.permutation(len(facts))]
    ordered = sorted(shuffled, key=lambda fact: (fact.relation, fact.subject) not in lost)
    kept = set(ordered[:most])
    return [fact for fact in facts if fact in kept]
