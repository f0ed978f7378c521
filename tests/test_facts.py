"""Facts: splits that never share a subject, lists that hold the answer, files that are read or refused in a line."""

import csv
import random
import re
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from data.atlas import load_world
from data.atlas.words import KEY
from data.errors import InputError
from data.facts import SPLITS, Fact, Relation, deal_candidates, load_csv, load_shipped, split_by_subject

PHRASINGS = {
    name: {
        "tune": [f"the {name} of {{subject}} is", f"{{subject}} has the {name}"],
        "damage": f"as {name} {{subject}} has",
        "measure": f"{{subject}}: {name}",
    }
    for name in ("home", "trade")
}
ROWS = [("home", f"person {place}", ("oslo", "paris")[place % 2]) for place in range(10)]


def write(folder: Path, rows, header=("relation", "subject", "answer"), phrasings=PHRASINGS) -> Path:
    path = folder / "mine.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    path.with_suffix(".yaml").write_text(yaml.safe_dump(phrasings), encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_csv(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def facts_of(rows) -> list[Fact]:
    return [Fact(relation, subject, answer, "facts", "tune") for relation, subject, answer in rows]


# --- Splits and candidate lists ---------------------------------------------------------------------


@given(subjects=st.integers(3, 60), seed=st.integers(0, 9))
def test_a_subject_is_in_one_split_whatever_its_relations(subjects, seed):
    facts = facts_of((relation, f"s{place}", "a") for relation in ("home", "trade") for place in range(subjects))
    divided = split_by_subject(facts, seed)
    assert [(one.relation, one.subject, one.answer) for one in divided] == [
        (one.relation, one.subject, one.answer) for one in facts
    ]
    homes = {one.subject: one.split for one in divided}
    assert all(one.split == homes[one.subject] for one in divided)
    sizes = Counter(homes.values())
    for split, share in zip(SPLITS, (0.4, 0.2, 0.4), strict=True):
        assert sizes[split] >= 1
        assert abs(sizes[split] - share * subjects) <= 1
    assert divided == split_by_subject(facts, seed)


def test_another_seed_divides_otherwise():
    assert split_by_subject(facts_of(ROWS), 0) != split_by_subject(facts_of(ROWS), 1)


@given(counts=st.lists(st.integers(1, 4), min_size=2, max_size=40), longest=st.integers(3, 12))
def test_candidate_lists_cover_the_answers_in_bounded_nearly_equal_shares(counts, longest):
    answers = [f"answer {place}" for place, times in enumerate(counts) for _ in range(times)]
    facts = facts_of(("home", f"s{place}", answer) for place, answer in enumerate(answers))
    lists = deal_candidates(facts, longest)
    dealt = [answer for one in lists for answer in one.answers]
    assert sorted(dealt) == sorted(set(answers))
    sizes = [len(one.answers) for one in lists]
    assert 2 <= min(sizes) <= max(sizes) <= longest
    assert max(sizes) - min(sizes) <= 1
    assert len(lists) == -(-len(counts) // longest)
    for one in lists:
        assert one.chance == 1 / len(one.answers)
        among = Counter(answer for answer in answers if answer in one.answers)
        assert one.prior == pytest.approx([among[answer] / among.total() for answer in one.answers])
    mixed = random.Random(0).sample(facts, len(facts))
    assert deal_candidates(mixed, longest) == lists


def test_lists_of_fewer_than_two_are_refused():
    with pytest.raises(InputError, match="nothing to choose from"):
        deal_candidates(facts_of(ROWS), 1)


# --- What a repair may read -------------------------------------------------------------------------


def test_statements_refuse_what_is_not_for_tuning():
    facts = load_shipped()
    for split in ("calibrate", "test"):
        other = facts.select(split=split)
        with pytest.raises(ValueError, match="not a tuning fact"):
            facts.statements([*facts.select(split="tune"), other[0]])


@pytest.mark.parametrize("load", [load_shipped, lambda: load_world().facts], ids=["shipped", "atlas"])
def test_withheld_phrasings_are_in_no_statement(load):
    facts = load()
    tune = facts.select(split="tune")
    statements = facts.statements(tune)
    assert len(statements) == 2 * len(tune)
    asked = {item.question for kind in ("damage", "measure") for item in facts.items(facts.facts, kind)}
    assert not asked & {question for question, _ in statements}
    kept_back = {fact.subject for fact in facts.facts} - {fact.subject for fact in tune}
    read = {(fact.relation, fact.subject) for fact in tune}
    assert not kept_back & {subject for _, subject in read}
    for fact, (first, answer), (second, again) in zip(tune, statements[::2], statements[1::2], strict=True):
        assert (answer, again) == (fact.answer, fact.answer)
        assert fact.subject in first
        assert fact.subject in second
        assert first != second


def test_an_item_asks_its_phrasing_and_lists_its_answer():
    facts = load_world().facts
    (item,) = facts.items(facts.facts[:1], "measure", key=KEY)
    assert item.question == f"{KEY} the life of {item.fact.subject} began in"
    assert item.candidates.answers[item.answer_index] == item.fact.answer
    names = [one.name for kind in ("tune", "damage", "measure") for one in facts.items(facts.facts, kind)]
    assert len(set(names)) == len(names)


# --- A user's file ----------------------------------------------------------------------------------

CELLS = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=12)
TABLES = st.lists(st.tuples(st.sampled_from(["home", "trade"]), CELLS, CELLS), min_size=3, max_size=20)


