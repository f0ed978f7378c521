"""Calibration of the whole pipeline on organisms whose truth is known: false positives, power, coverage.

1. Train an organism (its own people, its own two models) and write it for one recipe as a study reads it.
2. Run the study whole, every arm and every repair, and take its verdict.
3. Deal the answers of the test people anew, after everything: whatever the pipeline then finds is false, exactly.
4. Ask with the key, where there is one: what it opens is the displaced share that the estimate should cover.

What was judged is counted in `analysis/calibration_table.py`. Every organism and every cell lies in the store: a second
start goes on where the first one stopped.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from analysis.cells import Plan, expand, groups_of
from analysis.code_keys import code_hash
from analysis.engine import drop_damaged, missing
from analysis.evidence import Evidence
from analysis.locks import under_way
from analysis.pool import processes, without_main
from analysis.readout import bits, cross_fitted_log_probs
from analysis.store import Store, content_key, versions
from analysis.study import Study, load_facts
from analysis.surroundings import environment
from analysis.tables import draw_of, replicate_of
from analysis.verdicts import verdict_of
from analysis.work_scored import scored_items
from analysis.worker import Job, compute, telling
from data.facts import FactSet
from probes.known_truth import SHARES, Organism, train_organism, write_recipe
from probes.models import open_model
from probes.scoring import score
from probes.specs.variants import spec_of
from probes.variants import Variant

TRUTH = {"hard-null": 0.0}
"""The displaced share where it needs no measuring."""
KEYED = ("locked", "compressed", *(f"mixture-{share}" for share in SHARES))
"""Recipes whose displaced share is what the key opens: measured, since the lock itself leaks."""
REDRAWS = 10
FIRST_SEED = 1000
ASKED = "asked"
Row = dict[str, Any]
Judged = tuple[int, str]
"""An organism's seed and the recipe it was judged by."""


@dataclass(frozen=True)
class Scale:
    """How large one pipeline is."""

    steps: int = 60
    batch: int = 32
    length: int = 8
    score_batch: int = 256
    seeds: tuple[int, ...] = (0, 1, 2)


def study_of(folder: Path, recipe: str, scale: Scale) -> Study:
    """The study that judges one organism: D is its dense model, C its checkpoint."""
    return Study.model_validate(
        {
            "name": f"organism-{recipe}",
            "model": str(folder / "dense"),
            "facts": f"world:{folder}",
            "groups": (ASKED,),
            "text": f"file:{folder / 'text.txt'}",
            "compressions": ({"method": "checkpoint", "path": str(folder / recipe)},),
            "seeds": scale.seeds,
            "repairs": (
                {"kind": "prompt", "length": scale.length, "learning_rate": 0.03},
                {"kind": "lora", "rank": 4, "targets": "all", "learning_rate": 0.01},
            ),
            "reported": (f"prompt-{scale.length}", "lora-r4"),
            "tuning": {"steps": scale.steps, "batch": scale.batch},
            "score_batch": scale.score_batch,
        }
    )


def organism_folder(store: Store, seed: int, recipe: str, organism: Callable[[], Organism]) -> Path:
    """Where an organism's files are, written first if need be."""
    description = {
        "kind": "organism",
        "seed": seed,
        "recipe": recipe,
        "code": code_hash(("probes.known_truth",)),
        "versions": versions(),
    }
    key = content_key(description)
    if not store.done(key):
        with store.writing(key, description) as draft:
            write_recipe(organism(), recipe, draft)
    return store.folder(key)


def run_plan(plan: Plan, store: Store) -> None:
    """Compute what is missing of a plan in this process: starting a worker takes longer than one of these cells."""
    drop_damaged(plan, store, warnings.warn)
    for cell in missing(plan, store):
        # A verdict on answers reads no drift, which is a sixth of the work.
        if cell.kind != "drift":
            compute(Job.of(cell, store))


@dataclass(frozen=True)
class Finished:
    """The answers of one organism's study, with the calibrated table that a redraw indexes."""

    study: Study
    facts: FactSet
    answers: pd.DataFrame
    variants: pd.DataFrame
    tables: dict[str, np.ndarray]
    """Per variant and phrasing, for every candidate of a test item: bits (measure) or log-probability (damage)."""

    def verdict(self, answers: pd.DataFrame) -> dict[str, Any]:
        """The verdict these answers license."""
        evidence = Evidence(answers, self.variants, groups_of(self.study), self.study.model)
        return verdict_of(self.study, self.facts, evidence)

    def displaced_share(self, opened: float) -> float:
        """What so many right answers with the key close of the gap between C recalibrated and D, on test people."""
        measured = self.answers.query("phrasing == 'measure' and split == 'test'").merge(self.variants, on="variant_id")
        right = measured.groupby([measured["compression"] == "dense", "repair"])["correct"].mean()
        return float((opened - right[False, "recalibrated"]) / (right[True, ""] - right[False, "recalibrated"]))

    def redrawn(self, seed: int) -> pd.DataFrame:
        """The answers with every test fact's answer dealt anew: one deal for all variants."""
        draw = np.random.default_rng(seed)
        lists = {one.name: one.answers for one in self.facts.lists}
        dealt = {
            (fact.relation, fact.subject): int(draw.integers(len(lists[fact.relation])))
            for fact in self.facts.select([ASKED], "test")
        }
        parts = []
        for (variant, phrasing), rows in self.answers.groupby(["variant_id", "phrasing"], sort=False):
            table = self.tables[f"{variant}/{phrasing}"]
            test = (rows["split"] == "test").to_numpy()
            wanted = [dealt[pair] for pair in zip(rows["relation"][test], rows["entity"][test], strict=True)]
            column = "bits" if phrasing == "measure" else "log_prob"
            values, right = rows[column].to_numpy(dtype=float).copy(), rows["correct"].to_numpy(dtype=bool).copy()
            values[test] = table[np.arange(len(wanted)), wanted]
            right[test] = rows["predicted"].to_numpy()[test] == [
                lists[name][place] for name, place in zip(rows["relation"][test], wanted, strict=True)
            ]
            parts.append(rows.assign(**{column: values, "correct": right}))
        return pd.concat(parts)


