"""From answers to the table that everyone reads first: accuracy and bits per variant, group and split.

Replicates (seeds, and the draws of a placebo) are crossed with entities: an interval speaks of other seeds and
other people, not of the same ones asked again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.intervals import Estimate, crossed_mean

SETTING = ("scope", "compression", "repair")
MEASURES = ("correct", "bits")


def entity_table(answers: pd.DataFrame, column: str) -> pd.DataFrame:
    """Mean of a column per replicate (rows) and entity (columns)."""
    means = answers.groupby(["replicate", "entity"], sort=True, observed=True)[column].mean()
    return means.unstack("entity")


def item_counts(answers: pd.DataFrame, entities: pd.Index) -> Float[np.ndarray, " entity"]:
    """How many items each entity has in one replicate."""
    one = answers[answers["replicate"] == answers["replicate"].iloc[0]]
    return one.groupby("entity", observed=True).size().reindex(entities).to_numpy(dtype=float)


@dataclass(frozen=True)
class Arm:
    """What an interval over replicates and entities is computed from, of one group of answers."""

    key: tuple[str, ...]
    tables: dict[str, Float[np.ndarray, "replicate entity"]]
    """Mean of each column; NaN where a replicate was not asked about an entity."""
    items: Float[np.ndarray, " entity"]
    """How many items each entity has in one replicate."""

    def estimate(self, column: str) -> Estimate:
        """Mean of a column with its interval over replicates and entities."""
        return crossed_mean(self.tables[column], weights=self.items, seed=0)


def arms_by(answers: pd.DataFrame, by: Sequence[str], columns: Sequence[str]) -> Iterator[Arm]:
    """The groups of answers, in the order in which they come; grouped once, since a thousand groupings are slow."""
    cells = answers.groupby([*by, "replicate", "entity"], sort=False, observed=True, dropna=False)
    means = cells[list(columns)].mean().assign(_items=cells.size()).reset_index()
    for key, part in means.groupby(list(by), sort=False, observed=True, dropna=False):
        row, replicates = pd.factorize(part["replicate"], sort=True)
        column, entities = pd.factorize(part["entity"], sort=True)
        tables = {}
        for name in (*columns, "_items"):
            tables[name] = np.full((len(replicates), len(entities)), np.nan)
            tables[name][row, column] = part[name].to_numpy(dtype=float)
        items = tables.pop("_items")[0]
        yield Arm(tuple(str(one) for one in key), tables, items)


def drawn_over(variants: pd.DataFrame) -> pd.Series:
    """What an interval is drawn over, numbered: each replicate, and of untrained prompts each draw in it, in order."""
    draws = variants["draw"].max() + 1
    return variants["replicate"] * draws + variants["draw"]


def join(answers: pd.DataFrame, variants: pd.DataFrame) -> pd.DataFrame:
    """Answers in the measuring phrasing with what their variant is; `replicate` numbers seeds and draws."""
    known = variants[["variant_id", "variant", *SETTING, "parameters_added", "bytes_added"]]
    known = known.assign(replicate=drawn_over(variants))
    return answers[answers["phrasing"] == "measure"].merge(known, on="variant_id", validate="many_to_one")


def recovery_table(answers: pd.DataFrame, variants: pd.DataFrame) -> pd.DataFrame:
    """One row per setting, repair, group, reading and split: accuracy and bits with intervals.

    Columns: scope, compression, repair, variant, group, reading, split, measure, value, lower, upper, items,
    entities, replicates, parameters_added, bytes_added.
    """
    by = [*SETTING, "variant", "group", "reading", "split"]
    joined = join(answers, variants)
    sizes = joined.drop_duplicates(by)[["parameters_added", "bytes_added"]].astype(int)
    rows = []
    for arm, (parameters, bytes_) in zip(arms_by(joined, by, MEASURES), sizes.to_numpy(), strict=True):
        for measure in MEASURES:
            found = arm.estimate(measure)
            replicates, entities = arm.tables[measure].shape
            rows.append(
                dict(zip(by, arm.key, strict=True))
                | {
                    "measure": "accuracy" if measure == "correct" else "bits",
                    "value": found.estimate,
                    "lower": _within(measure, found.lower),
                    "upper": _within(measure, found.upper),
                    "items": int(arm.items.sum()),
                    "entities": entities,
                    "replicates": replicates,
                    "parameters_added": int(parameters),
                    "bytes_added": int(bytes_),
                }
            )
    return pd.DataFrame(rows)


def _within(measure: str, bound: float) -> float:
    """A bound of an interval, cut where the measure ends: no accuracy lies outside [0, 1], bits may."""
    return min(max(bound, 0.0), 1.0) if measure == "correct" else bound


def arms_of(joined: pd.DataFrame, masks: Mapping[str, pd.Series], column: str) -> dict[str, np.ndarray]:
    """Tables [replicate, entity] of several arms on the same entities, as the crossed bootstrap wants them."""
    tables = {name: entity_table(joined[mask], column) for name, mask in masks.items()}
    entities = sorted(set.intersection(*(set(table.columns) for table in tables.values())))
    return {name: table[entities].to_numpy(dtype=float) for name, table in tables.items()}
