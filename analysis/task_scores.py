"""Variants compared on standard tasks: paired by item, corrected over tasks and variants.

1. A score is the share of items that are right, with an interval that resamples items (and replicates, crossed).
2. A variant is compared with its references, dense and its own parent, on the same items: items lost and won, the share
   answered alike, the difference with its interval.
3. One p per variant and task: McNemar's exact test in one replicate; with several, the larger of sign flips of whole
   items and Student's t over replicates and items. Holm over all variants and tasks of one reference.
4. How many items would have been needed to see a difference as large as the one found, with power .8.

What counts as answered alike: the same choice, the same text said, or, where a task only asks whether greedy decoding
says the answer, the same outcome. The floor is how often dense does not answer alike in another batch plan.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.intervals import Estimate, Sample, clopper_pearson, crossed_estimate, crossed_mean, crossed_sample
from analysis.reading import read_table
from analysis.significance import holm, items_needed, mcnemar, paired_p
from data.errors import InputError
from data.task_names import GROUPS

ALL = "all tasks"
"""Every item of every task, each counting once."""
POOLED = (*(f"all {domain}" for domain in GROUPS), ALL)
"""What several tasks make together: those of a domain, and all."""
REFERENCES = ("dense", "parent")
READ = (
    *("variant", "compression", "repair", "seed", "task", "domain", "column"),
    *("correct", "correct_norm", "answered", "tokens_cut"),
)
"""Columns of items that a comparison reads."""
SEED = 0


def compare_tasks(tasks: pd.DataFrame, variants: pd.DataFrame) -> pd.DataFrame:
    """One row per variant, task and reference; a variant without that reference has one row with its score alone.

    Tasks are ordered by domain; after several of a domain, and after all, come the items of them together.
    Columns: variant, compression, repair, task, domain, items, replicates, score, lower, upper, score_norm, cut,
    reference, difference, difference_lower, difference_upper, lost, won, alike, test, p, p_holm, items_needed.
    """
    # Without the lists of log-probabilities, items as numbers in the order of their names: hundreds of comparisons read
    # them.
    items = items_of(tasks, variants)[list(READ)]
    items = items.assign(column=pd.factorize(items["column"], sort=True)[0])
    rows = []
    for name, domain, part in _parts(items):
        for variant in part["variant"].unique():
            rows += [{"task": name, "domain": domain} | one for one in _compared(part, variant)]
    table = pd.DataFrame(rows).assign(p_holm=np.nan)
    for reference in REFERENCES:
        tested = (table["reference"] == reference) & table["p"].notna()
        pooled = table["task"].isin(POOLED)
        for family in (tested & ~pooled, tested & pooled):
            if family.any():
                table.loc[family, "p_holm"] = holm(table.loc[family, "p"].to_numpy(dtype=float))
    return table


def _parts(items: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Each task's items, and those of several together, with their name and domain."""
    domains = sorted(
        dict.fromkeys(items["domain"]), key=lambda one: GROUPS.index(one) if one in GROUPS else len(GROUPS)
    )
    for domain in domains:
        own = items[items["domain"] == domain]
        names = list(dict.fromkeys(own["task"]))
        for name in names:
            yield name, domain, own[own["task"] == name]
        if 1 < len(names) < items["task"].nunique() and domain in GROUPS:
            yield f"all {domain}", domain, own
    if items["task"].nunique() > 1:
        yield ALL, "", items


def items_of(tasks: pd.DataFrame, variants: pd.DataFrame) -> pd.DataFrame:
    """Items of the main plan with what their variant is; `column` names an item within all tasks."""
    joined = tasks[tasks["plan"] == "main"].merge(seeded(variants), on="variant_id", validate="many_to_one")
    answered = joined["said"].fillna(joined["correct"].astype(str))
    return joined.assign(answered=answered, column=joined["task"] + "\t" + joined["item"])


