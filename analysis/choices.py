"""Every selector's choice for the same test items: each prompt answers once, then a choice is a lookup.

Not every one of these was named by the study: the bank is tuned already and a choice costs its scores alone, so what
a selector is to be compared with stands in the same table.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from analysis.selection import DRAWS, selector_table
from data.facts import Item
from probes.outcomes import Outcomes
from probes.prefix import Prefixes
from probes.repairs.bank import Fitting, open_bank
from probes.scoring import Score, score
from probes.selection.base import PromptSelector, Selection
from probes.selection.mixture import mean_of, score_mixture
from probes.selection.registry import by_module
from probes.specs.selectors import SelectorKind
from probes.variants import Variant


def selections_of(found: Fitting, items: Sequence[Item]) -> pd.DataFrame:
    """One row per item and selector: what it kept, what that said, and what each prompt would have said.

    Columns: item, entity, relation, group, selector, cost, chosen (missing for the mixture, which keeps all), draws
    (the same in every draw of a choice that is drawn, the first that of `chosen`), scores, log_prob (of the right
    answer over the vocabulary, nats), correct (best of the candidates), log_prob_by_prompt, correct_by_prompt, oracle
    (the prompt that was best for this very item, in hindsight), own (the prompt that was tuned on the item's
    relation; missing where the bank has none for it).
    """
    asked = found.asked(items)
    log_probs = asked.log_probs
    common = {
        "item": [item.name for item in items],
        "entity": [item.fact.subject for item in items],
        "relation": [item.fact.relation for item in items],
        "group": [item.fact.group for item in items],
        "log_prob_by_prompt": log_probs.tolist(),
        "correct_by_prompt": asked.correct.tolist(),
        "oracle": log_probs.argmax(axis=1),
        "own": pd.array([found.own(item.fact.relation) for item in items], dtype="Int64"),
    }
    tables = [pd.DataFrame({**common, **told}) for told in told_by_selectors(found, asked)]
    return pd.concat(tables, ignore_index=True)


def told_by_selectors(found: Fitting, asked: Outcomes) -> Iterator[dict[str, Any]]:
    """Of every selector that this bank can have the columns of its own, in the order of the list of selectors."""
    people = [item.fact for item in asked.items]
    for selection, kinds in by_module(found):
        yield from (_kept_all(kind, asked) for kind in kinds if kind.keeps_all)
        for name, selector in selection.compared([kind for kind in kinds if not kind.keeps_all], found, people):
            yield _kept(name, selector, selection, found, asked)


def _kept(name: str, selector: PromptSelector, selection: Selection, found: Fitting, asked: Outcomes) -> dict[str, Any]:
    """What a selector kept for each item, and what that said."""
    scores = scores_in_batches(selector, asked.rows, found.batch)
    chosen, place = scores.argmax(axis=1), np.arange(len(scores))
    drawn = chosen[:, None]
    if selection.draw is not None:
        others = [selection.draw(found, draw) for draw in range(DRAWS)]
        drawn = np.stack([scores_in_batches(one, asked.rows, found.batch).argmax(axis=1) for one in others], axis=1)
    return {
        "selector": name,
        "cost": selector.cost,
        "chosen": pd.array(chosen, dtype="Int64"),
        "draws": drawn.tolist(),
        "scores": scores.tolist(),
        "log_prob": asked.log_probs[place, chosen],
        "correct": asked.correct[place, chosen],
    }


def _kept_all(kind: SelectorKind, asked: Outcomes) -> dict[str, Any]:
    """What all prompts together said of each item."""
    count = len(asked.items)
    mixed = [mean_of([one[place].log_probs for one in asked.singles]) for place in range(count)]
    answers = [item.answer_index for item in asked.items]
    return {
        "selector": kind.name,
        "cost": kind.cost,
        "chosen": pd.array([None] * count, dtype="Int64"),
        "draws": [[] for _ in range(count)],
        "scores": [[] for _ in range(count)],
        "log_prob": [one[answer] for one, answer in zip(mixed, answers, strict=True)],
        "correct": [one.index(max(one)) == answer for one, answer in zip(mixed, answers, strict=True)],
    }


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


def asked_bank(found: Fitting, items: Sequence[Item], batch: int, folder: Path) -> tuple[Variant, list[Score]]:
    """The bank's answers under its own selector; every selector's choice for the test items is written beside them.

    The variant that is given back can be asked any row: for a mixture it is the bank's first prompt.
    """
    found.batch = batch
    tested = [item for item in items if item.fact.split == "test"]
    selections, bank = selections_of(found, tested), bank_table(found)
    selections.to_parquet(folder / "selections.parquet", index=False)
    bank.to_parquet(folder / "banks.parquet", index=False)
    selector_table(selections, bank).to_parquet(folder / "selectors.parquet", index=False)
    if found.repair.chooses_by.keeps_all:
        asked = found.asked(items)
        return asked.members[0], score_mixture(asked.members, asked.singles, items, batch=batch)
    opened = found.opened
    variant = Variant(found.repair.name, opened.model, opened.tokenizer, bank=open_bank(found))
    return variant, score(variant, items, batch=batch)
