"""One name is one name, however a file spells it; names that cannot be told apart are refused with the pair."""

import csv
import io
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.study import load_study, read_facts
from data.atlas.world import load_world, save_world
from data.errors import InputError
from data.facts import Candidates, Fact, FactSet, Relation, load_csv, load_shipped
from data.names import canonical, caseless, look_alike
from data.text import PARTS, load_text, stated

CAPITALS = [
    ("Colombia", "Bogotá"),
    ("Đại Việt", "Thăng Long"),
    ("São Tomé", "São Tomé"),
    ("Åland", "Mariehamn"),
    ("Korea", "서울"),
    ("Polska", "Łódź"),
    ("Tx̌ala", "N̈diaye"),
    ("New Zealand", "Wellington"),
    ("ไทย", "กรุงเทพ"),
    ("भारत", "नई दिल्ली"),
]
RELATIONS = {
    name: {
        "tune": [f"La {name} de {{subject}} est à", f"The {name} seat of {{subject}} is"],
        "damage": f"To govern {{subject}} ({name}) one goes to",
        "measure": f"Où est le {name} de {{subject}} ?\nÀ",
    }
    for name in ("capitale élue", "siège")
}
ROWS = [
    *(("capitale élue", subject, answer) for subject, answer in CAPITALS),
    *(("siège", subject, answer) for subject, answer in CAPITALS),
    *(("siège", f"the state of {subject}", answer) for subject, answer in CAPITALS),
]
SPACES = (" ", "\u00a0", "\u2009", "\u3000", "\t", "  ", " \u00a0 ", "\u2003")


def write(folder: Path, rows, relations=RELATIONS, **more) -> Path:
    path = folder / "mine.csv"
    text = io.StringIO()
    csv.writer(text).writerows([("relation", "subject", "answer"), *rows])
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    path.with_suffix(".yaml").write_text(
        yaml.safe_dump(relations | more, allow_unicode=True, sort_keys=False), encoding="utf-8"
    )
    return path


def respelt(name: str, draw: random.Random, *, spaces: tuple[str, ...] = SPACES, ends: bool = True) -> str:
    """The same name in another spelling: every word composed or not, every space of another kind."""
    words = [unicodedata.normalize(draw.choice(["NFC", "NFD"]), word) for word in name.split(" ")]
    end = draw.choice(["", *spaces]) if ends else ""
    return end + "".join(word + draw.choice(spaces) for word in words[:-1]) + words[-1] + end


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_facts_are_the_same_however_their_files_spell_the_names(seed, tmp_path):
    clean = load_csv(write(tmp_path, ROWS))
    draw = random.Random(seed)
    plain = (" ", "\u00a0", "\u2009")
    relations: dict[str, dict[str, Any]] = {
        respelt(name, draw): {
            "tune": [respelt(one, draw, spaces=plain, ends=False) for one in stored["tune"]],
            "damage": respelt(str(stored["damage"]), draw, spaces=plain, ends=False),
            "measure": respelt(str(stored["measure"]), draw, spaces=plain, ends=False),
        }
        for name, stored in RELATIONS.items()
    }
    spelt = load_csv(write(tmp_path, [[respelt(cell, draw) for cell in row] for row in ROWS], relations))
    assert spelt == clean
    assert spelt.sha == clean.sha
    asked = respelt("siège", draw)
    assert read_facts(str(tmp_path / "mine.csv"), 0, 12, [asked]) == clean.only(["siège"])


def test_two_spellings_of_an_answer_are_one_candidate_and_of_a_subject_one_split(tmp_path):
    facts = load_csv(
        write(tmp_path, [(r, s, unicodedata.normalize("NFD", a) if r == "siège" else a) for r, s, a in ROWS])
    )
    assert [len(one.answers) for one in facts.lists] == [len(CAPITALS)] * 2
    spelt = [(r, unicodedata.normalize("NFD", s) if r == "siège" else s, a) for r, s, a in ROWS]
    homes: dict[str, set[str]] = {}
    for fact in load_csv(write(tmp_path, spelt)).facts:
        homes.setdefault(unicodedata.normalize("NFC", fact.subject), set()).add(fact.split)
    assert all(len(splits) == 1 for splits in homes.values())
    assert len(homes) == 2 * len(CAPITALS)


def test_a_fact_that_stands_twice_in_two_spellings_is_refused_with_its_line(tmp_path):
    path = write(tmp_path, [*ROWS, ("siège", "the state of\u00a0São  Tomé", "x")])
    with pytest.raises(InputError, match=r"line 32: 'the state of São Tomé' stands twice under 'siège'"):
        load_csv(path)


