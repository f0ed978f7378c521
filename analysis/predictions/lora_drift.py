"""Less drift than LoRA: how much further from dense LoRA lies than the repair, in the stream and in attention."""

from dataclasses import dataclass

from scipy import stats

from analysis.predictions.prediction import Asked, Entry, Prediction, Tables, Words, recorded, rows_of


@dataclass(frozen=True)
class Place:
    """Where two repairs are compared."""

    words: Words
    table: str
    site: str
    metric: str


STREAM = Place(recorded("less drift of the residual stream than LoRA"), "drift", "resid_post", "relative_l2")
ATTENTION = Place(recorded("less drift of attention than LoRA"), "attention", "pattern", "jensen_shannon")


def less_drift(place: Place, tables: Tables, scope: str, compression: str, repair: str, lora: str | None) -> Entry:
    """How much further from dense LoRA lies than the repair, paired within replicate; t over replicates.

    Recovery and parameters are not matched here; the sentence says so.
    """
    if lora is None:
        return place.words.not_run("not applicable: there is no LoRA in this study to compare it with")
    if lora == repair:
        return place.words.not_run("not applicable: this is the LoRA that the others are compared with")
    found = rows_of(tables, place.table, {"scope": scope})
    if found is None:
        return place.words.not_run(f"cannot be said: table '{place.table}' is empty")
    rows = found[(found["site"] == place.site) & (found["metric"] == place.metric) & (found["reference"] == "dense")]
    rows = rows[rows["compression"] == compression]
    means = rows[rows["repair"].isin([repair, lora])].groupby(["replicate", "repair"])["value"].mean().unstack("repair")
    if not {repair, lora} <= set(means.columns) or len(means.dropna()) < 3:
        return place.words.not_run("cannot be said: fewer than three replicates of both repairs were looked into")
    difference = (means[lora] - means[repair]).dropna().to_numpy()
    test = stats.ttest_1samp(difference, 0.0, alternative="greater")
    low, high = stats.ttest_1samp(difference, 0.0).confidence_interval(0.95)
    quantity = {"estimate": float(difference.mean()), "lower": float(low), "upper": float(high)}
    told = place.words.measured(quantity, float(test.pvalue), len(difference))
    told["sentence"] += "; neither recovery nor parameters are matched"
    return told


def _at(place: Place) -> Prediction:
    def measure(asked: Asked) -> Entry:
        return less_drift(place, asked.tables, asked.scope, asked.compression, asked.repair, asked.lora)

    return Prediction(words=place.words, measure=measure, tables=(place.table,))


IN_STREAM, IN_ATTENTION = _at(STREAM), _at(ATTENTION)
