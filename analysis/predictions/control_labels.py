"""Control labels: are real answers learned sooner than answers dealt to the wrong subjects?

Mean loss over the tuning of the twin less that of the repair, paired by replicate.
"""

from scipy import stats

from analysis.predictions.prediction import Asked, Entry, Prediction, Setting, Tables, recorded, rows_of
from analysis.predictions.twin import FEWEST, has_twin, no_twin

LABELS = recorded("control labels")


def learning_curves(tables: Tables, setting: Setting, shuffled: str | None) -> Entry:
    """How much lower the loss on real answers runs than that on answers dealt anew, paired by replicate and step."""
    table = rows_of(tables, "training", setting)
    if table is None or not has_twin(setting, shuffled):
        return no_twin(LABELS, setting)
    rows = table[table["compression"] == setting["compression"]]
    areas = rows.groupby(["replicate", "repair"])["loss"].mean().unstack("repair")
    if not {setting["repair"], shuffled} <= set(areas.columns) or len(areas) < FEWEST:
        return LABELS.not_run(f"cannot be said: fewer than {FEWEST} replicates of both were tuned")
    difference = (areas[shuffled] - areas[setting["repair"]]).dropna().to_numpy()
    test = stats.ttest_1samp(difference, 0.0, alternative="greater")
    lower, upper = stats.ttest_1samp(difference, 0.0).confidence_interval(0.95)
    figure = {"estimate": float(difference.mean()), "lower": float(lower), "upper": float(upper)}
    told = LABELS.measured(figure, float(test.pvalue), len(difference))
    told["sentence"] += "; nats per token, mean over steps"
    return told


def _measure(asked: Asked) -> Entry:
    return learning_curves(asked.tables, asked.setting, asked.shuffled)


PREDICTION = Prediction(words=LABELS, measure=_measure, tables=("training",))
