"""Where two variants of a run first part inside: layer by layer and place by place, against the floor of arithmetic.

1. Places in the order in which a block computes: attention pattern, attention output, MLP output, residual after it.
2. One of the two is the reference that the other was measured against (dense, or the copy without its repair): the
   drift between them is in the tables, and they part where the lower end of its interval lies above the floor.
3. Else both were measured against dense alone. Distances obey the triangle inequality, so two variants at different
   distances are apart by at least the difference: they part where the intervals of the two distances do not meet and
   the difference is above the floor. Equal distances show nothing.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.figures.figure import averaged, chosen
from analysis.look import METRICS, SITES
from analysis.reading import read_table
from analysis.scopes import MAIN
from data.errors import InputError
from data.naming import nearest

PLACES = ("pattern", "attn_out", "mlp_out", "resid_post")
STATE, PATTERN = "relative_l2", "jensen_shannon"
DIRECT, DISTANCES = "drift between the two", "difference of their distances from dense"
ON = ["layer", "site"]


@dataclass(frozen=True)
class Parting:
    """What was compared, place by place, and what it comes to."""

    first: str
    second: str
    way: str
    """Drift between the two, or the difference of their distances from dense."""
    group: str
    places: pd.DataFrame
    """A row per layer and place in the order of computation: layer, site, metric, value, lower, upper, floor, tokens,
    parted."""

    @property
    def sentence(self) -> str:
        """Where they part and by how much, in words."""
        parted = self.places[self.places["parted"]]
        read = f"read on {self.group}, n = {self.places['tokens'].min()} content tokens"
        if parted.empty:
            most = self.places["value"].abs().max()
            beyond = "" if self.way == DIRECT else ", though equal distances from dense do not make them the same"
            return f"{self.first} and {self.second} part at no layer ({self.way} at most {most:.2g}; {read}){beyond}."
        one = parted.iloc[0]
        words, unit = METRICS[one["metric"]]
        measure = f"{_size(one)} bits" if unit == "bits" else _size(one)
        # Divergences and distances have no common scale: the most is sought among places of the first one's metric.
        alike = parted[parted["metric"] == one["metric"]]
        largest = alike.loc[alike["value"].abs().idxmax()]
        return (
            f"{self.first} and {self.second} first part at layer {one['layer']}, {SITES[one['site']]}: {words} "
            f"{measure}, {_times(one)} ({self.way}; {read}). They part in {len(parted)} of {len(self.places)} places; "
            f"by this measure most at layer {largest['layer']}, {SITES[largest['site']]}: {_size(largest)}."
        )


def _size(row: pd.Series) -> str:
    return f"{row['value']:.2g} [{row['lower']:.2g}, {row['upper']:.2g}]"


def _times(row: pd.Series) -> str:
    """How large against the floor."""
    if not row["floor"] > 0:
        return "where the floor is 0"
    ratio = abs(row["value"]) / row["floor"]
    about = round(ratio, 1 - int(np.floor(np.log10(ratio))))  # two figures: a floor is no more exact than that
    return f"{about:,.0f} times the floor ({row['floor']:.1g})" if about >= 10 else f"{about:g} times the floor"


def compare(run: Path, first: str, second: str, scope: str = MAIN, group: str = "") -> str:
    """Where two variants of a stored run part, in a sentence.

    Raises:
        InputError: as `part`, or no such scope in this run.
    """
    variants = read_table(run, "variants")
    if scope not in set(variants["scope"]):
        raise InputError(f"no scope '{scope}' in run '{run.name}'; {nearest(scope, variants['scope'])}")
    drift, attention = read_table(run, "drift"), read_table(run, "attention")
    return part(drift, attention, variants[variants["scope"] == scope], first, second, group).sentence


def part(
    drift: pd.DataFrame, attention: pd.DataFrame, variants: pd.DataFrame, first: str, second: str, group: str = ""
) -> Parting:
    """Compare two variants of one scope by their spoken names, replicates together.

    Raises:
        InputError: an unknown name (with the nearest), the same one twice, or one whose inside was not read.
    """
    for name in (first, second):
        if name not in set(variants["variant"]):
            raise InputError(f"no variant '{name}' in this scope; {nearest(name, variants['variant'])}")
    if first == second:
        raise InputError(f"'{first}' twice: name two variants")
    table = _both(drift, attention, variants, group)
    measured = set(variants.loc[variants["variant_id"].isin(table["variant_id"]), "variant"])
    if unread := [name for name in (first, second) if name not in measured]:
        raise InputError(f"the inside of '{unread[0]}' was not read in this run; {nearest(unread[0], measured)}")
    reference = _reference(variants, first, second)
    places, way = pd.DataFrame(), DIRECT
    if reference is not None:
        name, against = reference
        places = _profile(chosen(table, reference=against), variants, name)
        parted = places["lower"] > places["floor"]
    if places.empty:
        profiles = [_profile(chosen(table, reference="dense"), variants, name) for name in (first, second)]
        places, parted = _differences(*profiles)
        way = DISTANCES
    if places.empty:
        raise InputError(f"'{first}' and '{second}' were not read on the same places: choose another --group")
    where = places["layer"] * len(PLACES) + places["site"].map(PLACES.index)
    ordered = places.assign(parted=parted).loc[where.sort_values().index].reset_index(drop=True)
    return Parting(first, second, way, str(table["group"].iloc[0]), ordered)


def _both(drift: pd.DataFrame, attention: pd.DataFrame, variants: pd.DataFrame, group: str) -> pd.DataFrame:
    """Drift of states and of patterns (a mean over heads) of one group, one below the other."""
    groups = list(dict.fromkeys(drift["group"]))
    if group and group not in groups:
        raise InputError(f"--group '{group}': the inside was read on {', '.join(groups)}")
    asked = {"group": group or groups[0]}
    states = chosen(drift, metric=STATE, **asked)
    heads = chosen(attention, metric=PATTERN, **asked)
    by = ["variant_id", "reference", "group", "layer", "site", "metric"]
    numbers = {name: (name, "mean") for name in ("value", "lower", "upper", "floor")} | {"tokens": ("tokens", "min")}
    patterns = heads.groupby(by, sort=False, as_index=False).agg(**numbers)
    both = pd.concat([states[states["site"].isin(PLACES)][patterns.columns], patterns], ignore_index=True)
    return both[both["variant_id"].isin(variants["variant_id"])]


def _reference(variants: pd.DataFrame, first: str, second: str) -> tuple[str, str] | None:
    """The variant measured and the reference it was measured against, where the other of the two is that."""
    rows = variants.drop_duplicates("variant").set_index("variant")
    for name, other in ((first, second), (second, first)):
        own, reference = rows.loc[name], rows.loc[other]
        if reference["repair"] == "" and reference["compression"] == "dense":
            return name, "dense"
        if reference["repair"] == "" and own["repair"] and own["compression"] == reference["compression"]:
            return name, "parent"
    return None


def _profile(table: pd.DataFrame, variants: pd.DataFrame, name: str) -> pd.DataFrame:
    """One variant layer by layer: the mean over replicates, the widest of their intervals."""
    return averaged(table, variants[variants["variant"] == name], [*ON, "metric"])


def _differences(one: pd.DataFrame, other: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """By how much two distances from dense differ, and where their intervals do not meet."""
    both = one.merge(other, on=[*ON, "metric"], suffixes=("", "_other"), validate="one_to_one")
    floor = both[["floor", "floor_other"]].max(axis=1)
    places = both[[*ON, "metric"]].assign(
        value=both["value"] - both["value_other"],
        lower=both["lower"] - both["upper_other"],
        upper=both["upper"] - both["lower_other"],
        floor=floor,
        tokens=both[["tokens", "tokens_other"]].min(axis=1),
    )
    beyond = (places["lower"] > floor) | (places["upper"] < -floor)
    return places, beyond
