"""Knockout of prompt keys: does the content lose more without the prompt's keys than without as many of its own?

Log-odds at the window where most is lost, with a p by max-T over the windows.
"""

from analysis.predictions.prediction import Asked, Entry, Prediction, Setting, Tables, pick, recorded, rows_of

KNOCKOUT = recorded("knockout of prompt keys")


def knockout(tables: Tables, setting: Setting) -> Entry:
    """Whether taking the prompt's keys away from the content costs more than taking as many of the content's."""
    table = rows_of(tables, "interventions", setting)
    if table is None:
        return KNOCKOUT.not_run("not run: the study intervenes nowhere (inside.interventions)")
    found = pick(
        table,
        intervention="knockout",
        compression=setting["compression"],
        repair=setting["repair"],
        form="renormalised",
        arm="prompt keys - random keys",
        head=-1,
    )
    if found.empty:
        return KNOCKOUT.not_run(f"not run: no knockout with {setting['repair']} (inside.interventions.repairs)")
    # The p is corrected over the windows of a replicate, so only among those may the largest be taken.
    own = found[found["replicate"] == found["replicate"].min()].sort_values("layer")
    one = own.loc[own["value"].idxmax()]
    figure = {"estimate": float(one["value"]), "lower": float(one["lower"]), "upper": float(one["upper"])}
    told = KNOCKOUT.measured(figure, float(one["p"]), int(one["entities"]))
    window = f"layers {one['layer']} to {one['last_layer']}"
    told["sentence"] += f"; {window}, p by max-T over the windows; replicate {one['replicate']}"
    return told


def _measure(asked: Asked) -> Entry:
    return knockout(asked.tables, asked.setting)


PREDICTION = Prediction(words=KNOCKOUT, measure=_measure, tables=("interventions",))