def seeded(variants: pd.DataFrame) -> pd.DataFrame:
    """What a variant is, and the seed of its replicate."""
    seed = variants["repair_seed"].fillna(variants["compression_seed"]).fillna(0).astype(int)
    return variants[["variant_id", "variant", "compression", "repair"]].assign(seed=seed)


def _compared(part: pd.DataFrame, variant: str) -> list[dict[str, Any]]:
    """One variant's score, once for each reference that it has."""
    mine = part[part["variant"] == variant]
    score = _share(replicate_table(mine, "correct"))
    normed = mine["correct_norm"].dropna()
    first = mine.iloc[0]
    row = {
        "variant": variant,
        "compression": first["compression"],
        "repair": first["repair"],
        "items": mine["column"].nunique(),
        "replicates": mine["seed"].nunique(),
        "score": score.estimate,
        "lower": max(score.lower, 0.0),
        "upper": min(score.upper, 1.0),
        "score_norm": float(normed.astype(float).mean()) if len(normed) else np.nan,
        "cut": int((mine["tokens_cut"] > 0).sum()),
    }
    found = []
    for reference, other in zip(REFERENCES, ("dense", str(first["compression"])), strict=True):
        # A repair of dense has dense for a parent: told once.
        if other == variant or (reference == "parent" and other == "dense") or not (part["variant"] == other).any():
            continue
        found.append(row | {"reference": reference} | _paired(mine, part[part["variant"] == other]))
    nothing = dict.fromkeys(
        ("difference", "difference_lower", "difference_upper", "alike", "p", "items_needed"), np.nan
    )
    return found or [row | {"reference": "", "test": "", "lost": 0, "won": 0} | nothing]


def _paired(mine: pd.DataFrame, other: pd.DataFrame) -> dict[str, Any]:
    """One variant against another on the same items."""
    ours, theirs = _aligned(mine, other, "correct")
    shared = ["column"] if other["seed"].nunique() == 1 else ["column", "seed"]
    answers = mine.merge(other, on=shared, suffixes=("", "_other"))
    difference = _difference(ours, theirs)
    by_item = (ours - theirs).mean(axis=0)
    if len(ours) == 1:
        test, p = "McNemar", mcnemar(ours[0] > 0.5, theirs[0] > 0.5)[2]
    else:
        test, p = "sign flips and t", paired_p(ours, np.array(theirs), seed=SEED)
    return {
        "difference": difference.estimate,
        "difference_lower": difference.lower,
        "difference_upper": difference.upper,
        "lost": int((answers["correct_other"] & ~answers["correct"]).sum()),
        "won": int((~answers["correct_other"] & answers["correct"]).sum()),
        "alike": float((answers["answered"] == answers["answered_other"]).mean()),
        "test": test,
        "p": p,
        # Of a single item nothing is known of how items differ.
        "items_needed": items_needed(difference.estimate, float(by_item.std(ddof=1))) if by_item.size > 1 else np.nan,
    }


def replicate_table(items: pd.DataFrame, column: str) -> Float[np.ndarray, "seed item"]:
    """A column by replicate and item."""
    held = items[["seed", "column", column]].astype({column: float})
    return held.pivot(index="seed", columns="column", values=column).to_numpy()


