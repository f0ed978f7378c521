"""Return to the dense model's own errors: does the repaired copy say again what dense wrongly said?"""

from analysis.evidence import PLACEBO, Evidence
from analysis.intervals import crossed_sample
from analysis.predictions.prediction import Asked, Entry, Prediction, recorded

ERRORS = recorded("return to the dense model's own errors")
FEWEST_ERRORS = 10
"""Entities on which D errs and C differs, below which the return to D's errors is not applicable."""


def return_to_errors(evidence: Evidence, scope: str, compression: str, repair: str, placebo: str) -> Entry:
    """Whether C+R says again what D wrongly said, more often than C with untrained prompts does.

    Asked of the facts that D answers wrong and that C answers otherwise in every replicate.
    """
    dense = evidence.dense_arm(scope, compression)
    if dense is None:
        return ERRORS.not_run("cannot be said: no D of these facts was run")
    arms = {"dense": dense[:2], "compressed": (compression, ""), PLACEBO: (compression, placebo)}
    arms["repaired"] = (compression, repair)
    said, correct = {}, {}
    for name, (damage, what) in arms.items():
        rows = evidence.joined[evidence.rows(scope, damage, what, "test")]
        by = {"index": ["relation", "entity"], "columns": "replicate"}
        said[name], correct[name] = rows.pivot(values="predicted", **by), rows.pivot(values="correct", **by)
    if any(table.empty for table in said.values()):
        return ERRORS.not_run("cannot be said: D, the compressed model, the repair or a placebo was not run")
    told = said["dense"].iloc[:, 0]
    wrong = ~correct["dense"].iloc[:, 0].astype(bool)
    lost = told[wrong & said["compressed"].ne(told, axis=0).all(axis=1)]
    entities = lost.index.get_level_values("entity").nunique()
    if entities < FEWEST_ERRORS:
        return ERRORS.not_run(f"not applicable: D errs where C differs on {entities} test entities")
    tables = {
        name: said[name].loc[lost.index].eq(lost, axis=0).groupby(level="entity").mean().T.to_numpy(dtype=float)
        for name in ("repaired", PLACEBO)
    }
    tables[PLACEBO] = tables[PLACEBO].mean(axis=0, keepdims=True)
    return ERRORS.sampled(crossed_sample(tables, lambda arm: arm["repaired"] - arm[PLACEBO], seed=0), entities)


def _measure(asked: Asked) -> Entry:
    return return_to_errors(asked.evidence, asked.scope, asked.compression, asked.repair, asked.placebo)


PREDICTION = Prediction(words=ERRORS, measure=_measure)
