"""What interventions did at each place, beside the placebos that did the same with nothing in it."""

import pandas as pd

PLACE = ["variant_id", "intervention", "site", "layer", "last_layer", "head", "positions", "form"]
COLUMNS = (*PLACE, "arm", "value", "lower", "upper", "p", "items", "entities", "lost", "group")
DONE = ("patched", "prompt keys")
"""Arms that do what is asked; the others at the same place are placebos."""
WORDS = {"patching": "patched in", "knockout": "taken out"}


def places_of(interventions: pd.DataFrame, variants: pd.DataFrame) -> pd.DataFrame:
    """A row per variant and place: what the intervention did there, what the strongest placebo did, and the p of it.

    Columns beside the place's own: `variant`, `compression`, `repair`, `replicate`, `value` with `lower` and `upper`
    (nats), `placebo` (the largest of the placebos' values), `p_placebo` (the largest p of the differences from each
    placebo, corrected over places by max-T), `before`, `reference`, `items`, `entities`, `lost`, `group`.
    """
    difference = interventions["arm"].str.contains(" - ", regex=False)
    done = interventions[interventions["arm"].isin(DONE)]
    against = interventions[difference].groupby(PLACE, dropna=False)["p"].max().rename("p_placebo")
    others = interventions[~difference & ~interventions["arm"].isin(DONE)]
    most = others.groupby(PLACE, dropna=False)["value"].max().rename("placebo")
    known = variants[["variant_id", "variant", "compression", "repair", "replicate"]]
    found = done.merge(against, on=PLACE, how="left").merge(most, on=PLACE, how="left")
    return known.merge(found, on="variant_id", validate="one_to_many").drop(columns=["p", "arm"])


def strongest(places: pd.DataFrame) -> pd.DataFrame:
    """Of every variant and kind of intervention the place with the largest value: whole layers, no single heads."""
    whole = places[places["head"] < 0]
    order = whole.sort_values("value", ascending=False, kind="stable")
    return order.drop_duplicates(["variant_id", "intervention"]).sort_index()


def layers_said(row: pd.Series) -> str:
    """One layer, or the first and last of a window."""
    return str(row["layer"]) if row["layer"] == row["last_layer"] else f"{row['layer']} to {row['last_layer']}"
