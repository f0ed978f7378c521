"""The uniform mixture of a bank: the mean of the probabilities behind all its prompts, no prompt chosen.

1. p(answer) = mean over prompts of p(answer | prompt, question), the answer's tokens multiplied first.
2. Greedy reading: at every token the mixture's own next-token distribution, where a prompt weighs by how likely the
   answer so far was behind it.

What a choice has to beat: keeping everything and choosing nothing. It costs one pass per prompt.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from data.facts import Item
from probes.inputs import encode_continuations
from probes.scoring import Score
from probes.variants import Variant


def score_mixture(
    members: Sequence[Variant], singles: Sequence[Sequence[Score]], items: Sequence[Item], *, batch: int = 64
) -> list[Score]:
    """Scores of the mean over members, one variant per prompt, given each member's own scores of the items."""
    pairs = [(item.question, item.fact.answer) for item in items]
    encoded = encode_continuations(members[0].tokenizer, pairs)
    results: list[Score] = []
    for first in range(0, len(items), batch):
        part = encoded[first : first + batch]
        for place, mixed in enumerate(_mixed(members, part), start=first):
            _, answer = encoded[place]
            best = mixed.argmax(dim=1).tolist()
            results.append(
                Score(
                    item=items[place],
                    log_probs=mean_of([one[place].log_probs for one in singles]),
                    greedy=best == list(answer),
                    said=str(members[0].tokenizer.decode([best[0]])).strip(),
                )
            )
    return results


def mean_of(log_probs: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Log of the mean probability of every candidate over prompts: the candidates reading, which needs no new pass."""
    stacked = torch.tensor([list(one) for one in log_probs], dtype=torch.float64)
    return tuple((stacked.logsumexp(dim=0) - math.log(len(log_probs))).tolist())


@torch.no_grad()
def _mixed(
    members: Sequence[Variant], part: Sequence[tuple[list[int], list[int]]]
) -> list[Float[Tensor, "answer vocabulary"]]:
    """Unnormalised log-probabilities of the mixture before each token of each answer."""
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
                totals[place] = torch.logaddexp(totals[place], joint)
    return totals
