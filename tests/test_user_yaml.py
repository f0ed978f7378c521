"""YAML says what is written there: no key twice, no bare word read as something else, no anchor without end."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.drafting import with_further
from analysis.study import SHIPPED, load_study
from data.errors import InputError
from data.user_yaml import read_document, read_yaml

STUDY = (SHIPPED / "smollm2.yaml").read_text(encoding="utf-8")


def refusal(text: str) -> str:
    with pytest.raises(InputError) as caught:
        read_yaml(text, "it")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", "it, line 3: 'a' stands twice, first in line 1: keep one"),
        ("a: 1\n'a': 2", "it, line 2: 'a' stands twice, first in line 1"),
        ("e\u0301: 1\n\u00e9: 2", "it, line 2: '\u00e9' stands twice, first in line 1"),
        ("x:\n  - {b: 1}\n  - c:\n      d: 1\n      d: 2", "it, line 5: 'd' stands twice, first in line 4"),
        ("{a: {b: 1, b: 1}}", "it, line 1: 'b' stands twice"),
        ("a: &x {b: 1, b: 2}\nc: *x", "it, line 1: 'b' stands twice"),
        ("a: {<<: {b: 1}, <<: {c: 1}}", "it, line 1: '<<' stands twice"),
        ("a: {<<: [{b: 1}, {b: 2}]}", "it, line 1: 'b' stands in two of what is merged here: keep one"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_both_lines(text, said):
    assert refusal(text).startswith(said)


@pytest.mark.parametrize(
    ("word", "read"),
    [
        *((word, "true") for word in ("yes", "Yes", "on", "ON", "true", "True")),
        *((word, "false") for word in ("no", "NO", "off", "Off", "false")),
        *((word, "nothing") for word in ("null", "~", "Null", "NULL")),
        *((word, f"the number {word}") for word in ("2020", "1.5", "-3", "0")),
        ("0x1F", "the number 31"),
        ("2020-01-01", "a date"),
    ],
)
def test_a_bare_word_is_no_key_where_yaml_reads_something_else(word, read):
    assert refusal(f"a: 1\n{word}: 2") == f"it, line 2: the key `{word}` is read as {read}: quote it ('{word}')"
    assert read_yaml(f"a: 1\n'{word}': 2", "it") == {"a": 1, word: 2}
    value = read_document(f"a:\n- one\n- {word}\n- '{word}'", "it")
    assert value.misread(["a", 1]) == f"`{word}` is read as {read}: quote it ('{word}')"
    assert value.line(["a", 1]) == 3
    assert value.misread(["a", 0]) is value.misread(["a", 2]) is None


def test_words_that_yaml_leaves_alone_are_keys():
    words = ["1e+3", "=", "y", "none", "<", "a b", "1.2.3", "é"]
    assert read_yaml("\n".join(f"{word}: {word}" for word in words), "it") == {word: word for word in words}


def test_a_key_is_one_word():
    assert refusal("? [a, b]\n: 1") == "it, line 1: a key must be one word"
    assert refusal("?\n: 1") == "it, line 1: there is no key before the colon"


@pytest.mark.parametrize(
    ("text", "number"), [("010", 8), ("-017", -15), ("2:4", 124), ("1:30:00", 5400), ("1:30.5", 90.5)]
)
def test_a_number_that_is_none_in_tens_is_refused(text, number):
    assert refusal(f"a: 1\nb: [{text}]") == (
        f"it, line 2: `{text}` is read as the number {number}: quote it ('{text}'), or write {number}"
    )
    assert read_yaml(f"a: '{text}'", "it") == {"a": text}


@pytest.mark.parametrize(
    "text", ["0", "7", "-1", "1_000", "0.5", "0x10", "0b11", "1.0e-3", ".5", "00x", "0:a", "a:b", "1e+3"]
)
def test_other_numbers_and_words_are_read_as_ever(text):
    assert read_yaml(f"a: {text}", "it") == yaml.safe_load(f"a: {text}")


def test_what_has_a_values_form_and_is_none_is_a_line():
    assert "line 2: `2020-13-45` is no value (month must be in 1..12): quote it" in refusal("a: 1\nb: 2020-13-45")
    assert "line 1: `9999" in refusal(f"a: {'9' * 5000}")
    assert "line 1: while scanning a quoted scalar" in refusal("a: 'x")
    assert "line 1: found character '\\t'" in refusal("\ta: 1").replace("while scanning for the next token ", "")
    assert "could not determine a constructor" in refusal("a: !!python/object:os.system {}")
    assert "line 2: expected a single document" in refusal("a: 1\n---\nb: 1")


def test_anchors_repeat_and_merge_and_nothing_is_shared():
    text = "a: &x {b: 1, c: [2]}\nd: *x\ne:\n  <<: *x\n  b: 3\nf: {<<: [*x, {g: 1}]}"
    found = read_yaml(text, "it")
    assert found == yaml.safe_load(text)
    found["a"]["c"].append(1)
    assert found["d"] == {"b": 1, "c": [2]}
    document = read_document("a: &x {b: no, c: no}\ne: {<<: *x, b: yes}", "it")
    assert document.misread(["e", "b"]) == "`yes` is read as true: quote it ('yes')"


@pytest.mark.parametrize(
    "text", ["a: &x [*x]", "a: &x {b: *x}", "a: &x {<<: *x}", "&x [[*x]]", "a: &x\n  b: {<<: [*x]}"]
)
def test_an_anchor_that_holds_itself_is_refused(text):
    assert "an anchor holds itself: write it out" in refusal(text)


def test_anchors_that_unfold_to_more_than_any_file_holds_are_refused_before_they_do():
    lines = ["a0: &a0 [1, 1]", *(f"a{place}: &a{place} [*a{place - 1}, *a{place - 1}]" for place in range(1, 60))]
    assert "unfold to more than 100,000 values" in refusal("\n".join(lines))


@pytest.mark.parametrize("depth", [150, 3000])
def test_brackets_without_end_are_a_line(depth):
    assert refusal("[" * depth + "]" * depth) == "it is not readable YAML: brackets within brackets without end"


def plain(draw: random.Random, depth: int = 0) -> Any:
    """Values as a study may hold them."""
    kind = draw.choice(["text", "number", "list", "map"] if depth < 3 else ["text", "number"])
    if kind == "list":
        return [plain(draw, depth + 1) for _ in range(draw.randint(0, 3))]
    if kind == "map":
        return {draw.choice("no yes on 2020 null ~ a b c 1.5 é =".split()): plain(draw, depth + 1) for _ in range(3)}
    return draw.choice(["no", "010", "2:4", "2020-01-01", "é", "", "~", "a: b"]) if kind == "text" else draw.random()


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), flow=st.booleans())
def test_what_is_dumped_is_read_whatever_its_words(seed, flow):
    value = plain(random.Random(seed))
    assert read_yaml(yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True), "it") == value


def keyed(stored: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place where keys and values stand."""
    if isinstance(stored, dict) and stored:
        yield path
    inner = stored.items() if isinstance(stored, dict) else enumerate(stored) if isinstance(stored, list) else ()
    for key, value in inner:
        yield from keyed(value, (*path, key))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_key_said_twice_anywhere_in_a_study_is_refused(seed, tmp_path_factory):
    draw = random.Random(seed)
    study = yaml.safe_load(draw.choice(sorted(SHIPPED.glob("*.yaml"))).read_text(encoding="utf-8"))
    place = draw.choice(list(keyed(study)))
    among = study
    for step in place:
        among = among[step]
    key = draw.choice(list(among))
    marked = "twice-said"
    among[marked] = among[key]
    path = tmp_path_factory.mktemp("study") / "study.yaml"
    path.write_text(yaml.safe_dump(study).replace(marked, key))
    with pytest.raises(InputError, match=rf"line \d+: '{key}' stands twice, first in line \d+"):
        load_study(str(path))