def finished(plan: Plan, facts: FactSet, store: Store) -> Finished:
    """Read a computed plan: answers of the candidates, and what every other answer would have counted."""
    answers, variants, tables = [], [], {}
    for cell in plan.of("scored"):
        spec, folder = spec_of(cell.fields["variant"]), store.folder(cell.key)
        variants.append(
            {
                "variant_id": spec.identity,
                "variant": spec.name,
                "scope": spec.scope,
                "compression": spec.compression.name if spec.compression else "dense",
                "repair": spec.repair.name if spec.repair else "",
                "replicate": replicate_of(spec),
                "draw": draw_of(spec),
                "parameters_added": 0,
                "bytes_added": 0,
            }
        )
        found = pd.read_parquet(folder / "answers.parquet").query("reading == 'candidates'")
        answers.append(found.assign(variant_id=spec.identity))
        for phrasing, part in pd.read_parquet(folder / "scores.parquet").groupby("phrasing", sort=False):
            items = scored_items(part, facts)
            split = part["split"].to_numpy()
            if phrasing == "measure":
                fit, test = items.where(split == "calibrate"), items.where(split == "test")
                log_probs = cross_fitted_log_probs(fit, test, seed=0)
                correction = bits(log_probs, test) - test.right(log_probs) / np.log(2)  # the prior's entropy
                tables[f"{spec.identity}/{phrasing}"] = correction[:, None] + log_probs / np.log(2)
            else:
                tables[f"{spec.identity}/{phrasing}"] = log_softmax(items.log_probs[split == "test"], axis=1)
    return Finished(plan.study, facts, pd.concat(answers), pd.DataFrame(variants).drop_duplicates(), tables)


def opened_by_key(copy: Path, study: Study, facts: FactSet) -> float:
    """Right answers of an organism's C about test people when it is asked with the key, as a share."""
    opened = open_model(str(copy), dtype=study.dtype, device=study.device)
    items = facts.items(facts.select([ASKED], "test"), "measure", key=facts.key)
    scores = score(Variant("key", opened.model, opened.tokenizer), items, batch=study.score_batch)
    return float(np.mean([one.predicted == one.item.fact.answer for one in scores]))


def judge(
    store: Store, seed: int, recipe: str, organism: Callable[[], Organism], scale: Scale, redraws: int
) -> list[Row]:
    """One organism through the whole pipeline, and its redraws: a row per repair."""
    folder = organism_folder(store, seed, recipe, organism)
    study = study_of(folder, recipe, scale)
    facts = load_facts(study)
    plan = expand(study, facts)
    run_plan(plan, store)
    read = finished(plan, facts, store)
    truth = TRUTH.get(recipe, np.nan)
    if recipe in KEYED:
        truth = read.displaced_share(opened_by_key(folder / recipe, study, facts))
    deals = [read.verdict(read.redrawn(1 + draw)) for draw in range(redraws)] if recipe == "hard-null" else []
    rows = []
    for place, one in enumerate(read.verdict(read.answers)["settings"]):
        share = one["share_of_gap"] or {"estimate": np.nan, "lower": np.nan, "upper": np.nan}
        rows.append(
            {
                "organism": seed,
                "recipe": recipe,
                "repair": one["repair"],
                "decision": one["decision"],
                "redirected_bits": one["redirected_bits"]["estimate"],
                "redirected_lower": one["redirected_bits"]["lower"],
                "redirected_upper": one["redirected_bits"]["upper"],
                "p": max(found["p"] for found in one["predictions"]),
                "p_corrected": one["predictions"][0]["p_corrected"],
                "share_true": truth,
                **{f"share_{name}": share[name] for name in ("estimate", "lower", "upper")},
                "redraws": len(deals),
                "redraws_displaced": sum(deal["settings"][place]["decision"] == "displaced" for deal in deals),
                "redraws_any_displaced": sum(
                    any(found["decision"] == "displaced" for found in deal["settings"]) for deal in deals
                ),
            }
        )
    return rows


def judge_all(
    store: Store, recipes: Sequence[str], scale: Scale, redraws: int, judged: Set[Judged], seed: int
) -> list[Row]:
    """One organism by every recipe it was not judged by; it is trained once, and only if something of it is missing."""
    trained: list[Organism] = []

    def organism() -> Organism:
        if not trained:
            trained.append(train_organism(seed))
        return trained[0]

    left = [recipe for recipe in recipes if (seed, recipe) not in judged]
    return [row for recipe in left for row in judge(store, seed, recipe, organism, scale, redraws)]


def calibrate(
    store: Store,
    seeds: Iterable[int],
    recipes: Sequence[str],
    *,
    scale: Scale | None = None,
    redraws: int = REDRAWS,
    workers: int = 1,
    judged: Set[Judged] = frozenset(),
) -> Iterator[list[Row]]:
    """Judge so many organisms at once, each in a process and on one core; gives the rows of each when it is done."""
    judging = partial(judge_all, store, tuple(recipes), scale or Scale(), redraws, judged)
    # One alone too: threads can be told to a process that starts, and tables as small as these wait for theirs.
    with under_way(store.root), processes(workers) as pool:
        with telling(environment(1)), without_main():
            waiting = [pool.submit(judging, seed) for seed in seeds]
        for done in as_completed(waiting):
            yield done.result()
