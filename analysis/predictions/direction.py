"""Direction of drift: does tuning move the last layer back towards dense? Described, not tested."""

from analysis.predictions.prediction import Asked, Entry, Prediction, Setting, Tables, pick, recorded, rows_of

DIRECTION = recorded("direction of drift")


def direction(tables: Tables, setting: Setting, placebo: str) -> Entry:
    """How much more a tuned repair moves the last layer towards D than an untrained prompt does."""
    table = rows_of(tables, "drift", setting)
    rows = None if table is None else pick(table, metric="direction", compression=setting["compression"])
    if rows is None or rows.empty:
        return DIRECTION.not_run("not run: the study does not measure it (drift.metrics)")
    last = pick(rows, site="resid_post", layer=rows["layer"].max())
    last = last[last["group"] == "questions"] if "questions" in set(last["group"]) else last
    means = last.groupby("repair")["value"].mean()
    if not {setting["repair"], placebo} <= set(means.index):
        return DIRECTION.not_run(f"cannot be said: {setting['repair']} or {placebo} was not looked into")
    tuned, untrained = float(means[setting["repair"]]), float(means[placebo])
    sentence = (
        f"{DIRECTION.name}: {tuned - untrained:+.2f} at the last layer ({setting['repair']} {tuned:.2f}, untrained "
        f"{untrained:.2f}); described, not tested: both start at the parent"
    )
    return DIRECTION.entry(estimate=tuned - untrained, sentence=sentence)


def _measure(asked: Asked) -> Entry:
    return direction(asked.tables, asked.setting, asked.placebo)


PREDICTION = Prediction(words=DIRECTION, measure=_measure, tables=("drift",))
