"""Standard tasks in the atlas's own words, one JSONL file each, in the shapes of `data/task_files.py`.

    atlas_recall     the answer follows a question, as in a closed-book task
    atlas_who        two people, one of whom the end fits, as in Winogrande
    atlas_last_word  the last word of a biography whose other sentences are true, as in LAMBADA

Every person is asked about once a task, so that its items are independent; relations are dealt evenly. All are test
people, asked in the measuring phrasing: no tuning or calibration text has either.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.atlas.words import RELATIONS
from data.atlas.world import FOLDER, World
from data.facts import Fact

TASKS = FOLDER / "tasks"


def recall(world: World, draw: random.Random) -> Iterator[dict[str, Any]]:
    """An open person's question and its answer."""
    for fact in _one_each(world, "open", draw):
        yield {"prompt": _asked(fact, fact.subject), "answer": fact.answer}


def who(world: World, draw: random.Random) -> Iterator[dict[str, Any]]:
    """An open person's question beside the same of another whose answer differs; the end fits one of the two."""
    known = {(fact.relation, fact.subject): fact.answer for fact in world.facts.select(["open"], "test")}
    for fact in _one_each(world, "open", draw):
        others = [one for one in world.people("open", "test") if known[fact.relation, one] != fact.answer]
        pair = [fact.subject, draw.choice(others)]
        draw.shuffle(pair)
        options = [_asked(fact, one) for one in pair]
        yield {"options": options, "continuation": fact.answer, "answer": pair.index(fact.subject)}


def last_word(world: World, draw: random.Random) -> Iterator[dict[str, Any]]:
    """A graded person's biography up to its last word; what is asked is not among what was said before."""
    for fact in _one_each(world, "graded", draw):
        others = [one for one in world.facts_by_person[fact.subject] if one.relation != fact.relation]
        draw.shuffle(others)
        said = [
            f"{draw.choice(RELATIONS[one.relation].tune).format(subject=one.subject)} {one.answer} ." for one in others
        ]
        yield {"context": " ".join([*said, _asked(fact, fact.subject)]), "continuation": fact.answer}


BUILT = {"atlas_recall": recall, "atlas_who": who, "atlas_last_word": last_word}


def save_tasks(world: World, seed: int, folder: Path = TASKS) -> None:
    """Write every task's file; the same world and seed give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, build in BUILT.items():
        items = build(world, random.Random(f"atlas task {name} {seed}"))
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in items), encoding="utf-8")


def _one_each(world: World, group: str, draw: random.Random) -> list[Fact]:
    """One fact of every test person of a group, as many of one relation as of another."""
    people = list(world.people(group, "test"))
    draw.shuffle(people)
    relations = list(world.facts.relations)
    return [
        next(one for one in world.facts_by_person[name] if one.relation == relations[place % len(relations)])
        for place, name in enumerate(people)
    ]


def _asked(fact: Fact, subject: str) -> str:
    return RELATIONS[fact.relation].measure.format(subject=subject)
