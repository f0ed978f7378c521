"""Counterfactual tuning: do wrong answers, too, lead back to the right ones?

B(C + twin) - B(C) on test facts that dense knows.
"""

from analysis.evidence import Evidence
from analysis.predictions.prediction import Asked, Entry, Prediction, Setting, recorded
from analysis.predictions.twin import has_twin, no_twin

COUNTERFACTUAL = recorded("counterfactual tuning")
FEWEST_KNOWN = 10
"""Test entities that D must know for their mean to be a figure."""


def counterfactual(evidence: Evidence, setting: Setting, shuffled: str | None) -> Entry:
    """What tuning on wrong answers gives back of the right ones, on test facts that D answers right."""
    if shuffled is None or not has_twin(setting, shuffled):
        return no_twin(COUNTERFACTUAL, setting)
    scope, compression = setting["scope"], setting["compression"]
    dense = evidence.dense_arm(scope, compression)
    if dense is None:
        return COUNTERFACTUAL.not_run("cannot be said: no D of these facts was run")
    wanted = {
        "dense": dense,
        "compressed": (compression, "", "the compressed model"),
        "counterfactual": (compression, shuffled, f"the prompt {shuffled}"),
    }
    if absent := evidence.absent(wanted, scope, "test"):
        return COUNTERFACTUAL.not_run(f"cannot be said: no answers of {', '.join(absent)} on test")
    arms = evidence.arms(wanted, scope, "test").only(evidence.answered_right(scope, *dense[:2]))
    if arms is None or arms.entities < FEWEST_KNOWN:
        count = 0 if arms is None else arms.entities
        return COUNTERFACTUAL.not_run(f"not applicable: D knows facts of {count} test entities")
    return COUNTERFACTUAL.sampled(arms.measure(lambda arm: arm["counterfactual"] - arm["compressed"]), arms.entities)


def _measure(asked: Asked) -> Entry:
    return counterfactual(asked.evidence, asked.setting, asked.shuffled)


PREDICTION = Prediction(words=COUNTERFACTUAL, measure=_measure)
