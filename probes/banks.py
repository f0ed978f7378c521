"""Banks of prompts made automatically: what each prompt is tuned on, and which prompts are kept.

    seeds       every prompt on all tuning text, from another start (lengths may differ)
    relations   every prompt on the facts of one relation
    clusters    every prompt on one cluster of tuning questions: k-means of their mean input embeddings
    diverse     more prompts than wanted are tuned; the alike are dropped, by agreement of answers on tune facts
    texts       the embeddings of given texts, untuned
    files       prompts made elsewhere
    planted     every prompt told the truth about one relation and one same answer to all of another: the right choice
                is known, hence a control

What would count against a way of making banks: the oracle's choice among its prompts gaining no more than among
prompts of several seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.cluster.vq import kmeans2
from torch import Tensor
from transformers import PreTrainedModel

from data.errors import InputError
from probes.selection.key import mean_embeddings
from probes.tuning import TuningRow


@dataclass(frozen=True)
class Clusters:
    """Tuning rows by the prompt that reads them, and the centre of each prompt's questions."""

    centres: Float[Tensor, "prompt width"]
    label: Int[np.ndarray, " row"]


def questions_of(rows: Sequence[TuningRow]) -> list[tuple[int, ...]]:
    """The tokens before what is scored: all that a selector will see of a row."""
    return [row.tokens[: row.scored_from] for row in rows]


def cluster_rows(model: PreTrainedModel, rows: Sequence[TuningRow], count: int, seed: int) -> Clusters:
    """Deal tuning rows into clusters by k-means (k-means++ start) of their questions' mean input embeddings.

    Raises:
        InputError: fewer different questions than clusters, or a cluster that stays empty.
    """
    means = mean_embeddings(model, questions_of(rows))
    points = means.cpu().double().numpy()
    if len(np.unique(points.round(9), axis=0)) < count:
        raise InputError(f"bank clusters: {len(points)} tuning questions hold fewer than {count} different ones")
    _, label = kmeans2(points, count, iter=100, minit="++", rng=np.random.default_rng(seed))
    return Clusters(_centres(means, label, count), label)


def relation_rows(model: PreTrainedModel, rows: Sequence[TuningRow], relations: Sequence[str]) -> Clusters:
    """Rows by relation, relations in alphabetical order, with the centre of each one's questions."""
    names = sorted(set(relations))
    label = np.array([names.index(one) for one in relations])
    return Clusters(_centres(mean_embeddings(model, questions_of(rows)), label, len(names)), label)


def _centres(
    means: Float[Tensor, "row width"], label: Int[np.ndarray, " row"], count: int
) -> Float[Tensor, "prompt width"]:
    """The mean of each cluster's members."""
    if empty := sorted(set(range(count)) - set(label.tolist())):
        raise InputError(f"bank clusters: cluster {empty[0]} of {count} stays empty: ask for fewer prompts")
    return torch.stack([means[torch.tensor(label == place)].mean(dim=0) for place in range(count)])


def least_alike(
    correct: Bool[np.ndarray, "fact prompt"], said: Int[np.ndarray, "fact prompt"], wanted: int
) -> list[int]:
    """Places of the prompts that are kept, in their order: of the two that agree most, the worse goes, and again.

    Agreement is the share of tune facts to which both give the same answer; of equals the later one goes.
    """
    kept = list(range(said.shape[1]))
    accuracy = correct.mean(axis=0)
    agreement = (said[:, :, None] == said[:, None, :]).mean(axis=0)
    while len(kept) > wanted:
        pairs = [(agreement[a, b], -a, -b) for place, a in enumerate(kept) for b in kept[place + 1 :]]
        _, first, second = max(pairs)
        kept.remove(-first if accuracy[-first] < accuracy[-second] else -second)
    return kept