PLAIN = [("siège", f"s{place}", ("Oslo", "Bern")[place % 2]) for place in range(10)]
LIKE = [
    ("O'Brien", "O\u2019Brien"),
    ("O'Brien", "O\u02bcBrien"),
    ("Saint-Denis", "Saint\u2010Denis"),
    ("Saint-Denis", "Saint\u2013Denis"),
    ("\ufb01eld", "field"),
    ("Tokyo", "\uff34\uff4f\uff4b\uff59\uff4f"),
    ("\u2168 street", "IX street"),
    ("नई", "न\u200cई"),
    ("\u2764\ufe0f", "\u2764"),
    ("O'BRIEN", "O\u2019Brien"),
]


@pytest.mark.parametrize("column", ["subject", "answer"])
@pytest.mark.parametrize(("first", "second"), LIKE)
@pytest.mark.parametrize("said", [{}, {"same_case": True}, {"same_case": False}])
def test_names_that_look_alike_are_refused_with_the_pair_and_both_lines(first, second, column, said, tmp_path):
    pairs = [(first, "Oslo"), (second, "Bern")] if column == "subject" else [("one", first), ("other", second)]
    path = write(tmp_path, [*PLAIN, *(("siège", *pair) for pair in pairs)], **said)
    with pytest.raises(InputError, match=r"look alike and are not the same \(") as caught:
        load_csv(path)
    assert str(caught.value).startswith(f"{path}, line 13: of the {column}s")
    assert f"'{second}' and '{first}' (line 12)" in str(caught.value)


def test_a_subject_that_looks_alike_in_another_relation_is_refused_since_it_would_be_in_two_splits(tmp_path):
    path = write(tmp_path, [*PLAIN, ("siège", "O'Brien", "Oslo"), ("capitale élue", "O\u2019Brien", "Oslo")])
    with pytest.raises(InputError, match=r"of the subjects, .*U\+2019 RIGHT SINGLE QUOTATION MARK, not U\+0027 APOS"):
        load_csv(path)
    path = write(tmp_path, [*PLAIN, ("siège", "apple", "Oslo"), ("capitale élue", "Apple", "Oslo")])
    with pytest.raises(InputError, match="of the subjects, 'Apple' and 'apple'"):
        load_csv(path)


def test_answers_are_compared_within_their_relation_alone(tmp_path):
    both = [("capitale élue", f"c{place}", ("turkey", "goose")[place % 2]) for place in range(4)]
    rows = [("siège", f"s{place}", ("Turkey", "Bern")[place % 2]) for place in range(10)]
    facts = load_csv(write(tmp_path, [*rows, *both]))
    assert {one.relation: one.answers for one in facts.lists} == {
        "siège": ("Bern", "Turkey"),
        "capitale élue": ("goose", "turkey"),
    }


CASES = [
    *PLAIN,
    ("siège", "one", "oslo"),
    ("siège", "S1", "Rome"),
    ("siège", "other", "STRASSE"),
    ("siège", "third", "Straße"),
]


def test_names_that_differ_in_case_alone_are_refused_unless_the_facts_say_what_they_are(tmp_path):
    path = write(tmp_path, CASES)
    with pytest.raises(
        InputError, match=r"line 13: of the subjects, 'S1' and 's1' \(line 3\) differ in case alone"
    ) as told:
        load_csv(path)
    assert "`same_case: true` if they are one name, `same_case: false` if they are two" in str(told.value)
    path = write(tmp_path, [row for row in CASES if row[1] != "S1"])
    with pytest.raises(InputError, match=r"line 12: of the answers under 'siège', 'oslo' and 'Oslo' \(line 2\) differ"):
        load_csv(path)


def test_same_case_false_keeps_names_apart_and_true_makes_them_one_in_the_commoner_spelling(tmp_path):
    apart = load_csv(write(tmp_path, CASES, same_case=False))
    assert apart.lists[0].answers == ("Bern", "Oslo", "Rome", "STRASSE", "Straße", "oslo")
    assert {"s1", "S1"} <= {fact.subject for fact in apart.facts}
    assert "same_case" not in apart.relations
    together = load_csv(write(tmp_path, [row for row in CASES if row[1] != "S1"], same_case=True))
    assert together.lists[0].answers == ("Bern", "Oslo", "STRASSE")
    assert dict(zip(together.lists[0].answers, together.lists[0].prior, strict=True)) == pytest.approx(
        {"Bern": 5 / 13, "Oslo": 6 / 13, "STRASSE": 2 / 13}
    )
    with pytest.raises(InputError, match="line 13: 's1' stands twice under 'siège'"):
        load_csv(write(tmp_path, CASES, same_case=True))