def _aligned(mine: pd.DataFrame, other: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Both variants' tables over the same replicates and items; a reference that has no replicate holds under all."""
    items = sorted(set(mine["column"]) & set(other["column"]))
    ours, theirs = (one[one["column"].isin(items)] for one in (mine, other))
    first, second = replicate_table(ours, column), replicate_table(theirs, column)
    return (first, second) if len(first) == len(second) else (first, np.broadcast_to(second[:1], first.shape))


def paired_difference(mine: pd.DataFrame, other: pd.DataFrame) -> Estimate:
    """Accuracy of one variant's items less another's on the same items, both under the same draws."""
    return _difference(*_aligned(mine, other, "correct"))


def _share(right: Float[np.ndarray, "seed item"]) -> Estimate:
    """The share that is right; where all or none are, nothing can be drawn and the interval is the exact one."""
    whole = right.mean()
    if whole in (0.0, 1.0):
        items = right.shape[1]
        return clopper_pearson(items if whole else 0, items)
    return crossed_mean(right, seed=SEED)


def _difference(ours: np.ndarray, theirs: np.ndarray) -> Estimate:
    """The mean difference with its interval, both under the same draws; where no item differs, as far as one may."""
    if np.array_equal(ours, theirs):
        items = ours.shape[1]
        most = clopper_pearson(0, items).upper
        return Estimate(0.0, -most, most, items, items, 0.95)
    arms = {"ours": ours, "theirs": np.array(theirs)}
    return crossed_estimate(arms, lambda means: means["ours"] - means["theirs"], seed=SEED)


def floors(tasks: pd.DataFrame) -> pd.DataFrame:
    """How dense answers in another batch plan: one row per task with items, how many flip, and right answers gained."""
    rows = []
    for task, part in tasks.groupby("task", sort=False):
        other = part[part["plan"] == "other"].set_index("item")
        main = part[(part["plan"] == "main") & part["variant_id"].isin(set(other["variant_id"]))].set_index("item")
        if other.empty:
            continue
        main = main.loc[other.index]
        said = [one["said"].fillna(one["correct"].astype(str)) for one in (main, other)]
        gained = int(other["correct"].sum()) - int(main["correct"].sum())
        rows.append({"task": task, "items": len(other), "flips": int((said[0] != said[1]).sum()), "gained": gained})
    return pd.DataFrame(rows, columns=["task", "items", "flips", "gained"])


def log_perplexities(perplexity: pd.DataFrame, variants: pd.DataFrame) -> dict[tuple[str, str], Sample]:
    """Nats a token by text and variant, drawn over documents and replicates."""
    joined = perplexity.merge(seeded(variants), on="variant_id", validate="many_to_one")
    found = {}
    for (text, variant), part in joined.groupby(["text", "variant"], sort=False):
        arms = {
            name: part.pivot(index="seed", columns="document", values=name) for name in ("log_likelihood", "tokens")
        }
        tables = {name: one.to_numpy(dtype=float) for name, one in arms.items()}
        found[str(text), str(variant)] = crossed_sample(
            tables, lambda means: -means["log_likelihood"] / means["tokens"], seed=SEED
        )
    return found


def perplexities(perplexity: pd.DataFrame, variants: pd.DataFrame) -> pd.DataFrame:
    """One row per variant and text: perplexity of a token with an interval that resamples documents and replicates."""
    columns = ["variant", "text", "perplexity", "lower", "upper", "bits_per_byte", "window", "documents"]
    if perplexity.empty:
        return pd.DataFrame(columns=columns)
    joined = perplexity.merge(variants[["variant_id", "variant"]], on="variant_id", validate="many_to_one")
    parts = dict(iter(joined.groupby(["text", "variant"], sort=False)))
    rows = []
    for (text, variant), nats in log_perplexities(perplexity, variants).items():
        part = parts[text, variant]
        lower, upper = np.exp(nats.interval())
        rows.append(
            {"variant": variant, "text": text, "perplexity": np.exp(nats.point), "lower": lower, "upper": upper}
            | {"bits_per_byte": float(-part["log_likelihood"].sum() / part["bytes"].sum() / np.log(2))}
            | {"window": int(part["window"].iloc[0]), "documents": part["document"].nunique()}
        )
    return pd.DataFrame(rows, columns=columns)


def compared_of(run: Path) -> pd.DataFrame:
    """Every variant of a run against its references.

    Raises:
        InputError: the run's study named no tasks.
    """
    tasks = read_table(run, "tasks")
    if tasks.empty:
        raise InputError(f"run '{run.name}': its study names no tasks: add a block tasks to it and run it again")
    return compare_tasks(tasks, read_table(run, "variants"))
