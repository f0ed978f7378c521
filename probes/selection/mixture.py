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

from data.errors import InputError
from data.facts import Item
from probes.candidates import Asked, encode_items, longer_of
from probes.scoring import Score
from probes.selection.base import Selection
from probes.specs.selectors import Cost
from probes.variants import Variant

Mean = Literal["probabilities", "log_probabilities"]


class MixtureSelector:
    """No choice: every prompt is kept, and `score_mixture` scores their mean."""

    cost: Cost = "full_pass_per_prompt"

    def scores(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch prompt"]:
        """Refuse.

        Raises:
            InputError: always, since no prompt is kept.
        """
        raise InputError("selector 'mixture' keeps no single prompt: score it with score_mixture, or name another")


def score_mixture(
    members: Sequence[Variant],
    singles: Sequence[Sequence[Score]],
    items: Sequence[Item],
    *,
    batch: int = 64,
    mean: Mean = "probabilities",
) -> list[Score]:
    """Scores of the mean over members, one variant per prompt, given each member's own scores of the items."""
    asked = encode_items(members[0].tokenizer, tuple(items))
    greedy: list[list[bool]] = [[] for _ in items]
    words = [""] * len(items)
    wanted = [(place, tail) for place, one in enumerate(asked) for tail in _decisive(one)]
    for first in range(0, len(wanted), batch):
        part = wanted[first : first + batch]
        mixed = _mixed(members, [(asked[place].question, tail) for place, tail in part], mean)
        for (place, tail), log_probs in zip(part, mixed, strict=True):
            best = log_probs.argmax(dim=1).tolist()
            greedy[place].append(best == tail)
            words[place] = str(members[0].tokenizer.decode([best[0]])).strip()
    return [
        Score(
            item=one.item,
            log_probs=mean_of([single[place].log_probs for single in singles], mean),
            greedy=greedy[place][0] and not any(greedy[place][1:]),
            said=words[place],
            rule=one.rule,
        )
        for place, one in enumerate(asked)
    ]


def _decisive(asked: Asked) -> list[list[int]]:
    """The right answer, and the candidates that go on from it, which greedy decoding must not say instead."""
    right = asked.item.answer_index
    return [asked.tails[place] for place in (right, *longer_of(asked.tails)[right])]


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


SELECTION = Selection(lambda kind, found, people: MixtureSelector())
