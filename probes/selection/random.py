"""A prompt drawn from a hash of the row: stable whatever stands beside it. What any choice must beat."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probes.selection.base import Material, Selection
from probes.specs.selectors import Cost


class RandomSelector:
    """A prompt drawn for each row from a hash of its tokens and a seed, so that order and batch do not matter."""

    cost: Cost = "none"

    def __init__(self, prompts: int, seed: int) -> None:
        self._prompts, self._seed = prompts, seed

    def scores(self, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch prompt"]:
        """Numbers drawn uniformly from [0, 1)."""
        return torch.tensor(np.stack([self._drawn(row) for row in rows]))

    def _drawn(self, row: Sequence[int]) -> Float[np.ndarray, " prompt"]:
        content = f"{self._seed} {' '.join(str(int(token)) for token in row)}"
        digest = hashlib.sha256(content.encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big")).random(self._prompts)


def _drawn(found: Material, draw: int) -> RandomSelector:
    """The choice by the bank's own seed, or by one that comes after it."""
    return RandomSelector(len(found.prompts), found.seed + draw)


SELECTION = Selection(lambda kind, found, people: _drawn(found, 0), draw=_drawn)
