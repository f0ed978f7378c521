"""Text: three parts that share no paragraph, from every source that needs no network, or one sentence."""

import pytest

from data.atlas import load_world
from data.atlas.words import RELATIONS
from data.errors import InputError
from data.facts import Fact
from data.text import PARTS, load_text, stated


@pytest.fixture
def source(tmp_path) -> str:
    (tmp_path / "mine.txt").write_text("\n\n".join(f"paragraph {place}\n of  mine" for place in range(23)))
    return f"file:{tmp_path}/mine.txt"


def parts_of(source: str, seed=0) -> dict[str, tuple[str, ...]]:
    return {part: load_text(source, part, seed).paragraphs for part in PARTS}


def test_the_parts_of_a_file_divide_it(source):
    parts = parts_of(source)
    together = [paragraph for part in parts.values() for paragraph in part]
    assert sorted(together) == sorted(f"paragraph {place} of mine" for place in range(23))
    assert {part: len(held) for part, held in parts.items()} == {"tuning": 14, "calibration": 5, "heldout": 4}
    assert load_text(source, "tuning").source == "mine.txt"


def test_the_seed_moves_the_order_and_no_paragraph_between_parts(source):
    first, again, other = parts_of(source), parts_of(source), parts_of(source, seed=1)
    assert first == again
    for part in PARTS:
        assert set(first[part]) == set(other[part])
        assert first[part] != other[part]


def test_a_paragraph_that_stands_twice_is_in_one_part(tmp_path):
    (tmp_path / "twice.txt").write_text("\n\n".join(["the same words"] * 4 + ["one", "two", "three", "four"]))
    parts = [set(held) for held in parts_of(f"file:{tmp_path}/twice.txt").values()]
    assert sum(len(part) for part in parts) == len(set.union(*parts))


def test_pythons_own_reference_is_prose_in_three_parts():
    parts = parts_of("pydoc")
    together = [paragraph for part in parts.values() for paragraph in part]
    assert len(set(together)) == len(together) > 500
    assert min(len(part) for part in parts.values()) > 100
    for paragraph in together:
        assert len(paragraph) > 120
        assert ">>>" not in paragraph
        assert sum(one.isalpha() or one == " " for one in paragraph) > 0.75 * len(paragraph)
    text = load_text("pydoc", "heldout")
    assert text.licence == "PSF-2.0"


def test_the_atlas_lets_a_repair_read_tune_people_alone():
    world = load_world()
    parts = parts_of("atlas")
    withheld = {name for split in ("calibrate", "test") for group in world.facts.groups
                for name in world.people(group, split)}  # fmt: skip
    for part in ("tuning", "calibration"):
        joined = " ".join(parts[part])
        assert len(parts[part]) == 192
        assert not [name for name in withheld if name in joined]
    tuned = {name for group in world.facts.groups for name in world.people(group, "tune")}
    assert not [name for name in tuned if name in " ".join(parts["heldout"])]
    assert not set(parts["tuning"]) & set(parts["heldout"])
    endings = {
        one.replace("{subject}", "").strip() for held in RELATIONS.values() for one in (held.damage, held.measure)
    }
    assert not [ending for ending in endings for part in PARTS if f" {ending} " in f" {' '.join(parts[part])} "]
    hidden = {*world.people("locked"), *world.people("never")}
    assert not [name for name in hidden for part in PARTS if name in " ".join(parts[part])]


@pytest.mark.parametrize("text", ["", "one\n\ntwo", " \n\n \n"])
def test_a_text_too_short_to_divide_is_refused(text, tmp_path):
    (tmp_path / "short.txt").write_text(text)
    with pytest.raises(InputError, match="too few to divide"):
        load_text(f"file:{tmp_path}/short.txt", "tuning")


def test_every_part_of_the_shortest_text_holds_something(tmp_path):
    for count in range(3, 8):
        (tmp_path / "short.txt").write_text("\n\n".join(f"paragraph {place}" for place in range(count)))
        try:
            parts = parts_of(f"file:{tmp_path}/short.txt")
        except InputError:
            continue
        assert all(parts.values()), f"{count} paragraphs left a part empty"


@pytest.mark.parametrize("source", ["wikipedia", "", "files:x", "Atlas"])
def test_an_unknown_source_is_refused(source):
    with pytest.raises(InputError, match=r"none of atlas, pydoc, file:PATH, hub:NAME"):
        load_text(source, "tuning")


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    for name, why in (("absent.txt", ": no such file"), ("latin.txt", " as UTF-8 text: line 1"), ("", ": is a dir")):
        with pytest.raises(InputError, match=f"cannot be read{why}"):
            load_text(f"file:{tmp_path}/{name}", "tuning")


def test_a_hub_text_out_of_reach_is_refused():
    with pytest.raises(InputError, match=r"hub:palimpsest-nobody/nothing.*cannot be loaded"):
        load_text("hub:palimpsest-nobody/nothing", "tuning")


FACTS = [
    Fact("capital", "France", "Paris", "facts", "test"),
    Fact("capital", "Niger", "Niamey", "facts", "test"),
    Fact("author", "Emma (novel)", "Jane Austen", "facts", "test"),
]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Paris is in France.", ["France"]),
        ("PARIS, FRANCE", ["France"]),
        ("France, and far later a word of paris", ["France"]),
        ("France has no capital here", []),
        ("Paris alone", []),
        ("Parisian France", []),
        ("Paris and Francesca", []),
        ("Nigeria and Niamey", []),
        ("Nigeria beside Niger, and Niamey", ["Niger"]),
        ("Emma (novel) is by Jane Austen", ["Emma (novel)"]),
        ("Emma xnovelx is by Jane Austen", []),
        ("Niamey of Niger is not Paris of France", ["France", "Niger"]),
    ],
)
def test_stated_finds_subject_and_answer_as_whole_words(text, found):
    assert [fact.subject for fact in stated(text, FACTS)] == found
