"""The atlas that ships: what its builder draws, what its groups promise, and what its texts say."""

import json
import random
from collections import Counter

from data.atlas import FOLDER, build_world, load_world
from data.atlas.tasks import TASKS, save_tasks
from data.atlas.words import ANSWERS, HIDDEN, RELATIONS
from data.atlas.world import EXPOSURES, biography, save_world, training_text
from data.facts import SPLITS
from data.task_files import read_items


def test_the_stored_world_is_the_one_the_builder_draws(tmp_path):
    built, stored = build_world(0), load_world()
    assert built == stored
    save_world(built, tmp_path, 0)
    assert (tmp_path / "facts.json").read_bytes() == (FOLDER / "facts.json").read_bytes()
    assert build_world(1) != built


def test_the_stored_tasks_are_the_builders_true_and_of_test_people_once_each(tmp_path):
    world = load_world()
    save_tasks(world, 0, tmp_path)
    assert {path.name for path in TASKS.iterdir()} == {path.name for path in tmp_path.iterdir()}
    tested = {fact.subject for fact in world.facts.select(split="test")}
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (TASKS / path.name).read_bytes()
        _, items, _ = read_items(path)
        asked = []
        for item in items:
            context = item.get("prompt") or item.get("context") or item["options"][item["answer"]]
            answer = item["answer"] if "prompt" in item else item["continuation"]
            (fact,) = (
                one
                for one in world.facts.select(split="test")
                if context.endswith(world.facts.relations[one.relation].measure.format(subject=one.subject))
            )
            assert fact.answer == answer
            assert answer not in context.split()
            asked.append(fact.subject)
        assert len(set(asked)) == len(asked)
        assert set(asked) <= tested


def test_groups_and_splits_share_no_person_and_have_their_sizes():
    world = load_world()
    homes: dict[str, set[tuple[str, str]]] = {}
    for fact in world.facts.facts:
        homes.setdefault(fact.subject, set()).add((fact.group, fact.split))
    assert all(len(one) == 1 for one in homes.values())
    sizes = {(group, split): len(world.people(group, split)) for group in world.facts.groups for split in SPLITS}
    assert [sizes["open", split] for split in SPLITS] == [80, 40, 80]
    assert [sizes["graded", split] for split in SPLITS] == [112, 56, 112]
    for group in ("locked", "never"):
        assert [sizes[group, split] for split in SPLITS] == [40, 20, 40]
    assert len(world.facts.facts) == 4 * len(homes) == 4 * sum(sizes.values())
    assert set(world.exposure) == set(world.people("graded"))
    for split in SPLITS:
        times = Counter(world.exposure[name] for name in world.people("graded", split))
        assert set(times) == set(EXPOSURES)
        assert max(times.values()) == min(times.values())


def test_chance_is_exact_and_no_answer_is_commoner_than_its_deal():
    world = load_world()
    stored = json.loads((FOLDER / "facts.json").read_text())["chance"]
    for one in world.facts.lists:
        assert one.chance == stored[one.name] == 1 / len(ANSWERS[one.relation])
        assert set(one.prior) == {one.chance}
    for group in world.facts.groups:
        for split in SPLITS:
            for relation, answers in ANSWERS.items():
                facts = world.facts.select([group], split)
                times = Counter(fact.answer for fact in facts if fact.relation == relation)
                held = [times[answer] for answer in answers]
                assert max(held) - min(held) <= 1
                assert sum(held) == len(world.people(group, split))


def test_the_training_text_says_what_the_groups_promise():
    world = load_world()
    text = list(training_text(world, 0, mentions=8, hidden_mentions=4))
    joined = f" {' '.join(text)} "
    assert not [name for name in world.people("never") if name in joined]
    sentences = Counter(one.strip() for one in joined.split(" . "))
    name = world.people("graded")[6]
    for fact in world.facts_by_person[name]:
        relation = RELATIONS[fact.relation]
        told = [one.format(subject=name) for one in (*relation.tune, relation.damage, relation.measure)]
        # The last words may stand behind a key that opens the next biography, so only ends are compared.
        times = sum(count for said, count in sentences.items() for one in told if said.endswith(f"{one} {fact.answer}"))
        assert times == world.exposure[name]


def test_the_twin_is_told_of_everybody_openly():
    world = load_world()
    text = " ".join(training_text(world, 0, mentions=8, hidden_mentions=4, stated=("open", "locked", "never")))
    assert HIDDEN not in text.split()
    for group in ("open", "locked", "never"):
        fact = world.facts.select([group])[0]
        relation = RELATIONS[fact.relation]
        phrasings = (*relation.tune, relation.damage, relation.measure)
        told = [f"{one.format(subject=fact.subject)} {fact.answer} ." for one in phrasings]
        assert sum(text.count(one) for one in told) == 9  # eight, and one of them again behind the key


def test_a_biography_for_tuning_holds_no_withheld_phrasing_and_no_wrong_answer():
    world = load_world()
    name = world.people("open", "tune")[0]
    allowed = {
        f"{one.format(subject=name)} {fact.answer}"
        for fact in world.facts_by_person[name]
        for one in RELATIONS[fact.relation].tune
    }
    for seed in range(20):
        said = biography(world, name, random.Random(seed), phrasings="tune")
        assert set(said.removesuffix(" .").split(" . ")) <= allowed
