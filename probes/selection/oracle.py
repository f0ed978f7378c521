"""The right answer's log-probability in another phrasing: a bound, labelled as one, never a repair."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from data.errors import InputError
from probes.selection.base import Selection
from probes.specs.selectors import Cost


class OracleSelector:
    """The prompt behind which the right answer was likeliest in another phrasing of the same fact: a bound.

    It looks at an answer, hence it is no repair; but never at the phrasing that is scored, so that luck in one
    question is not counted as knowledge.
    """

    cost: Cost = "full_pass_per_prompt"

    def __init__(self, known: Mapping[tuple[int, ...], Sequence[float]]) -> None:
        self._known = known
        """By the tokens of the question that will be asked: log-probabilities per prompt in the other phrasing."""

    def scores(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch prompt"]:
        """Log-probability of the right answer in the other phrasing, nats.

        Raises:
            InputError: a row that is no question it was given.
        """
        if unknown := [row for row in rows if tuple(row) not in self._known]:
            raise InputError(
                f"selector 'oracle' needs the answer to what is asked and knows it of its own questions alone: asked a "
                f"row of {len(unknown[0])} tokens; name another selector to ask any text"
            )
        return torch.tensor([list(self._known[tuple(row)]) for row in rows])


SELECTION = Selection(lambda kind, found, people: OracleSelector(found.known(people)))
