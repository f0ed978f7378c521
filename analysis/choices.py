"""Every selector's choice for the same test items: each prompt answers once, then a choice is a lookup.

Not every one of these was named by the study: the bank is tuned already and a choice costs its scores alone, so what
a selector is to be compared with stands in the same table.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from analysis.banks import Fitting
from analysis.selection import DRAWS
from data.facts import Item
from probes.idp import AttentionSelector, PromptSelector
from probes.mixture import mean_of
from probes.outcomes import Outcomes
from probes.prefix import Prefixes
from probes.selectors import OUTPUT_READINGS, OracleSelector, OutputSelector
from probes.specs.banks import SelectorKind

SIMPLE: tuple[SelectorKind, ...] = ("random", "fixed", "key", "cluster", "oracle")
MIXTURE = "mixture"


def selections_of(found: Fitting, items: Sequence[Item]) -> pd.DataFrame:
    """One row per item and selector: what it kept, what that said, and what each prompt would have said.

    Columns: item, entity, relation, group, selector, cost, chosen (missing for the mixture, which keeps all), draws
    (the same in every draw of a choice that is drawn, the first that of `chosen`), scores, log_prob (of the right
    answer over the vocabulary, nats), correct (best of the candidates), log_prob_by_prompt, correct_by_prompt, oracle
    (the prompt that was best for this very item, in hindsight), own (the prompt that was tuned on the item's
    relation; missing where the bank has none for it).
    """
    asked = found.asked(items)
    log_probs, correct = asked.log_probs, asked.correct
    common = {
        "item": [item.name for item in items],
        "entity": [item.fact.subject for item in items],
        "relation": [item.fact.relation for item in items],
        "group": [item.fact.group for item in items],
        "log_prob_by_prompt": log_probs.tolist(),
        "correct_by_prompt": correct.tolist(),
        "oracle": log_probs.argmax(axis=1),
        "own": pd.array([found.own(item.fact.relation) for item in items], dtype="Int64"),
    }
    tables = []
    place = np.arange(len(items))
    for name, cost, scores in scored_by(found, asked):
        chosen = scores.argmax(axis=1)
        drawn = found.drawn(asked.rows, DRAWS) if name == "random" else chosen[:, None]
        told = {"chosen": pd.array(chosen, dtype="Int64"), "draws": drawn.tolist(), "scores": scores.tolist()}
        told |= {"log_prob": log_probs[place, chosen], "correct": correct[place, chosen]}
        tables.append(pd.DataFrame({**common, "selector": name, "cost": cost, **told}))
    mixed = [mean_of([one[place].log_probs for one in asked.singles]) for place in range(len(items))]
    answers = [item.answer_index for item in items]
    told = {
        "chosen": pd.array([None] * len(items), dtype="Int64"),
        "draws": [[] for _ in items],
        "scores": [[] for _ in items],
        "log_prob": [one[answer] for one, answer in zip(mixed, answers, strict=True)],
        "correct": [one.index(max(one)) == answer for one, answer in zip(mixed, answers, strict=True)],
    }
    tables.append(pd.DataFrame({**common, "selector": MIXTURE, "cost": "full_pass_per_prompt", **told}))
    return pd.concat(tables, ignore_index=True)


def scored_by(found: Fitting, asked: Outcomes) -> Iterator[tuple[str, str, Float[np.ndarray, "item prompt"]]]:
    """Name, cost and scores of every selector that this bank can have; the three readings of outputs share passes."""
    model, batch = found.opened.model, found.batch
    attention = found.attention
    for name, settings in {
        "attention": attention,
        "attention-separate" if attention.softmax == "joint" else "attention-joint": replace(
            attention, softmax="separate" if attention.softmax == "joint" else "joint"
        ),
    }.items():
        selector: PromptSelector = AttentionSelector(model, found.prompts, settings)
        yield name, selector.cost, scores_in_batches(selector, asked.rows, batch)
    for kind in SIMPLE:
        if kind != "cluster" or found.centres is not None:
            asked_about = [item.fact for item in asked.items]
            selector = OracleSelector(found.known(asked_about)) if kind == "oracle" else found.selector(kind)
            yield kind, selector.cost, scores_in_batches(selector, asked.rows, batch)
    for states in ("first", "last"):
        selector = found.router(states)
        yield (
            "router" if states == "first" else "router-last",
            selector.cost,
            scores_in_batches(selector, asked.rows, batch),
        )
    outputs = OutputSelector(model, found.prompts, "likelihood")
    read = [outputs.readings(part) for part in _parts(asked.rows, batch)]
    for reading in OUTPUT_READINGS:
        yield reading, outputs.cost, torch.cat([one[reading] for one in read]).cpu().double().numpy()


def scores_in_batches(
    selector: PromptSelector, rows: Sequence[Sequence[int]], batch: int
) -> Float[np.ndarray, "row prompt"]:
    """A selector's scores of many rows."""
    with torch.no_grad():
        return torch.cat([selector.scores(part) for part in _parts(rows, batch)]).cpu().double().numpy()


def _parts(rows: Sequence[Sequence[int]], batch: int) -> Iterator[Sequence[Sequence[int]]]:
    """Rows, `batch` at a time."""
    for first in range(0, len(rows), batch):
        yield rows[first : first + batch]


def bank_table(found: Fitting) -> pd.DataFrame:
    """One row per prompt: its place, its length, the mean norm of its vectors and of its keys in the first layer."""
    prefixes = Prefixes(found.opened.model, found.prompts)
    norms = prefixes.keys[0].float().norm(dim=-1).mean(dim=1)
    seen = prefixes.seen.to(norms)
    return pd.DataFrame(
        {
            "prompt": range(len(found.prompts)),
            "length": [prompt.shape[0] for prompt in found.prompts],
            "vector_norm": [float(prompt.float().norm(dim=1).mean()) for prompt in found.prompts],
            "key_norm": ((norms * seen).sum(dim=1) / seen.sum(dim=1)).tolist(),
        }
    )
