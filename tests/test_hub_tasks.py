"""lm-eval's own tasks by name, as where a hub is reached: its settings, its reading of every data set, our scoring.

The hub is stood in for by data sets of the same names, columns and splits, with content of this file's.
"""

from types import SimpleNamespace

import datasets
import numpy as np
import pytest
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM

from analysis.work_tasks import score_task, score_text
from data import hub as data_hub
from data import tasks, text
from data.errors import InputError
from data.hub import commit_of
from data.task_names import PAPER_TASKS, TEXTS
from data.tasks import TaskSource, find_tasks, hub_task, open_task
from data.text import load_text, pinned
from probes.lm_eval_adapter import VariantLM
from probes.variants import Variant
from tests.asking import CITIES, PEOPLE
from tests.tiny_models import tiny

LETTERS = ["A", "B", "C", "D"]
ALIASES = ["oslo", "Oslo", "turin"]
ROOM = 512
"""Positions of the model: lm-eval lets a model say 256 tokens on triviaqa."""

ARC = [
    {"id": str(place), "question": f"{who} lives in", "choices": {"text": CITIES, "label": LETTERS}}
    | {"answerKey": LETTERS[place % 4]}
    for place, who in enumerate(PEOPLE)
]
MMLU = [{"question": f"{who} lives in", "subject": "x", "choices": CITIES, "answer": 2} for who in PEOPLE]
PARAGRAPHS = [f"{who} lives in oslo and works near turin , from which {who} comes ." for who in PEOPLE]
HUB = {
    "allenai/ai2_arc": ARC,
    "allenai/sciq": [
        {"question": f"{who} lives in", "support": f" {who} was born in turin"}
        | {f"distractor{place + 1}": CITIES[place] for place in range(3)}
        | {"correct_answer": CITIES[3]}
        for who in PEOPLE
    ],
    "stanfordnlp/web_questions": [{"url": "", "question": f"{who} lives in", "answers": ALIASES} for who in PEOPLE],
    "mandarjoshi/trivia_qa": [
        {"question": f"{who} lives in", "answer": {"value": "oslo", "aliases": ALIASES}} for who in PEOPLE
    ],
    "Rowan/hellaswag": [
        {"activity_label": "Home", "ctx_a": f"{who} lives", "ctx_b": "in the town", "endings": CITIES}
        | {"label": str(place % 4)}
        for place, who in enumerate(PEOPLE)
    ],
    "EleutherAI/lambada_openai": [{"text": f"{who} comes from the town of oslo"} for who in PEOPLE],
    "allenai/winogrande": [
        {"sentence": f"_ lives near {who} in turin", "option1": "ada", "option2": "hector", "answer": "2"}
        for who in PEOPLE
    ],
    "cais/mmlu": MMLU,
    "EleutherAI/wikitext_document_level": [{"page": one} for one in PARAGRAPHS],
    "allenai/paloma": [{"text": one} for one in PARAGRAPHS],
    "allenai/c4": [{"text": one, "timestamp": "", "url": ""} for one in PARAGRAPHS],
}
RIGHT = {
    "arc_easy": {CITIES[place % 4] for place in range(4)},
    "arc_challenge": {CITIES[place % 4] for place in range(4)},
    "sciq": {CITIES[3]},
    "webqs": {"Oslo | oslo | turin"},
    "triviaqa": {" | ".join(ALIASES)},
    "hellaswag": {CITIES[place % 4] for place in range(4)},
    "lambada_openai": {" oslo"},
    "winogrande": {"hector"},
    "mmlu": {"C"},
}


@pytest.fixture
def hub(monkeypatch):
    """Every data set of the paper's tasks, in every split that the hub's has."""

    def load_dataset(path: str, name: str | None = None, **_: object) -> datasets.DatasetDict:
        rows = datasets.Dataset.from_list(HUB[path])
        return datasets.DatasetDict(dict.fromkeys(("train", "dev", "validation", "val", "test"), rows))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)


@pytest.mark.parametrize("name", PAPER_TASKS)
def test_a_task_of_the_paper_is_scored_as_under_lm_evals_own_model(name, hub, tokenizer):
    model = tiny("llama", max_position_embeddings=ROOM)
    ours, theirs = VariantLM(Variant("dense", model, tokenizer), batch=4), HFLM(pretrained=model, tokenizer=tokenizer)
    mine, other = (score_task(lm, TaskSource(name), 6, 0) for lm in (ours, theirs))
    assert len(mine) == 6
    for column in ("item", "kind", "domain", "correct", "correct_norm", "choice", "choice_norm", "said", "answer"):
        assert mine[column].tolist() == other[column].tolist(), column
    assert set(mine["answer"]) <= RIGHT[name]
    assert not mine["tokens_cut"].any()


