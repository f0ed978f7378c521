"""All prompts of a bank at once, none chosen: the mean of their probabilities, or of their log-probabilities.

The mixture, mean of probabilities:
1. p(answer) = mean over prompts of p(answer | prompt, question), the answer's tokens multiplied first.
2. Greedy reading: at every token the mixture's own next-token distribution, where a prompt weighs by how likely the
   answer so far was behind it.

The ensemble, mean of log-probabilities (a product of experts: Hinton 2002; without its normaliser, so that no answer
is likelier than under the mixture):
1. log p(answer) = mean over prompts of log p(answer | prompt, question).
2. Greedy reading: at every token the largest mean of log-probabilities. One prompt can veto here, and there not.

What a choice has to beat: keeping everything and choosing nothing. It costs one pass per prompt.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from data.facts import Item
from probes.inputs import encode_continuations
from probes.scoring import Score
from probes.variants import Variant

Mean = Literal["probabilities", "log_probabilities"]


def score_mixture(
    members: Sequence[Variant],
    singles: Sequence[Sequence[Score]],
    items: Sequence[Item],
    *,
    batch: int = 64,
    mean: Mean = "probabilities",
) -> list[Score]:
    """Scores of the mean over members, one variant per prompt, given each member's own scores of the items."""
    pairs = [(item.question, item.fact.answer) for item in items]
    encoded = encode_continuations(members[0].tokenizer, pairs)
    results: list[Score] = []
    for first in range(0, len(items), batch):
        part = encoded[first : first + batch]
        for place, mixed in enumerate(_mixed(members, part, mean), start=first):
            _, answer = encoded[place]
            best = mixed.argmax(dim=1).tolist()
            results.append(
                Score(
                    item=items[place],
                    log_probs=mean_of([one[place].log_probs for one in singles], mean),
                    greedy=best == list(answer),
                    said=str(members[0].tokenizer.decode([best[0]])).strip(),
                )
            )
    return results


def mean_of(log_probs: Sequence[Sequence[float]], mean: Mean = "probabilities") -> tuple[float, ...]:
    """Of every candidate the log of its mean probability over prompts, or the mean of the logs.

    The candidates reading, which needs no new pass.
    """
    stacked = torch.tensor([list(one) for one in log_probs], dtype=torch.float64)
    if mean == "log_probabilities":
        return tuple(stacked.mean(dim=0).tolist())
    return tuple((stacked.logsumexp(dim=0) - math.log(len(log_probs))).tolist())


@torch.no_grad()
def _mixed(
    members: Sequence[Variant], part: Sequence[tuple[list[int], list[int]]], mean: Mean
) -> list[Float[Tensor, "answer vocabulary"]]:
    """Log-probabilities of all prompts together before each token of each answer, up to a constant per token."""
    together = torch.logaddexp if mean == "probabilities" else torch.add
    rows = [[*question, *answer[:-1]] for question, answer in part]
    totals: list[Tensor] = []
    for member in members:
        inputs = member.inputs(rows)
        hidden = member.model.base_model(**inputs.forward_arguments(), use_cache=False).last_hidden_state
        for place, (_, answer) in enumerate(part):
            logits = member.model.get_output_embeddings()(hidden[place, -len(answer) :])
            log_probs = logits.float().log_softmax(dim=-1)
            taken = log_probs.gather(1, torch.tensor(answer, device=log_probs.device)[:, None])[:, 0]
            joint = log_probs + (taken.cumsum(dim=0) - taken)[:, None]
            if len(totals) <= place:
                totals.append(joint)
            else:
                totals[place] = together(totals[place], joint)
    return totals