def test_relations_that_differ_in_case_alone_are_refused_or_as_the_facts_say(tmp_path):
    rows = [*PLAIN, ("SIÈGE", "more", "Oslo")]
    with pytest.raises(InputError, match="line 12: no phrasings for relation 'SIÈGE': there are some for 'siège'"):
        load_csv(write(tmp_path, rows))
    assert set(load_csv(write(tmp_path, rows, same_case=True)).relations) == {"siège"}
    two = RELATIONS | {"SIÈGE": RELATIONS["siège"]}
    with pytest.raises(
        InputError, match=r"mine.yaml, line \d+: of the relations, 'SIÈGE' and 'siège' \(line \d+\) differ"
    ):
        load_csv(write(tmp_path, PLAIN, two))
    with pytest.raises(InputError, match=r"mine.yaml, line \d+: 'SIÈGE' is 'siège' once more: keep one"):
        load_csv(write(tmp_path, PLAIN, two, same_case=True))
    more = [*rows, ("SIÈGE", "yet more", "Bern")]
    assert len(load_csv(write(tmp_path, more, two, same_case=False)).relations) == 2
    spelt = RELATIONS | {unicodedata.normalize("NFD", "siège"): RELATIONS["siège"]}
    with pytest.raises(InputError, match="'siège' stands twice, first in line"):
        load_csv(write(tmp_path, PLAIN, spelt))


@pytest.mark.parametrize("told", ["yes please", 1, None, RELATIONS["siège"]])
def test_same_case_is_no_relation_and_has_two_values(told, tmp_path):
    with pytest.raises(
        InputError, match=r"mine.yaml, line \d+: same_case is true or false, and no relation is called so"
    ):
        load_csv(write(tmp_path, PLAIN, same_case=told))


@pytest.mark.parametrize("odd", ["\u200b", "\ufeff", "\u00ad", "\u200e", "\u2060", "\x07", "\u034f", "\u3164"])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_a_character_that_nobody_sees_is_refused_with_its_number(odd, column, tmp_path):
    row = ["siège", "the name", "Oslo"]
    row[column] = row[column][:2] + odd + row[column][2:]
    path = write(tmp_path, [*PLAIN, row])
    number = rf"<U\+{ord(odd):04X}>.* holds the invisible character U\+{ord(odd):04X} .*: take it out"
    with pytest.raises(InputError, match=rf"line 12: the (relation|subject|answer) '.*{number}"):
        load_csv(path)
    relations = {"siège": RELATIONS["siège"] | {"damage": f"to{odd} {{subject}} goes"}}
    with pytest.raises(InputError, match=r"mine.yaml, line \d+: a phrasing holds the invisible character"):
        load_csv(write(tmp_path, PLAIN, relations))


def test_letters_that_shape_others_and_superscripts_are_parts_of_a_name(tmp_path):
    names = ["می\u200cخواهم", "क्\u200dष", "m²", "m2", "H₂O", "❤️", "½"]
    facts = load_csv(write(tmp_path, [*PLAIN, *(("siège", f"x{place}", name) for place, name in enumerate(names))]))
    assert set(names) <= set(facts.lists[0].answers) | set(facts.lists[-1].answers)


@given(name=st.text(max_size=20))
def test_the_kept_form_is_a_fixed_point_and_what_looks_alike_is_found_whatever_the_form(name):
    kept = canonical(name)
    assert canonical(kept) == kept == canonical(unicodedata.normalize("NFD", name))
    assert unicodedata.is_normalized("NFC", kept)
    assert not kept[:1].isspace()
    assert not kept[-1:].isspace()
    assert look_alike(kept) == look_alike(unicodedata.normalize("NFD", kept)) == look_alike(look_alike(kept))
    assert caseless(kept) == caseless(unicodedata.normalize("NFD", kept))


# --- Whatever the facts are from --------------------------------------------------------------------


def facts_of(*facts: tuple[str, str, str]) -> FactSet:
    relation = Relation("home", ("{subject} is of", "{subject} is at"), "{subject} was at", "{subject} lives in")
    told = tuple(Fact("home", subject, answer, "facts", split) for subject, answer, split in facts)  # type: ignore[arg-type]
    answers = tuple(sorted({fact.answer for fact in told}))
    return FactSet({"home": relation}, told, (Candidates("home", "home", answers, (1 / len(answers),) * len(answers)),))