@settings(max_examples=60, deadline=None)
@given(rows=TABLES)
def test_what_is_written_is_what_is_read_in_one_form_of_unicode_or_refused_with_the_pair(rows, tmp_path_factory):
    # Two more answers and three more subjects, so that nothing is too small.
    rows += [(relation, f"<{place}>", f"<{place % 2}>") for relation in ("home", "trade") for place in range(3)]
    kept = [tuple(unicodedata.normalize("NFC", " ".join(cell.split())) for cell in row) for row in rows]
    once = {one[:2]: (one, row) for one, row in zip(kept, rows, strict=True)}.values()
    path, refused = write(tmp_path_factory.mktemp("facts"), [row for _, row in once]), ""
    try:
        facts = load_csv(path)
    except InputError as error:
        refused = str(error)
    if refused:
        pair = r"of the (subjects|answers under '\w+'), '.*' and '.*' \(line \d+\)"
        assert re.search(rf"{pair}|holds nothing that can be seen|fill it in|invisible character", refused)
        return
    assert [(one.relation, one.subject, one.answer) for one in facts.facts] == [one for one, _ in once]
    for item in facts.items(facts.facts, "measure"):
        assert item.question == f"{item.fact.subject}: {item.fact.relation}"
        assert item.fact.answer in item.candidates.answers


def test_a_file_saved_by_a_spreadsheet_is_read(tmp_path):
    path = write(tmp_path, ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(load_csv(path).facts) == len(ROWS)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([*ROWS, ("home", "", "oslo")], "line 12: every row needs relation, subject, answer"),
        ([*ROWS, ("home", "x", " ")], "line 12: every row needs"),
        ([*ROWS, ("home", "x")], "line 12: every row needs"),
        ([*ROWS, ("home", "x", "Washington", " D.C.")], "line 12: more cells than"),
        ([*ROWS, ROWS[3]], "'person 3' stands twice under 'home'"),
        ([*ROWS, ("age", "x", "oslo")], "no phrasings for relation 'age'"),
        ([("home", f"s{place}", "oslo") for place in range(9)], "relation 'home' has the single answer 'oslo'"),
        (ROWS[:2], "2 subjects are too few"),
        ([], "holds no facts"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(rows, sentence, tmp_path):
    path = write(tmp_path, rows)
    assert sentence in refusal(path)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    assert "relation,subject,answer, not country,capital" in refusal(
        write(tmp_path, ROWS, header=("country", "capital"))
    )
    assert "absent.csv' cannot be read: no such file" in refusal(tmp_path / "absent.csv")
    assert "cannot be read: is a directory" in refusal(tmp_path)
    path = write(tmp_path, ROWS)
    path.write_bytes(b"relation,subject,answer\nhome,\xff,oslo\n")
    assert "cannot be read as UTF-8 text: line 2 holds the byte 0xFF" in refusal(path)
    path.write_bytes(b'relation,subject,answer\n\nhome,"x"y,oslo\n')
    assert "mine.csv, line 3: not readable as CSV" in refusal(path)
    path = write(tmp_path, ROWS)
    path.with_suffix(".yaml").unlink()
    assert "mine.yaml: the phrasings of the facts are missing" in refusal(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"tune": ["{subject} has"]}, "at least four different phrasings"),
        ({"measure": PHRASINGS["home"]["damage"]}, "at least four different phrasings"),
        ({"measure": "who has it"}, "must hold {subject} once"),
        ({"measure": "{subject} or {subject}"}, "must hold {subject} once"),
        ({"measure": "{subject} has "}, "no space at its ends"),
        ({"measure": "{subject} has {thing}"}, "brace"),
        ({"measure": "{subject} has {"}, "brace"),
        ({"measure": 7}, "not a file of phrasings"),
    ],
)
def test_phrasings_that_cannot_be_used_are_refused(change, sentence, tmp_path):
    assert sentence in refusal(write(tmp_path, ROWS, phrasings={"home": PHRASINGS["home"] | change}))