def with_study(folder: Path, text: str) -> str:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "groups: [facts]",
            "groups: [on]",
            r"groups.0: .*valid string; line \d+: `on` is read as true: quote it \('on'\)",
        ),
        ("groups: [facts]", "groups: no", r"groups: .*tuple; line \d+: `no` is read as false: quote it \('no'\)"),
        ("name: smollm2\n", "name: 2020\n", r"name: .*string; line \d+: `2020` is read as the number 2020: quote it"),
        ("facts: shipped", "facts: ~", r"facts: .*string; line \d+: `~` is read as nothing: quote it \('~'\)"),
        ("seeds: [0]", "seeds: [0]\nseeds: [5, 6]", r"line \d+: 'seeds' stands twice, first in line \d+: keep one"),
        ("seeds: [0]", "seeds: [010]", r"line \d+: `010` is read as the number 8: quote it \('010'\), or write 8"),
    ],
)
def test_a_study_whose_words_are_read_otherwise_is_refused_with_the_line(old, new, said, tmp_path):
    assert old in STUDY
    changed = STUDY.replace(old, new)
    with pytest.raises(InputError, match=said) as caught:
        load_study(with_study(tmp_path, changed))
    line = next(place for place, one in enumerate(changed.split("\n"), 1) if one == new.strip().split("\n")[-1])
    assert f"line {line}: " in str(caught.value)