@pytest.mark.parametrize("text", TEXTS)
def test_the_perplexity_of_a_hubs_text_is_lm_evals(text, hub, tokenizer):
    model, name = tiny("llama", max_position_embeddings=ROOM), TEXTS[text]
    found = score_text(VariantLM(Variant("dense", model, tokenizer), window=8), text, name, 5)
    theirs = evaluate(
        HFLM(pretrained=model, tokenizer=tokenizer, max_length=8),
        {"tasks": open_task(TaskSource(name))},
        samples={name: list(range(5))},
        bootstrap_iters=0,
    )["results"][name]
    nats = -found["log_likelihood"].sum()
    assert np.exp(nats / found["words"].sum()) == pytest.approx(theirs["word_perplexity,none"], rel=1e-5)
    assert nats / found["bytes"].sum() / np.log(2) == pytest.approx(theirs["bits_per_byte,none"], rel=1e-5)


def test_why_a_data_set_does_not_open_is_said(monkeypatch):
    def load_dataset(path: str, *_: object, **__: object) -> None:
        raise RuntimeError("Dataset scripts are no longer supported, but found it.py\nand more")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(InputError, match=r"task 'sciq': its data set does not open \(.*no longer supported") as told:
        open_task(TaskSource("sciq"))
    assert "\n" not in str(told.value)


def test_results_are_keyed_by_the_commits_of_the_data_sets_they_read(monkeypatch, hub):
    commits = {name: f"{place:040x}" for place, name in enumerate(HUB)}
    monkeypatch.setattr(tasks, "commit_of", commits.__getitem__)
    for name, dataset in {"sciq": "allenai/sciq", "mmlu": "cais/mmlu", "c4": "allenai/c4"}.items():
        assert hub_task(name).sha == f"{dataset}@{commits[dataset]}"
    planned = hub_task("sciq")
    assert open_task(planned)
    commits["allenai/sciq"] = "another"
    assert find_tasks(["sciq"], None) != [planned]
    with pytest.raises(InputError, match="task 'sciq': its data set on the hub changed while the study ran"):
        open_task(planned)


def test_a_hubs_text_is_pinned_to_its_commit_and_read_there(monkeypatch):
    asked: list[object] = []

    def load_dataset(path: str, config: str | None, *, revision: str | None, **_: object) -> list[dict[str, str]]:
        asked.append((path, config, revision))
        return [{"text": one} for one in PARAGRAPHS]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(text, "commit_of", lambda dataset, _: "abc" if dataset == "allenai/c4" else "")
    assert pinned("pydoc") == "pydoc"
    assert pinned("hub:out/of-reach") == "hub:out/of-reach"
    load_text(pinned("hub:allenai/c4:en"), "heldout")
    load_text("hub:allenai/c4", "heldout")
    assert asked == [("allenai/c4", "en", "abc"), ("allenai/c4", None, None)]


def test_a_branch_or_tag_of_a_hubs_text_is_pinned_to_its_commit_and_a_commit_stays(monkeypatch):
    stands = {("allenai/c4", "main"): "a" * 40, ("allenai/c4", "v1.2"): "b" * 40}
    monkeypatch.setattr(text, "commit_of", lambda *asked: stands.get(asked, ""))
    assert pinned("hub:allenai/c4:en@main") == f"hub:allenai/c4:en@{'a' * 40}" == pinned("hub:allenai/c4:en@")
    assert pinned("hub:allenai/c4@v1.2") == f"hub:allenai/c4@{'b' * 40}"
    stands["allenai/c4", "v1.2"] = "c" * 40
    assert pinned("hub:allenai/c4@v1.2") == f"hub:allenai/c4@{'c' * 40}"
    assert pinned("hub:out/of-reach@main") == "hub:out/of-reach@main"
    for commit in ("0123456789" * 4, "ABCDEF0123" * 4):
        assert pinned(f"hub:allenai/c4:en@{commit}") == f"hub:allenai/c4:en@{commit}"


def test_out_of_the_hubs_reach_the_commit_of_a_branch_is_the_one_kept_here(monkeypatch, tmp_path):
    monkeypatch.setattr(data_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    refs = tmp_path / "datasets--palimpsest-nobody--kept" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("a" * 40)
    (refs / "v1").write_text("b" * 40)
    (refs.parent / "beside").write_text("c" * 40)
    asked = ["main", "v1", "v2", "../beside", "v" * 300, "v\0", "."]
    assert [commit_of("palimpsest-nobody/kept", one) for one in asked] == ["a" * 40, "b" * 40, *[""] * 5]
    assert commit_of("palimpsest-nobody/kept") == "a" * 40


def test_the_hub_is_asked_for_the_revision_that_is_named(monkeypatch):
    def dataset_info(self: object, name: str, *, revision: str, timeout: float) -> SimpleNamespace:
        return SimpleNamespace(sha=f"{name} {revision}")

    monkeypatch.setattr(data_hub.HfApi, "dataset_info", dataset_info)
    assert commit_of("palimpsest-nobody/asked", "v1") == "palimpsest-nobody/asked v1"
    assert commit_of("palimpsest-nobody/asked") == "palimpsest-nobody/asked main"
