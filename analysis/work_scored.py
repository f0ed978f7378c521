"""Ask one variant every fact of its scope and read out what it knows, in both readings."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.choices import asked_bank
from analysis.ensemble import asked_ensemble
from analysis.opening import dense, facts_of, open_variant, opening_of, parent_model
from analysis.readout import ScoredItems, cross_fitted_bits, recalibrate, vocabulary_bits
from data.facts import FactSet, Item, dealt
from probes.repairs.bank import Fitting, fitting_of
from probes.scoring import Score, score
from probes.specs.repairs.base import Asked, Repair
from probes.specs.variants import VariantSpec, spec_of
from probes.tokens import encode_questions, tokens_of
from probes.variants import Variant, require_difference


def work(fields: dict[str, Any], needs: dict[str, Path], folder: Path) -> None:
    """Write scores, answers (dealt ones too), IDP's selections and the check that a variant differs from its parent."""
    spec = spec_of(fields["variant"])
    facts = facts_of(fields)
    checks: dict[str, Any] = {}
    if spec.repair is not None and spec.repair.asked == "parent":
        scores = _recalibrated(pd.read_parquet(needs["parent"] / "scores.parquet"), facts)
    else:
        items = _items(spec, facts, fields["groups"])
        variant, results = _ASKED["alone" if spec.repair is None else spec.repair.asked](
            Asking(fields, spec, needs, facts, items, folder)
        )
        if said := _said_alone(spec.repair):
            checks["prompt_tokens"] = tokens_of(variant.tokenizer, said)
        if spec.parent is not None and not _behind_key(spec):
            checks["logit_difference"] = _difference(fields, spec, needs, variant, items)
        scores = _table(results, spec)
    scores.to_parquet(folder / "scores.parquet", index=False)
    answers = pd.concat([_answers(part, facts) for _, part in scores.groupby(["group", "phrasing"], sort=False)])
    answers.to_parquet(folder / "answers.parquet", index=False)
    (folder / "checks.json").write_text(json.dumps(checks, indent=1) + "\n")


@dataclass(frozen=True)
class Asking:
    """What a variant is asked with, and where what is found beside its answers is written."""

    fields: dict[str, Any]
    spec: VariantSpec
    needs: dict[str, Path]
    facts: FactSet
    items: tuple[Item, ...]
    folder: Path

    @property
    def batch(self) -> int:
        """Rows of a pass."""
        return int(self.fields["score_batch"])

    def fitting(self) -> Fitting:
        """The bank that the variant's repair is."""
        assert self.spec.repair is not None
        return fitting_of(self.spec.repair, opening_of(self.fields, self.spec, self.needs))


def _asked_alone(asking: Asking) -> tuple[Variant, list[Score]]:
    """By passes of the model; a variant that was told dealt answers is asked for those too."""
    variant = open_variant(asking.fields, asking.spec, asking.needs)
    results = score(variant, asking.items, batch=asking.batch)
    if asking.spec.repair is not None and asking.spec.repair.told == "shuffled":
        dealt_answers = _dealt(variant, asking.spec, asking.facts, asking.fields)
        dealt_answers.to_parquet(asking.folder / "dealt.parquet", index=False)
    return variant, results


def _asked_bank(asking: Asking) -> tuple[Variant, list[Score]]:
    """By the prompt that a selector keeps for each question."""
    return asked_bank(asking.fitting(), asking.items, asking.batch, asking.folder)


def _asked_every(asking: Asking) -> tuple[Variant, list[Score]]:
    """By a pass behind every prompt of a bank."""
    return asked_ensemble(asking.fitting(), asking.items, asking.batch, asking.folder)


_ASKED: dict[Asked, Callable[[Asking], tuple[Variant, list[Score]]]] = {
    "alone": _asked_alone,
    "bank": _asked_bank,
    "every prompt": _asked_every,
}


def _said_alone(repair: Repair | None) -> str:
    """The words that stand before every question, where those are all of a repair."""
    return "" if repair is None or repair.asked != "alone" else "".join(repair.texts_said)


def _behind_key(spec: VariantSpec) -> bool:
    """Whether every question is asked behind the key, over the parent as it is."""
    return spec.repair is not None and spec.repair.behind_key


def _dealt(variant: Variant, spec: VariantSpec, facts: FactSet, fields: dict[str, Any]) -> pd.DataFrame:
    """Answers to the questions about tune people, where right is what the repair was told of them."""
    assert spec.repair_seed is not None
    told = dealt(facts.select(fields["groups"], "tune"), spec.repair_seed)
    scores = _table(score(variant, facts.items(told, "measure"), batch=fields["score_batch"]), spec)
    return pd.concat([_answers(part, facts) for _, part in scores.groupby("group", sort=False)])


def _items(spec: VariantSpec, facts: FactSet, groups: list[str]) -> tuple[Item, ...]:
    """The measuring phrasing for all; the damage phrasing too where damage is defined, before any repair."""
    chosen = facts.select(groups)
    key = facts.key if _behind_key(spec) else None
    items = facts.items(chosen, "measure", key=key)
    return items + facts.items(chosen, "damage") if spec.repair is None else items


