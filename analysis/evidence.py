"""The answers of a run as arms: tables of replicates x entities that the crossed bootstrap compares."""

from collections.abc import Mapping
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.intervals import Combine, Sample, crossed_sample
from analysis.recovery import arms_of, item_counts, join
from analysis.scopes import MAIN

PLACEBO = "placebo"
"""The arm of untrained prompts: several draws in each replicate, of which the mean counts."""
ROOM = 0.05
"""Probability that D must leave to other candidates for it to have room to gain on an item."""
Draws = Float[np.ndarray, " resample"]
Measure = Literal["bits", "correct"]
"""What is averaged over facts: calibrated bits, or right answers."""
Item = tuple[str, str]
"""A relation and an entity."""
ArmName = tuple[str, str, str]
"""A compression, a repair and what to call the arm in a sentence."""


class Evidence:
    """All answers of a run in one reading, ready to be compared by arm."""

    def __init__(self, answers: pd.DataFrame, variants: pd.DataFrame, groups: dict[str, list[str]], model: str) -> None:
        candidates = answers[answers["reading"] == "candidates"]
        self.joined = join(candidates, variants)
        self.groups = groups
        self.model = model
        self._damage = candidates[candidates["phrasing"] == "damage"]
        self._variants = variants
        # Most arms are asked for by every setting, and a mask over all answers takes milliseconds.
        self._held: dict[tuple[str, str, str, str], pd.Series] = {}
        self._held_of = self.joined

    def rows(self, scope: str, compression: str, repair: str, split: str) -> pd.Series:
        """Which rows belong to one arm on one split."""
        table, asked = self.joined, (scope, compression, repair, split)
        if self._held_of is not table:
            self._held, self._held_of = {}, table
        if asked not in self._held:
            self._held[asked] = self._find(table, *asked)
        return self._held[asked]

    def _find(self, table: pd.DataFrame, scope: str, compression: str, repair: str, split: str) -> pd.Series:
        return (
            (table["scope"] == scope)
            & (table["compression"] == compression)
            & (table["repair"] == repair)
            & (table["split"] == split)
            & table["group"].isin(self.groups[scope])
        )

    def has(self, scope: str, compression: str, repair: str) -> bool:
        """Whether an arm was run."""
        return bool(self.rows(scope, compression, repair, "test").any())

    def dense_arm(self, scope: str, compression: str) -> ArmName | None:
        """Who knows the facts of a scope: dense, or for a control the model with its key, else the twin; or nobody."""
        if scope == MAIN:
            return "dense", "", "dense"
        if self.has(scope, compression, "key"):
            return compression, "key", "the key"
        return ("dense", "twin", "the twin") if self.has(scope, "dense", "twin") else None

    def absent(self, wanted: Mapping[str, ArmName], scope: str, split: str) -> list[str]:
        """Labels of the arms that have no answers on one split of one scope."""
        return [
            label
            for compression, repair, label in wanted.values()
            if not self.rows(scope, compression, repair, split).any()
        ]

    def arms(self, wanted: Mapping[str, ArmName], scope: str, split: str, measure: Measure = "bits") -> "Arms":
        """The arms named on one split of one scope, in calibrated bits or in right answers.

        Raises:
            ValueError: an arm that was not run.
        """
        if absent := self.absent(wanted, scope, split):
            raise ValueError(f"no answers of {', '.join(absent)} in this run")
        masks = {
            name: self.rows(scope, compression, repair, split) for name, (compression, repair, _) in wanted.items()
        }
        return Arms(self.joined, masks, measure)

    def answered_right(self, scope: str, compression: str, repair: str) -> frozenset[Item]:
        """Test items that an arm answers right in every replicate."""
        rows = self.joined[self.rows(scope, compression, repair, "test")]
        right = rows.groupby(["relation", "entity"])["correct"].all()
        return frozenset(right[right].index)

    @cached_property
    def with_room(self) -> frozenset[Item]:
        """Items on which D itself has room to gain, by its answers in the phrasing that defines damage.

        That phrasing is not the one that measures, so that the choice of items favours neither D nor its repair.
        """
        dense = self._variants[(self._variants["compression"] == "dense") & (self._variants["repair"] == "")]
        asked = self._damage[self._damage["variant_id"].isin(dense["variant_id"])]
        certain = asked[np.exp(asked["log_prob"]) > 1 - ROOM]
        return frozenset(_items(asked)) - frozenset(_items(certain))


def _items(table: pd.DataFrame) -> list[Item]:
    return list(zip(table["relation"], table["entity"], strict=True))


class Arms:
    """Several arms on the same entities, all drawn together."""

    def __init__(self, joined: pd.DataFrame, masks: Mapping[str, pd.Series], measure: Measure = "bits") -> None:
        self._joined, self._masks, self._measure = joined, masks, measure
        found = arms_of(joined, masks, measure)
        replicates = max(len(table) for name, table in found.items() if name != PLACEBO)
        self.tables = {
            name: table.reshape(replicates, -1, table.shape[1]).mean(axis=1) if name == PLACEBO else table
            for name, table in found.items()
        }
        rows = joined[next(mask for name, mask in masks.items() if name != PLACEBO)]
        self.replicates = replicates
        self.weights = item_counts(rows, pd.Index(sorted(rows["entity"].unique())))

    def __contains__(self, name: str) -> bool:
        return name in self.tables

    @property
    def entities(self) -> int:
        """How many entities the arms rest on."""
        return len(self.weights)

    def only(self, items: frozenset[Item]) -> "Arms | None":
        """The same arms on these items alone; None where there are none."""
        asked = pd.MultiIndex.from_frame(self._joined[["relation", "entity"]])
        kept = pd.Series(asked.isin(list(items)), index=self._joined.index)
        masks = {name: mask & kept for name, mask in self._masks.items()}
        return Arms(self._joined, masks, self._measure) if all(mask.any() for mask in masks.values()) else None

    def measure(self, combine: Combine, *, seed: int = 0, stretch: bool = True) -> Sample:
        """A combination of arm means per fact, on all there is and as drawn."""
        return crossed_sample(self.tables, combine, weights=self.weights, seed=seed, stretch=stretch)
