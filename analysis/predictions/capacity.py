"""Capacity on tune facts: did tuning return more than the same tuning stores of answers dealt anew?

(B(C + repair) - B(C)) - B'(C + twin) on tune facts, B' being bits of the answers that the twin was dealt.
"""

import numpy as np
import pandas as pd

from analysis.evidence import Evidence
from analysis.intervals import crossed_sample
from analysis.predictions.prediction import Asked, Entry, Prediction, Setting, Tables, recorded, rows_of
from analysis.predictions.twin import has_twin, no_twin
from analysis.recovery import entity_table, item_counts

CAPACITY = recorded("capacity on tune facts")


def capacity(evidence: Evidence, tables: Tables, setting: Setting, shuffled: str | None) -> Entry:
    """What tuning on true answers returned of them beyond what the same tuning stores of answers dealt anew."""
    if shuffled is None or not has_twin(setting, shuffled):
        return no_twin(CAPACITY, setting)
    dealt = rows_of(tables, "dealt", setting)
    stored = None if dealt is None else _stored(dealt, setting["compression"], shuffled)
    if stored is None or stored.empty:
        return CAPACITY.not_run(f"cannot be said: {shuffled} was not asked for what it was dealt")
    scope, compression = setting["scope"], setting["compression"]
    rows = {
        "repaired": evidence.joined[evidence.rows(scope, compression, setting["repair"], "tune")],
        "compressed": evidence.joined[evidence.rows(scope, compression, "", "tune")],
        "stored": stored,
    }
    if lack := [name for name, part in rows.items() if part.empty]:
        return CAPACITY.not_run(f"cannot be said: no answers of {', '.join(lack)} on tune")
    tables_of = {name: entity_table(part, "bits") for name, part in rows.items()}
    entities = sorted(set.intersection(*(set(table.columns) for table in tables_of.values())))
    arms = {name: table[entities].to_numpy(dtype=float) for name, table in tables_of.items()}
    weights = item_counts(rows["repaired"], pd.Index(entities))

    def beyond(arm: dict[str, np.ndarray]) -> np.ndarray:
        return arm["repaired"] - arm["compressed"] - arm["stored"]

    told = CAPACITY.sampled(crossed_sample(arms, beyond, weights=weights, seed=0), len(entities))
    held = crossed_sample({"": arms["stored"]}, lambda arm: arm[""], weights=weights, seed=0)
    told["sentence"] += f"; stored {held.point:+.2f}"
    return told


def _stored(dealt: pd.DataFrame, compression: str, shuffled: str) -> pd.DataFrame:
    """The twin's answers, right being what it was dealt."""
    kept = (dealt["reading"] == "candidates") & (dealt["compression"] == compression) & (dealt["repair"] == shuffled)
    return dealt[kept]


def _measure(asked: Asked) -> Entry:
    return capacity(asked.evidence, asked.tables, asked.setting, asked.shuffled)


PREDICTION = Prediction(words=CAPACITY, measure=_measure, tables=("dealt",))