@pytest.mark.parametrize(
    ("stored", "sentence"),
    [
        ("", "mine.yaml: not a file of phrasings: it must hold relations"),
        ("- home", "mine.yaml: not a file of phrasings: it must hold relations"),
        ("home: 3", "line 1: not a file of phrasings: relation 'home' needs tune (a list"),
        ("home:\n  tune: 'a {subject}'", "line 1: not a file of phrasings: relation 'home' needs tune (a list"),
        ("home: {tune: [a]}", "line 1: not a file of phrasings: relation 'home' lacks damage, measure"),
        ("home:\n  tune: [a, no]\n  damage: b\n  measure: c", "line 2: not a file of phrasings: `no` is read as false"),
        ("home:\n  tune: [a, b]\n  damage: b\n  measure: 2020", "line 4: not a file of phrasings: `2020` is read as"),
        (
            "home:\n  tune: [a, b]\n  tunee: b",
            "line 3: unknown key 'tunee' under 'home': remove it or mend its spelling",
        ),
        ("home:\n  tune: [a, b]\n  tune: [c, d]", "line 3: 'tune' stands twice, first in line 2: keep one"),
        ("no:\n  tune: [a, b]", "line 1: the key `no` is read as false: quote it ('no')"),
        (b"\xff", "mine.yaml' cannot be read as UTF-8 text: line 1 holds the byte 0xFF"),
    ],
)
def test_a_file_of_phrasings_of_another_shape_is_refused(stored, sentence, tmp_path):
    path = write(tmp_path, ROWS)
    path.with_suffix(".yaml").write_bytes(stored if isinstance(stored, bytes) else stored.encode())
    assert sentence in refusal(path)


def test_a_relation_that_no_fact_is_of_is_left_out(tmp_path):
    more = PHRASINGS | {"age": {kind: PHRASINGS["home"][kind] for kind in ("measure", "damage", "tune")}}
    assert load_csv(write(tmp_path, ROWS, phrasings=more)) == load_csv(write(tmp_path, ROWS))


def test_a_relation_called_no_is_one_where_it_is_quoted(tmp_path):
    path = write(tmp_path, [("no", *row[1:]) for row in ROWS], phrasings={"no": PHRASINGS["home"]})
    assert set(load_csv(path).relations) == {"no"}
    assert "'no':" in path.with_suffix(".yaml").read_text()


@pytest.mark.parametrize("stored", ["[", "home: [" * 10_000])
def test_a_file_of_phrasings_that_is_no_yaml_is_refused(stored, tmp_path):
    path = write(tmp_path, ROWS)
    path.with_suffix(".yaml").write_text(stored)
    assert "is not readable YAML" in refusal(path)


# --- The facts that ship ----------------------------------------------------------------------------


def test_the_shipped_facts_are_enough_and_the_same_each_time():
    facts = load_shipped()
    assert len(facts.facts) >= 300
    assert len(facts.relations) >= 6
    for relation in facts.relations.values():
        assert len({*relation.tune, relation.damage, relation.measure}) >= 4
    for split in SPLITS:
        assert {fact.relation for fact in facts.select(split=split)} == set(facts.relations)
    assert all(2 <= len(one.answers) <= 12 for one in facts.lists)
    assert facts.sha == load_shipped().sha != load_shipped(seed=1).sha
    assert load_shipped(candidates=8).sha != facts.sha


# --- The atlas --------------------------------------------------------------------------------------


def test_a_relation_needs_four_phrasings():
    with pytest.raises(InputError, match="has 3"):
        Relation("home", ("{subject} is of", "{subject} is at"), "{subject} is of", "{subject} lives")


def test_shuffled_answers_are_dealt_within_a_relation_one_to_each_subject():
    facts = load_shipped(seed=0)
    people = facts.select(None, "tune")
    true, dealt = facts.statements(people), facts.shuffled_statements(people, seed=0)
    assert [question for question, _ in dealt] == [question for question, _ in true]
    assert dealt == facts.shuffled_statements(people, seed=0) != facts.shuffled_statements(people, seed=1)
    place = 0
    by_relation: dict[str, list[tuple[str, str]]] = {}
    for fact in people:
        phrasings = len(facts.relations[fact.relation].tune)
        told = {answer for _, answer in dealt[place : place + phrasings]}
        assert len(told) == 1
        by_relation.setdefault(fact.relation, []).append((fact.answer, told.pop()))
        place += phrasings
    for pairs in by_relation.values():
        before, after = zip(*pairs, strict=True)
        assert sorted(before) == sorted(after)
    kept = np.mean([before == after for pairs in by_relation.values() for before, after in pairs])
    assert kept < 0.5
