"""From answers to the table that everyone reads first: accuracy and bits per variant, group and split.

Replicates (seeds, and the draws of a placebo) are crossed with entities: an interval speaks of other seeds and
other people, not of the same ones asked again.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.statistics import Estimate, crossed_estimate

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


def estimate(answers: pd.DataFrame, column: str) -> Estimate:
    """Mean of a column with its interval over replicates and entities."""
    table = entity_table(answers, column)
    return crossed_estimate(
        {"arm": table.to_numpy(dtype=float)},
        lambda arms: arms["arm"],
        weights=item_counts(answers, table.columns),
        seed=0,
    )


def join(answers: pd.DataFrame, variants: pd.DataFrame) -> pd.DataFrame:
    """Answers in the measuring phrasing with what their variant is; `replicate` numbers seeds and draws."""
    known = variants[["variant_id", "variant", *SETTING, "replicate", "parameters_added", "bytes_added"]]
    return answers[answers["phrasing"] == "measure"].merge(known, on="variant_id", validate="many_to_one")


def recovery_table(answers: pd.DataFrame, variants: pd.DataFrame) -> pd.DataFrame:
    """One row per setting, repair, group, reading and split: accuracy and bits with intervals.

    Columns: scope, compression, repair, variant, group, reading, split, measure, value, lower, upper, items,
    entities, replicates, parameters_added, bytes_added.
    """
    by = [*SETTING, "variant", "group", "reading", "split"]
    # Every part is cut out of the whole: columns that it does not need would be cut out with it, a thousand times.
    joined = join(answers, variants)[[*by, "replicate", "entity", *MEASURES, "parameters_added", "bytes_added"]]
    joined["entity"] = joined["entity"].astype("category")
    rows = []
    for key, part in joined.groupby(by, sort=False, observed=True, dropna=False):
        for measure in MEASURES:
            found = estimate(part, measure)
            rows.append(
                dict(zip(by, key, strict=True))
                | {
                    "measure": "accuracy" if measure == "correct" else "bits",
                    "value": found.estimate,
                    "lower": _within(measure, found.lower),
                    "upper": _within(measure, found.upper),
                    "items": len(part) // part["replicate"].nunique(),
                    "entities": part["entity"].nunique(),
                    "replicates": part["replicate"].nunique(),
                    "parameters_added": int(part["parameters_added"].iloc[0]),
                    "bytes_added": int(part["bytes_added"].iloc[0]),
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