def _difference(
    fields: dict[str, Any],
    spec: VariantSpec,
    needs: dict[str, Path],
    variant: Variant,
    items: tuple[Item, ...],
) -> float:
    """How far the variant's logits are from its parent's; none stops the run."""
    opened = dense(fields) if spec.repair is None else parent_model(fields, needs)
    assert spec.parent is not None
    parent = Variant(spec.parent.name, opened.model, opened.tokenizer)
    rows = encode_questions(opened.tokenizer, [item.question for item in items[:8]])
    return require_difference(variant, parent, rows)


def _table(results: list[Score], spec: VariantSpec) -> pd.DataFrame:
    """One row per item, with the raw scores of its candidates."""
    return pd.DataFrame(
        {
            "item": [one.item.name for one in results],
            "group": [one.item.fact.group for one in results],
            "split": [one.item.fact.split for one in results],
            "phrasing": [one.item.phrasing for one in results],
            "relation": [one.item.fact.relation for one in results],
            "candidates": [one.item.candidates.name for one in results],
            "entity": [one.item.fact.subject for one in results],
            "answer": [one.item.fact.answer for one in results],
            "answer_index": [one.item.answer_index for one in results],
            "log_probs": [list(one.log_probs) for one in results],
            "vocabulary_log_prob": [one.log_prob for one in results],
            "greedy": [one.greedy for one in results],
            "said": [one.said for one in results],
            "rule": [one.rule for one in results],
        }
    )


def scored_items(scores: pd.DataFrame, facts: FactSet) -> ScoredItems:
    """The readout's form of a table of scores: candidate lists padded to one width."""
    width = max(len(row) for row in scores["log_probs"])
    padded = np.full((len(scores), width), -np.inf)
    for place, row in enumerate(scores["log_probs"]):
        padded[place, : len(row)] = row
    priors = {
        one.name: np.pad(np.array(one.prior), (0, width - len(one.prior)))
        for one in facts.lists
        if len(one.prior) <= width
    }
    return ScoredItems(
        log_probs=padded,
        answer=scores["answer_index"].to_numpy(),
        relation=scores["candidates"].tolist(),
        entity=scores["entity"].tolist(),
        priors=priors,
        vocabulary=np.minimum(scores["vocabulary_log_prob"].to_numpy(), 0.0),
    )


def _recalibrated(scores: pd.DataFrame, facts: FactSet) -> pd.DataFrame:
    """The parent's scores with answers re-weighted on tune entities, group by group, in the candidates reading.

    The vocabulary reading stays the parent's: re-weighting candidates says nothing about other words.
    """
    parts = []
    for _, part in scores[scores["phrasing"] == "measure"].groupby("group", sort=False):
        items = scored_items(part, facts)
        weighed = recalibrate(items.where((part["split"] == "tune").to_numpy()), items)
        lengths = [len(row) for row in part["log_probs"]]
        parts.append(part.assign(log_probs=[list(row[:n]) for row, n in zip(weighed, lengths, strict=True)]))
    return pd.concat(parts)


def _answers(scores: pd.DataFrame, facts: FactSet) -> pd.DataFrame:
    """Both readings of one group in one phrasing, bits by split as `_bits` has them."""
    items = scored_items(scores, facts)
    best = items.log_probs.argmax(axis=1)
    lists = {one.name: one.answers for one in facts.lists}
    shifted = items.log_probs - items.log_probs.max(axis=1, keepdims=True)
    among = items.right(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
    common = scores[["item", "group", "split", "phrasing", "relation", "entity", "answer", "rule"]]
    candidates = common.assign(
        reading="candidates",
        log_prob=among,
        bits=_bits(cross_fitted_bits, items, scores["split"].to_numpy()),
        correct=best == items.answer,
        predicted=[lists[name][place] for name, place in zip(scores["candidates"], best, strict=True)],
    )
    vocabulary = common.assign(
        reading="vocabulary",
        log_prob=scores["vocabulary_log_prob"],
        bits=_bits(vocabulary_bits, items, scores["split"].to_numpy()),
        correct=scores["greedy"],
        predicted=scores["said"],
    )
    return pd.concat([candidates, vocabulary])


def _bits(
    read: Callable[..., Float[np.ndarray, " item"]], items: ScoredItems, split: np.ndarray
) -> Float[np.ndarray, " item"]:
    """Bits of every item, by a readout of people like it that never saw its own entity's answers.

    Calibrate and test people are read by what fits calibrate people. Tune people are another population once a
    repair has read them (a readout of unseen people would call a learned fact a guess), so theirs is fitted on
    tune people, by folds.
    """
    tune = split == "tune"
    found = np.empty(len(split))
    for fitted, wanted in ((split == "calibrate", ~tune), (tune, tune)):
        if wanted.any():
            found[wanted] = read(items.where(fitted), items.where(wanted), seed=0)
    return found
