"""Task files: white space where the answer follows counts for nothing, and choices that are one are refused."""

import json
import string
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lm_eval.models.huggingface import HFLM

from analysis.work_tasks import score_task
from data.errors import InputError
from data.task_files import read_items
from data.tasks import TaskSource, find_tasks, open_task, task_notes
from probes.lm_eval_adapter import VariantLM
from probes.variants import Variant
from tests.byte_tokens import byte_tokenizer
from tests.tiny_models import tiny

OWN = byte_tokenizer(opening=True)
MODEL = tiny("llama", vocab_size=len(OWN), max_position_embeddings=128).requires_grad_(False)
LM = VariantLM(Variant("dense", MODEL, OWN), batch=3)
BLANKS = ["", " ", "  ", "\n", "\t", "\u00a0", " \u2009", "\u200b", "\ufeff ", "\r\n"]
blanks = st.sampled_from(BLANKS)


def source_of(folder: Path, *items: dict[str, Any], name: str = "mine") -> TaskSource:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    (found,) = find_tasks([name], str(folder))
    return found


def by_hand(context: str, continuation: str) -> float:
    """Log-probability of a continuation behind one space, by transformers alone, in one pass."""
    before, whole = OWN(context).input_ids, OWN(f"{context} {continuation}").input_ids
    assert whole[: len(before)] == before
    with torch.no_grad():
        told = MODEL(torch.tensor([whole])).logits[0].double().log_softmax(-1)
    return float(sum(told[place - 1, whole[place]] for place in range(len(before), len(whole))))


def asked(question: str) -> str:
    return f"Question: {question}\nAnswer:"


SHAPES: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "choices": (
        {"question": "where is ab", "choices": ["ab c", "b"], "answer": 1},
        [(asked("where is ab"), "ab c"), (asked("where is ab"), "b")],
    ),
    "options": (
        {"options": ["a is", "bc was"], "continuation": "abc", "answer": 0},
        [("a is", "abc"), ("bc was", "abc")],
    ),
    "context": ({"context": "in ab is", "continuation": "abc d"}, [("in ab is", "abc d")]),
    "prompt": ({"prompt": "in ab is", "answer": "abc d"}, [("in ab is", "abc d")]),
    "answers": (
        {"question": "where is ab", "answers": ["ab c", "b"]},
        [(asked("where is ab"), "ab c"), (asked("where is ab"), "b")],
    ),
}
MET = {"choices", "options", "question", "context", "prompt", "continuation", "answers"}
"""Fields that meet the answer, or are it; `answer` where it is text."""


def spaced(item: dict[str, Any], draw: Any) -> dict[str, Any]:
    """The same item with white space wherever one text meets another."""
    found: dict[str, Any] = {}
    for name, value in item.items():
        start = name not in ("options", "context", "prompt")
        around = lambda text, start=start: (draw(blanks) if start else "") + text + draw(blanks)  # noqa: E731
        met = name in MET or isinstance(value, str)
        found[name] = [around(one) for one in value] if isinstance(value, list) else around(value) if met else value
    return found


