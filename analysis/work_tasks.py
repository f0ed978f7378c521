"""Score one variant on one standard task through lm-eval, item by item, or on one text for its perplexity."""

import contextlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from lm_eval.evaluator import evaluate

from analysis.opening import open_variant
from analysis.study_blocks import OWN_TEXT
from data.errors import InputError
from data.task_names import domain_of
from data.tasks import TaskSource, drawn, open_task
from data.text import text_as_planned
from probes.lm_eval_adapter import VariantLM
from probes.specs.variants import spec_of
from probes.tokens import asked_by

SCORES = ("acc", "exact_match")
"""What counts as right, by lm-eval's names: the first that a task has."""
COUNTED = ("word_perplexity", "byte_perplexity")
"""Scores of a text that lm-eval gives with its words and with its bytes."""


def work(fields: dict[str, Any], needs: dict[str, Path], folder: Path) -> None:
    """Write `tasks.parquet` or `perplexity.parquet`."""
    spec = spec_of(fields["variant"])
    variant = open_variant(fields, spec, needs)
    if "task" in fields:
        asked = fields["task"]
        lm = VariantLM(variant, batch=asked["batch"])
        source = TaskSource(asked["name"], asked["file"], asked["sha"])
        name, table = "tasks", score_task(lm, source, asked["items"], asked["seed"]).assign(plan=asked["plan"])
    else:
        asked = fields["perplexity"]
        lm = VariantLM(variant, batch=asked["batch"], window=asked["window"])
        name, table = "perplexity", score_text(lm, asked["text"], asked["source"], asked["documents"], asked["sha"])
    table.assign(variant_id=spec.identity).to_parquet(folder / f"{name}.parquet", index=False)


def score_task(lm: Any, source: TaskSource, items: int | None, seed: int) -> pd.DataFrame:
    """One row per item of a task under any model of lm-eval's; what `VariantLM` notes is empty under another.

    A task that reads its answers in several ways is taken in the first.

    Raises:
        InputError: a task that is a perplexity, or whose items are not right or wrong.
    """
    tasks = open_task(source)
    samples = drawn(tasks, items, seed)
    asked = {name: tasks[name] for name in samples}
    if rolling := [name for name, task in asked.items() if task.OUTPUT_TYPE == "loglikelihood_rolling"]:
        raise InputError(f"task '{rolling[0]}' is a text's perplexity: name it under tasks.perplexity.texts")
    with contextlib.redirect_stderr(io.StringIO()):  # lm-eval draws bars there, whatever it is told
        found = evaluate(
            lm,
            {"tasks": asked},
            samples=samples,
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=asked_by(lm.tokenizer) == "chat",
        )
    assert found is not None
    rows = [
        item_row(asked[name], sample, lm) | {"item": f"{name}/{sample['doc_id']}"}
        for name in samples
        for sample in found["samples"][name]
        if sample["filter"] == found["samples"][name][0]["filter"]
    ]
    return pd.DataFrame(rows).assign(task=source.name, domain=domain_of(source.name))


def item_row(task: Any, sample: dict[str, Any], lm: Any) -> dict[str, Any]:
    """One item's outcome, in lm-eval's own reading, and what led to it."""
    said, doc = sample["filtered_resps"], sample["doc"]
    requests = [(str(one[0]), str(one[1]) if isinstance(one[1], str) else "") for one in sample["arguments"]]
    row: dict[str, Any] = {
        "kind": str(task.OUTPUT_TYPE),
        "correct": _right(task, sample),
        "correct_norm": bool(sample["acc_norm"]) if "acc_norm" in sample else None,
        "choice": None,
        "choice_norm": None,
        "answer": _joined(sample["target"]),
        "said": None,
        "log_probs": None,
        "greedy": None,
        "chosen": [lm.chosen[request] for request in requests] if getattr(lm, "chosen", None) else None,
        "tokens_cut": sum(getattr(lm, "cut", {}).get(request, 0) for request in requests),
    }
    if task.OUTPUT_TYPE == "generate_until":
        return row | {"said": str(said[0])}
    log_probs = [float(one[0]) for one in said]
    row |= {"log_probs": log_probs, "greedy": [bool(one[1]) for one in said]}
    if task.OUTPUT_TYPE != "multiple_choice":
        return row
    choices = [str(one) for one in task.doc_to_choice(doc)]
    if "acc" not in sample:  # any of them is right
        return row | {"answer": _joined(choices)}
    gold = task.doc_to_text(doc) if task.multiple_input else sample["target"]
    best = int(np.argmax(log_probs))
    return row | {
        "choice": best,
        "choice_norm": int(np.argmax(np.array(log_probs) / [len(one) for one in choices])),
        "answer": choices[gold] if isinstance(gold, int) else str(gold),
        "said": choices[best],
    }


def _right(task: Any, sample: dict[str, Any]) -> bool:
    """Whether an item is right, by the first score that its task has."""
    found = next((sample[score] for score in SCORES if score in sample), None)
    if found not in (0, 1):
        raise InputError(
            f"task '{task.config.task}': its items are not right or wrong by {' or '.join(SCORES)}, so no two variants "
            "can be compared on them: leave it out"
        )
    return bool(found)


def _joined(answer: object) -> str:
    """A right answer, or all of them."""
    return " | ".join(map(str, answer)) if isinstance(answer, list) else str(answer)


def score_text(lm: VariantLM, text: str, source: str, most: int, sha: str = "") -> pd.DataFrame:
    """One row per document of a text: log-likelihood in nats, how long it is, and its perplexity."""
    documents = _own(source, sha, most) if text == OWN_TEXT else _of_hub(TaskSource(source, sha=sha), most)
    scored = lm.rolled([document.read for document in documents])
    rows = [
        {"document": place, "log_likelihood": total, "tokens": tokens, "words": document.words, "bytes": document.bytes}
        for place, (document, (total, tokens)) in enumerate(zip(documents, scored, strict=True))
    ]
    table = pd.DataFrame(rows).assign(text=text, window=lm.max_length)
    nats = -table["log_likelihood"]
    return table.assign(
        perplexity=np.exp(nats / table["tokens"]),
        word_perplexity=np.exp(nats / table["words"]),
        bits_per_byte=nats / table["bytes"] / np.log(2),
    )


class _Document(NamedTuple):
    """A document as a model reads it, and its length as lm-eval counts it, which may be before it is made readable."""

    read: str
    words: int
    bytes: int


def _own(source: str, sha: str, most: int) -> list[_Document]:
    """The first held-out paragraphs of the study's text."""
    paragraphs = text_as_planned(source, sha, "heldout").paragraphs[:most]
    return [_Document(one, len(re.split(r"\s+", one)), len(one.encode())) for one in paragraphs]


def _of_hub(source: TaskSource, most: int) -> list[_Document]:
    """The first documents of a text of lm-eval's, counted by its task."""
    found: Sequence[Any] = list(open_task(source).values())
    (task,) = found
    documents = []
    for place in range(min(most, len(task.eval_docs))):
        doc = task.eval_docs[place]
        counted = task.process_results(doc, [0.0])
        documents.append(_Document(str(task.doc_to_target(doc)), *(counted[of][1] for of in COUNTED)))
    return documents
