"""Linear decodability: does a probe refitted to the compressed model read the answers beyond control labels?

Selectivity at the layer where dense's is largest, which is chosen on dense.
"""

from scipy import stats

from analysis.predictions.prediction import Asked, Entry, Prediction, Setting, Tables, pick, recorded, rows_of

DECODABLE = recorded("linear decodability")


def decodability(tables: Tables, setting: Setting) -> Entry:
    """Whether a linear probe refitted to the compressed model reads the answers beyond control labels."""
    table = rows_of(tables, "probes", setting)
    if table is None:
        return DECODABLE.not_run("not run: the study fits no probes (inside.probes)")
    chosen = pick(table, way="refitted", metric="probe_selectivity", repair="")
    of_dense = pick(chosen, compression="dense")
    if of_dense.empty:
        return DECODABLE.not_run("cannot be said: no probe was refitted to the dense model")
    group = of_dense["group"].iloc[0]  # the first that the study names
    layer = pick(of_dense, group=group).groupby("layer")["value"].mean().idxmax()
    found = pick(chosen, compression=setting["compression"], group=group, layer=layer)
    if found.empty:
        return DECODABLE.not_run(f"not run: no probe was refitted to {setting['compression']}")
    one = found.loc[found["replicate"].idxmin()]
    error = (one["upper"] - one["lower"]) / (2 * stats.norm.ppf(0.975))
    p = float(stats.norm.sf(one["value"] / error)) if error > 0 else float(one["value"] <= 0)
    figure = {name: float(one[name]) for name in ("lower", "upper")} | {"estimate": float(one["value"])}
    told = DECODABLE.measured(figure, p, int(one["entities"]))
    told["sentence"] += f"; {one['group']}, layer {one['layer']}, where D's is largest; of C before any repair"
    return told


def _measure(asked: Asked) -> Entry:
    return decodability(asked.tables, asked.setting)


PREDICTION = Prediction(words=DECODABLE, measure=_measure, tables=("probes",))