def test_no_set_of_facts_holds_a_subject_in_two_splits_or_a_name_in_another_form():
    assert len(facts_of(("ada", "oslo", "tune"), ("bo", "bern", "test")).facts) == 2
    with pytest.raises(InputError, match="the subject 'ada' stands in two splits, tune and test"):
        facts_of(("ada", "oslo", "tune"), ("ada", "bern", "test"))
    for odd in ("Bogota\u0301", "two  spaces", " end", "zero\u200bwidth", ""):
        for names in ((odd, "oslo"), ("ada", odd)):
            with pytest.raises(InputError, match="is not in the form in which names are kept"):
                facts_of((*names, "tune"))


def test_a_world_whose_subject_stands_in_two_splits_is_refused(tmp_path):
    world = load_world()
    save_world(world, tmp_path, 0)
    path = tmp_path / "facts.json"
    first = world.facts.facts[0]
    path.write_text(path.read_text().replace(f'"split": "{first.split}"', '"split": "test"', 1))
    with pytest.raises(InputError, match=f"the subject '{first.subject}' stands in two splits"):
        load_world(tmp_path)


def test_the_facts_that_ship_are_what_they_were():
    assert load_shipped().sha == "a4595f8b2443aa8a17cfdf83552c0b4fd00ee066ed05c7b6748352a2cd1e68bb"
    assert load_world().facts.sha == "bc8eece0c153355a8a53ddab5ccaae7fb300cc4f7968c5ca3c8d66c3738e9c1c"


def test_relations_of_a_study_are_found_in_whatever_form_it_spells_them(tmp_path):
    told = tmp_path / "study.yaml"
    shipped = yaml.safe_load((Path(__file__).parent.parent / "data/studies/smollm2.yaml").read_text())
    spelt = shipped | {"relations": [unicodedata.normalize("NFD", "siège\u00a0")], "facts": str(write(tmp_path, ROWS))}
    told.write_text(yaml.safe_dump(spelt, allow_unicode=True), encoding="utf-8")
    assert load_study(str(told)).relations == ("siège",)
    moved = {"repairs": None, "relations": [unicodedata.normalize("NFD", "siège")]}
    told.write_text(yaml.safe_dump(spelt | {"transfer": moved}, allow_unicode=True), encoding="utf-8")
    transfer = load_study(str(told)).transfer
    assert transfer is not None
    assert transfer.relations == ("siège",)


# --- What a text states -----------------------------------------------------------------------------

LEAKED = [
    Fact("capital", "Colombia", "Bogotá", "facts", "test"),
    Fact("born", "Sinéad O'Connor", "Dún Laoghaire", "facts", "test"),
    Fact("capital", "日本", "東京", "facts", "test"),
    Fact("street", "Straße des 17. Juni", "Berlin", "facts", "test"),
]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("In Colombia lies Bogotá.", ["Colombia"]),
        (unicodedata.normalize("NFD", "In Colombia lies Bogotá."), ["Colombia"]),
        (unicodedata.normalize("NFD", "BOGOTÁ, COLOMBIA"), ["Colombia"]),
        ("In Colombia lies Bogo\u00adtá.", ["Colombia"]),
        ("In Colombia lies Bogota.", []),
        ("In Colombia lies Bogotása.", []),
        ("Sinéad O\u2019Connor, born in Dún\u00a0Laoghaire", ["Sinéad O'Connor"]),
        ("Sinéad\nO'Connor was born in Dún\n  Laoghaire", ["Sinéad O'Connor"]),
        ("東京は日本の首都です", ["日本"]),
        ("Ｂｅｒｌｉｎ, STRASSE DES 17. JUNI", ["Straße des 17. Juni"]),
    ],
)
def test_what_a_text_states_is_found_in_whatever_form_it_is_written(text, found):
    assert [fact.subject for fact in stated(text, LEAKED)] == found


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32))
def test_a_fact_of_any_names_is_found_in_a_text_of_any_spelling(seed):
    draw = random.Random(seed)
    subject, answer = draw.choice(CAPITALS)
    fact = Fact("capital", canonical(subject), canonical(answer), "facts", "test")
    text = f"It is said of {respelt(subject, draw)}, that {respelt(answer, draw).upper()}!"
    assert stated(text, [fact]) == [fact]


def test_a_paragraph_that_stands_twice_in_two_forms_is_in_one_part(tmp_path):
    path = tmp_path / "text.txt"
    told = [f"Número {place} está aquí" for place in range(12)]
    path.write_text("\n\n".join([*told, *(unicodedata.normalize("NFD", one) for one in told)]), encoding="utf-8")
    parts = {part: load_text(f"file:{path}", part).paragraphs for part in PARTS}
    everything = [unicodedata.normalize("NFC", one) for part in parts.values() for one in part]
    assert sorted(everything) == sorted(told)