@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_white_space_where_the_answer_follows_changes_no_score(shape, data, tmp_path):
    item, pairs = SHAPES[shape]
    row = score_task(LM, source_of(tmp_path, spaced(item, data.draw)), None, 0).iloc[0]
    assert list(row["log_probs"]) == pytest.approx([by_hand(*pair) for pair in pairs], abs=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_space_was_felt_before(shape):
    """The tokenizer of these tests tells one space from two, else they would prove nothing."""
    context, continuation = SHAPES[shape][1][0]
    assert abs(by_hand(context + " ", continuation) - by_hand(context, continuation)) > 0.1


def test_lm_evals_own_model_gives_the_same_of_a_spaced_file(tmp_path):
    theirs = HFLM(pretrained=MODEL, tokenizer=OWN, batch_size=2)
    for place, (item, _) in enumerate(SHAPES.values()):
        found = source_of(tmp_path, spaced(item, lambda _: " \n"), name=f"task{place}")
        ours, other = score_task(LM, found, None, 0), score_task(theirs, found, None, 0)
        assert ours["log_probs"][0] == pytest.approx(other["log_probs"][0], abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    context=st.tuples(st.text("ab c", max_size=4), blanks), continuation=st.tuples(blanks, st.text("ab", min_size=1))
)
def test_any_white_space_of_lm_evals_own_tasks_is_split_as_by_lm_eval(context, continuation):
    before, after = "".join(context), "".join(continuation)
    if not before.strip():
        return
    theirs = HFLM(pretrained=MODEL, tokenizer=OWN)
    assert LM._encode_pair(before, after) == theirs._encode_pair(before, after)


def test_what_was_taken_out_is_noted_with_how_often(tmp_path):
    item, _ = SHAPES["context"]
    assert source_of(tmp_path, item, item).note == ""
    assert source_of(tmp_path, item, item | {"context": "in ab is "}, item | {"continuation": "\nabc"}).note == (
        "white space between what is asked and the answer was taken out of 2 of 3 items"
    )
    told = find_tasks(None, str(tmp_path))
    assert task_notes(told) == f"task mine: {told[0].note}"
    assert task_notes([TaskSource("sciq")]) == ""
    decomposed = {"context": "e\u0301 is", "continuation": "e\u0301"}
    assert source_of(tmp_path, decomposed).note == ""
    assert read_items(tmp_path / "mine.jsonl").items == [{"context": "\u00e9 is", "continuation": "\u00e9"}]


def test_a_note_makes_no_other_source(tmp_path):
    found = source_of(tmp_path, SHAPES["context"][0] | {"context": "in ab is "})
    assert found.note
    assert found == TaskSource(found.name, found.file, found.sha)
    assert hash(found) == hash(TaskSource(found.name, found.file, found.sha))


def line_of(tmp_path: Path, item: object) -> str:
    path = tmp_path / "mine.jsonl"
    first = {"question": "x", "choices": ["a", "b"], "answer": 0}
    path.write_text(f"{json.dumps(first)}\n\n{item if isinstance(item, str) else json.dumps(item)}\n")
    with pytest.raises(InputError, match=r"task file '.*mine.jsonl', line 3: ") as caught:
        read_items(path)
    return str(caught.value).partition("line 3: ")[2]


@pytest.mark.parametrize(
    "choices",
    [["a", "a"], ["b", "a", "c", "a"], ["a", " a "], ["\u00e9", "e\u0301"], ["a b", "a\u00a0 b"], ["a", "a\u200b"]],
)
def test_choices_that_are_one_are_refused(choices, tmp_path):
    said = line_of(tmp_path, {"question": "x", "choices": choices, "answer": 0})
    assert said.endswith("twice, and no model can choose between them: keep one")
    assert said.startswith("'choices' holds '")
    path = tmp_path / "options.jsonl"
    path.write_text(json.dumps({"options": choices, "continuation": "x", "answer": 0}))
    with pytest.raises(InputError, match=r"line 1: 'options' holds '.*' twice"):
        read_items(path)


def test_one_choice_is_none(tmp_path):
    said = line_of(tmp_path, {"question": "x", "choices": ["a"], "answer": 0})
    assert said == "'choices' holds one text alone, so that there is nothing to choose: give two or more"


@pytest.mark.parametrize("choices", [["A", "a"], ["-", "\u2013"], ["a", "a."]])
def test_choices_that_a_question_may_turn_on_stay(choices, tmp_path):
    (tmp_path / "mine.jsonl").write_text(json.dumps({"question": "which", "choices": choices, "answer": 1}))
    assert read_items(tmp_path / "mine.jsonl").items[0]["choices"] == choices


def test_a_key_that_stands_twice_in_a_line_is_refused(tmp_path):
    line = '{"question": "x", "choices": ["a", "b"], "answer": 0, "answer": 1}'
    assert line_of(tmp_path, line) == "the key 'answer' stands twice: keep one"
    nested = '{"question": "x", "choices": ["a", "b"], "answer": 0, "more": {"a": 1, "a": 2}}'
    assert line_of(tmp_path, nested) == "the key 'a' stands twice: keep one"


def test_alternatives_stand_once_each(tmp_path):
    item = {"question": "x", "answers": ["S\u00e3o", "b", "Sa\u0303o ", "b"]}
    (tmp_path / "mine.jsonl").write_text(json.dumps(item))
    assert read_items(tmp_path / "mine.jsonl").items == [{"question": "x", "answers": ["S\u00e3o", "b"]}]
    aliases = {"question": "x", "answer": "Sa\u0303o  Paulo", "aliases": [" S\u00e3o Paulo", "SP", "?!", "SP"]}
    (tmp_path / "mine.jsonl").write_text(json.dumps(aliases))
    assert read_items(tmp_path / "mine.jsonl").items == [{"question": "x", "aliases": ["S\u00e3o Paulo", "SP"]}]
    (tmp_path / "mine.jsonl").write_text(json.dumps({"question": "x", "aliases": ["a\u200bb"]}))
    with pytest.raises(InputError, match=r"'aliases' holds the invisible character U\+200B"):
        read_items(tmp_path / "mine.jsonl")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("said", [" Bogot\u00e1", "\u00a0bogot\u00e1 ", "Bogota\u0301"])
def test_what_is_said_is_compared_with_aliases_as_names_are(form, said, tmp_path):
    found = source_of(tmp_path, {"question": "x", "aliases": [unicodedata.normalize(form, "Bogot\u00e1")]})
    (task,) = open_task(found).values()
    task.build_all_requests(rank=0, world_size=1)
    for instance in task.instances:
        instance.resps = [said]
    task.apply_filters()
    (instance,) = task.instances
    (heard,) = instance.filtered_resps.values()
    assert task.process_results(instance.doc, [heard])["exact_match"] == 1


def test_items_whose_aliases_no_model_can_say_are_counted(tmp_path):
    said = [["St. Louis", "Saint Louis"], ["Oslo."], ["St. Louis"], ["Washington, D.C."], ["1,000"], ["Bern"]]
    found = source_of(tmp_path, *({"question": "x", "aliases": one} for one in said))
    assert found.note == (
        "3 of 6 items cannot be right, since every alias goes on behind a full stop or comma, where what is said ends"
    )


@pytest.mark.parametrize("text", ["2009-10-27", "2009-10-27 12:00:00", "[1, 2]", "{{x}}", "7", "1e5", "true", "null"])
def test_a_text_that_looks_like_another_value_is_asked_as_it_stands(text, tmp_path):
    items: list[dict[str, Any]] = [
        {"question": text, "choices": [text, "b"], "answer": 0},
        {"options": [text, "b"], "continuation": text, "answer": 0},
        {"context": text, "continuation": text},
        {"question": text, "answers": [text]},
    ]
    wanted = [(asked(text), f" {text}"), (text, f" {text}"), (text, f" {text}"), (asked(text), f" {text}")]
    for place, (item, first) in enumerate(zip(items, wanted, strict=True)):
        (task,) = open_task(source_of(tmp_path, item, name=f"task{place}")).values()
        task.build_all_requests(rank=0, world_size=1)
        assert task.instances[0].args == first


@settings(max_examples=60, deadline=None)
@given(text=st.text(string.printable + "é\u0301\u00a0\u200b", min_size=1, max_size=12))
def test_reading_a_file_of_what_was_read_changes_nothing(text, tmp_path_factory):
    path = tmp_path_factory.mktemp("task") / "mine.jsonl"
    items: list[dict[str, Any]] = [
        {"question": text, "choices": [text, "other"], "answer": 0},
        {"options": [text, "other"], "continuation": text, "answer": 0},
        {"question": text, "aliases": [text, "other"]},
    ]
    for item in items:
        path.write_text(json.dumps(item))
        try:
            first = read_items(path)
        except InputError:
            continue
        path.write_text("".join(json.dumps(one) + "\n" for one in first.items))
        again = read_items(path)
        assert again.items == first.items
        assert "white space" not in again.note


def test_two_files_of_one_name_are_refused(tmp_path):
    for form in ("NFC", "NFD"):
        name = unicodedata.normalize(form, "évaluation")
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(SHAPES["context"][0]))
    with pytest.raises(InputError, match=r"holds two files évaluation.jsonl in other spellings: rename one"):
        find_tasks(None, str(tmp_path))
    (tmp_path / f"{unicodedata.normalize('NFC', 'évaluation')}.jsonl").unlink()
    (found,) = find_tasks([unicodedata.normalize("NFC", "évaluation")], str(tmp_path))
    assert len(open_task(found)["évaluation"].eval_docs) == 1
