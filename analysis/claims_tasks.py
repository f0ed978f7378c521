"""What a run's standard tasks say of the paper's claims: one repair against another, and perplexity against answers."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import rankdata

from analysis.intervals import Estimate, crossed_sample
from analysis.task_scores import SEED, items_of, log_perplexities, paired_difference, replicate_table

FEWEST = 5
"""Variants below which a rank correlation over them is no figure."""


def task_difference(tasks: pd.DataFrame, variants: pd.DataFrame, first: str, second: str) -> Estimate | None:
    """Accuracy of one variant less another's over every item of every task; None where one was not scored."""
    items = items_of(tasks, variants)
    ours, theirs = (items[items["variant"] == name] for name in (first, second))
    return None if ours.empty or theirs.empty else paired_difference(ours, theirs)


def perplexity_tells(tables: Mapping[str, pd.DataFrame]) -> dict[str, Estimate]:
    """Spearman's correlation over variants of perplexity with accuracy on all tasks, by text.

    -1: perplexity orders variants as their answers do; 0: it says nothing of them. The interval resamples items,
    documents and replicates, every variant under the same draw; variants are those that the study names, not a sample.
    """
    items = items_of(tables["tasks"], tables["variants"])
    right = {name: replicate_table(part, "correct") for name, part in items.groupby("variant", sort=False)}
    nats = log_perplexities(tables["perplexity"], tables["variants"])
    found = {}
    for text in dict.fromkeys(text for text, _ in nats):
        names = [name for name in right if (text, name) in nats]
        if len(names) < FEWEST:
            continue
        # Dense has no replicates: it holds under each of the others', so that all are drawn alike.
        most = max(len(right[name]) for name in names)
        tables_of = [np.broadcast_to(right[name], (most, right[name].shape[1])) for name in names]
        drawn = [crossed_sample({"": table}, lambda arm: arm[""], seed=SEED) for table in tables_of]
        draws = _spearman(np.stack([nats[text, name].draws for name in names]), np.stack([one.draws for one in drawn]))
        point = _spearman(
            np.array([[nats[text, name].point] for name in names]), np.array([[one.point] for one in drawn])
        )
        lower, upper = np.quantile(draws, [0.025, 0.975])
        found[text] = Estimate(float(point[0]), float(lower), float(upper), len(names), len(names), 0.95)
    return found


def _spearman(
    first: Float[np.ndarray, "variant draw"], second: Float[np.ndarray, "variant draw"]
) -> Float[np.ndarray, " draw"]:
    """Rank correlation over variants in every draw."""
    ranks = [rankdata(one, axis=0) for one in (first, second)]
    ranks = [one - one.mean(axis=0) for one in ranks]
    spread = np.sqrt((ranks[0] ** 2).sum(axis=0) * (ranks[1] ** 2).sum(axis=0))
    return (ranks[0] * ranks[1]).sum(axis=0) / np.where(spread > 0, spread, np.inf)