def test_what_set_says_is_read_as_strictly(tmp_path):
    path = with_study(tmp_path, STUDY)
    refused = {
        "drift={windows: 3, windows: 4}": r"--set drift=.*: the value, line 1: 'windows' stands twice",
        "relations=[no]": r"relations.0: .*string; --set relations: `no` is read as false: quote it \('no'\)",
        "name=2020": r"name: .*; --set name: `2020` is read as the number 2020: quote it \('2020'\)",
        "seeds=[010]": r"--set seeds=\[010\]: the value, line 1: `010` is read as the number 8",
        "drift={2: 3}": r"the key `2` is read as the number 2",
    }
    for change, said in refused.items():
        with pytest.raises(InputError, match=said):
            load_study(path, [change])


@pytest.mark.parametrize(
    "changes",
    [
        ["seeds=[1]", "seeds=[2]"],
        ["tuning.steps=1", "tuning={steps: 2, batch: 4}"],
        ["tuning={steps: 2, batch: 4}", "tuning.steps=1"],
        ["drift.windows=3", "drift.windows=3"],
    ],
)
def test_two_changes_of_one_field_are_refused(changes, tmp_path):
    with pytest.raises(InputError, match=r"--set .*: another --set says '[\w.]+' too: keep one"):
        load_study(with_study(tmp_path, STUDY), changes)


def test_changes_of_different_fields_go_together(tmp_path):
    path = with_study(tmp_path, STUDY)
    found = load_study(
        path, ["tuning={steps: 2, batch: 4}", "tuning.text_batch=1", "drift.windows=3", "drift.length=9"]
    )
    assert (found.tuning.steps, found.tuning.batch, found.tuning.text_batch) == (2, 4, 1)
    assert (found.drift.windows, found.drift.length) == (3, 9)


def test_a_change_reaches_one_of_two_fields_that_share_an_anchor(tmp_path):
    text = STUDY.replace(
        "seeds: [0]", "seeds: [0]\ntransfer:\n  text: &few {batch: 2, length: 8}\n  compressions: false\n"
    )
    found = load_study(with_study(tmp_path, text), ["transfer.text.batch=3"])
    assert found.transfer is not None
    assert found.transfer.text is not None
    assert found.transfer.text.batch == 3


def test_fields_written_as_yaml_on_a_page_are_read_as_strictly():
    with pytest.raises(InputError, match="further fields, line 2: 'candidates' stands twice"):
        with_further({}, "candidates: 8\ncandidates: 9")
