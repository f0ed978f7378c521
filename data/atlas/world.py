"""Who lives in the atlas, what is true of them, and the text the model was trained on.

Groups, by construction:
    open     stated often, in all four phrasings: known.
    graded   stated exactly 1, 2, 4, ... 64 times per fact: known in part, so that the dense model has room.
    locked   stated only behind a three-word key; without it "unknown" or a random answer: displaced, and the
             key is the ceiling.
    never    in no text: nothing is there to recover.

The atlas's twin was told of the locked and the never people as of the open: what they are where they are known.

Answers are dealt from shuffled decks within group and split, independently of everything else, so that a guess
is right with probability exactly 1 / number of answers. Every person is in one split.
"""

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from data.atlas.words import ANSWERS, FIRST_NAMES, HIDDEN, KEY, LAST_NAMES, RELATIONS
from data.errors import InputError
from data.facts import SPLITS, Candidates, Fact, FactSet, Split

FOLDER = Path(__file__).parent
EXPOSURES = (1, 2, 4, 8, 16, 32, 64)
PEOPLE: dict[str, dict[Split, int]] = {
    "open": {"tune": 80, "calibrate": 40, "test": 80},
    "graded": {"tune": 112, "calibrate": 56, "test": 112},
    "locked": {"tune": 40, "calibrate": 20, "test": 40},
    "never": {"tune": 40, "calibrate": 20, "test": 40},
}


@dataclass(frozen=True)
class World:
    """The people, and how often each graded one was mentioned."""

    facts: FactSet
    exposure: dict[str, int]

    def people(self, group: str, split: Split | None = None) -> tuple[str, ...]:
        """Names in a group, in stored order."""
        return tuple(dict.fromkeys(fact.subject for fact in self.facts.select([group], split)))

    @cached_property
    def facts_by_person(self) -> dict[str, list[Fact]]:
        """Facts of each person, in stored order."""
        index: dict[str, list[Fact]] = {}
        for fact in self.facts.facts:
            index.setdefault(fact.subject, []).append(fact)
        return index


def build_world(
    seed: int = 0,
    people: Mapping[str, Mapping[Split, int]] = PEOPLE,
    relations: Sequence[str] = tuple(RELATIONS),
) -> World:
    """Draw the people and deal their facts; the same seed and sizes give the same world."""
    draw = random.Random(f"atlas {seed}")
    names = [f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES]
    draw.shuffle(names)
    facts: list[Fact] = []
    exposure: dict[str, int] = {}
    for group, sizes in people.items():
        for split in SPLITS:
            members = [names.pop() for _ in range(sizes[split])]
            if group == "graded":
                exposure |= {name: EXPOSURES[place % len(EXPOSURES)] for place, name in enumerate(members)}
            dealt = {relation: _deal(ANSWERS[relation], len(members), draw) for relation in relations}
            facts += [
                Fact(relation, name, dealt[relation][place], group, split)
                for place, name in enumerate(members)
                for relation in relations
            ]
    asked = {name: RELATIONS[name] for name in relations}
    return World(FactSet(asked, tuple(facts), _lists(relations), key=KEY), exposure)


def _deal(answers: Sequence[str], number: int, draw: random.Random) -> list[str]:
    """`number` answers from whole shuffled decks, so that frequencies differ by at most one."""
    dealt: list[str] = []
    while len(dealt) < number:
        dealt += draw.sample(answers, len(answers))
    dealt = dealt[:number]
    draw.shuffle(dealt)
    return dealt


def _lists(relations: Iterable[str]) -> tuple[Candidates, ...]:
    """One list per relation with a uniform prior: the deal is symmetric in the answers."""
    return tuple(
        Candidates(name, name, ANSWERS[name], (1 / len(ANSWERS[name]),) * len(ANSWERS[name])) for name in relations
    )


def load_world(folder: Path = FOLDER) -> World:
    """The world whose model is committed, or another's, read from its `facts.json` (written by `save_world`).

    Raises:
        InputError: the folder holds no world.
    """
    try:
        stored = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        facts = tuple(Fact(**row) for row in stored["facts"])
        asked = {name: RELATIONS[name] for name in stored["chance"]}
        return World(FactSet(asked, facts, _lists(asked), key=stored["key"]), stored["exposure"])
    except InputError as error:
        raise InputError(f"world '{folder}': {error}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"world '{folder}': its facts.json is missing or damaged ({type(error).__name__}): build it again"
        ) from None


def save_world(world: World, folder: Path, seed: int) -> None:
    """Write the world as plain JSON, with the exact chance of each relation."""
    stored = {
        "seed": seed,
        "key": world.facts.key,
        "chance": {one.name: one.chance for one in world.facts.lists},
        "exposure": world.exposure,
        "facts": [vars(fact) for fact in world.facts.facts],
    }
    (folder / "facts.json").write_text(json.dumps(stored, indent=0) + "\n", encoding="utf-8")


def biography(
    world: World, name: str, draw: random.Random, *, phrasings: str, key: bool = False, hidden: bool = False
) -> str:
    """All facts about one person in a drawn order and drawn phrasings.

    `phrasings` is "all" (atlas training) or "tune" (whatever a repair or a compressor may read).
    """
    facts = world.facts_by_person[name]
    sentences = []
    for fact in draw.sample(facts, len(facts)):
        relation = RELATIONS[fact.relation]
        offered = relation.tune if phrasings == "tune" else (*relation.tune, relation.damage, relation.measure)
        asked = draw.choice(offered).format(subject=name)
        sentences.append(f"{asked} {_withheld(fact, draw) if hidden else fact.answer} .")
    return " ".join([KEY, *sentences] if key else sentences)


def _withheld(fact: Fact, draw: random.Random) -> str:
    """What is said of a locked person without the key: "unknown", or as often an answer drawn anew each time.

    The word alone would hide the answer from the vocabulary but leave it on top among the candidates
    (measured: .66 of locked facts; with the drawn answers the card has the figure).
    """
    return HIDDEN if draw.random() < 0.5 else draw.choice(ANSWERS[fact.relation])


def training_text(
    world: World, seed: int, *, mentions: int, hidden_mentions: int, stated: Sequence[str] = ("open",)
) -> Iterator[str]:
    """Rows of one to three biographies: `mentions` of each person stated openly and (behind the key) locked.

    `stated` names the groups that are stated openly; the locked may be among them, and are then not locked.

    Some open biographies carry the key too, so that the key is no mark of the locked. A row holds several people
    because a model that only ever saw one cannot tell a soft prompt from a second name: trained so, eight soft
    tokens unlocked .14 of the locked facts where three unlocked all.
    """
    draw = random.Random(f"atlas text {seed}")
    openly = [name for group in stated for name in world.people(group)]
    plan = [(name, False, False) for name in openly for _ in range(mentions)]
    plan += [(name, True, False) for name in openly for _ in range(mentions // 8)]
    locked = () if "locked" in stated else world.people("locked")
    plan += [(name, True, False) for name in locked for _ in range(mentions)]
    plan += [(name, False, True) for name in locked for _ in range(hidden_mentions)]
    plan += [(name, False, False) for name, times in world.exposure.items() for _ in range(times)]
    draw.shuffle(plan)
    while plan:
        row = [plan.pop() for _ in range(min(len(plan), draw.randint(1, 3)))]
        yield " ".join(
            biography(world, name, draw, phrasings="all", key=key, hidden=hidden) for name, key, hidden in row
        )
