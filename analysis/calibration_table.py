"""The table of the calibration: how often displaced, with exact intervals, coverage of the share, and targets.

Counted over organisms: redraws of one organism are one pipeline, so intervals speak of organisms alone. On another
machine, which has no store of what was judged, a committed table is added to.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.calibration import FIRST_SEED, KEYED, REDRAWS, Row, Scale
from analysis.intervals import clopper_pearson
from analysis.store import atomically, versions, write_atomically
from data.errors import InputError

TARGET_UPPER, TARGET_POWER, TARGET_ORGANISMS = 0.10, 0.8, 36
_RECIPE, _ORGANISMS = "recipe.json", "organisms.csv"


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Per recipe and repair (or any of a run): how often displaced, with an exact interval, and coverage."""
    found = []
    for recipe, part in rows.groupby("recipe", sort=False):
        whole = part.assign(repair="any")
        by_organism = whole.assign(displaced=whole["decision"] == "displaced").groupby("organism")
        hits = by_organism["displaced"].any()
        found.append(
            _line(recipe, "any", int(hits.sum()), len(hits), whole.drop_duplicates("organism"), "any_displaced")
        )
        for repair, mine in part.groupby("repair", sort=False):
            displaced = int((mine["decision"] == "displaced").sum())
            found.append(_line(recipe, repair, displaced, len(mine), mine, "displaced"))
    return pd.DataFrame(found)


def _line(recipe: str, repair: str, displaced: int, count: int, rows: pd.DataFrame, redraws: str) -> Row:
    rate = clopper_pearson(displaced, count)
    draws = int(rows["redraws"].sum())
    held = rows.dropna(subset=["share_estimate", "share_true"])
    covered = (held["share_lower"] <= held["share_true"]) & (held["share_true"] <= held["share_upper"])
    below = held["share_lower"] <= held["share_true"]
    counted = repair != "any" and len(held) > 0
    return {
        "recipe": recipe,
        "repair": repair,
        "organisms": count,
        "displaced": displaced,
        "rate": rate.estimate,
        "lower": rate.lower,
        "upper": rate.upper,
        "redraws": draws,
        "redraw_rate": float(rows[f"redraws_{redraws}"].sum() / draws) if draws else None,
        "share_true": float(held["share_true"].mean()) if len(held) else None,
        "share_mean": float(held["share_estimate"].mean()) if counted else None,
        "coverage": float(covered.mean()) if counted else None,
        "lower_end_holds": float(below.mean()) if counted else None,
        "coverage_draws": len(held) if counted else 0,
        "decisions": json.dumps(rows["decision"].value_counts().to_dict()) if repair != "any" else "",
    }


def targets(table: pd.DataFrame) -> list[str]:
    """Each target in a sentence, met or missed, and then what has none: power at the smaller shares, coverage."""
    lines = []
    for recipe, target in (("hard-null", "false positives"), ("mixture-0.5", "power")):
        mine = table[(table["recipe"] == recipe) & (table["repair"] == "any")]
        if mine.empty:
            lines.append(f"{target}: not measured (no organism of recipe {recipe})")
            continue
        one = mine.iloc[0]
        met = one["upper"] <= TARGET_UPPER if recipe == "hard-null" else one["rate"] >= TARGET_POWER
        goal = f"upper end <= {TARGET_UPPER:.2f}" if recipe == "hard-null" else f"power >= {TARGET_POWER:.1f}"
        few = "" if one["organisms"] >= TARGET_ORGANISMS else f"; fewer than {TARGET_ORGANISMS} organisms"
        lines.append(
            f"{target} ({recipe}): {one['displaced']} of {one['organisms']}, {one['rate']:.3f} "
            f"[{one['lower']:.3f}, {one['upper']:.3f}]; target {goal}: {'met' if met else 'MISSED'}{few}"
        )
    return [*lines, *_beside_targets(table)]


def _beside_targets(table: pd.DataFrame) -> Iterator[str]:
    """What a repair gives back is at most what is there, so the lower end of the share is judged apart."""
    for one in table[table["recipe"].isin(KEYED)].to_dict("records"):
        if one["repair"] == "any":
            if one["recipe"] != "mixture-0.5":
                yield (
                    f"power ({one['recipe']}): {one['displaced']} of {one['organisms']}, {one['rate']:.3f} "
                    f"[{one['lower']:.3f}, {one['upper']:.3f}]"
                )
        elif one["coverage_draws"]:
            draws = one["coverage_draws"]
            yield (
                f"share ({one['recipe']}, {one['repair']}): {one['share_mean']:.2f} on average where the key opens "
                f"{one['share_true']:.2f}; the interval covers it in {one['coverage'] * draws:.0f} of {draws} and "
                f"ends below it in {(one['lower_end_holds'] - one['coverage']) * draws:.0f}"
            )


def read_rows(folder: Path, scale: Scale | None = None) -> list[Row]:
    """The rows of a table that stands, to be added to.

    Raises:
        InputError: there is none, or what is judged now would be judged otherwise.
    """
    if not (folder / _RECIPE).exists():
        raise InputError(f"--add: {folder} holds no {_RECIPE}: there is no table to add to")
    theirs, ours = json.loads((folder / _RECIPE).read_text()), _recipe(scale)
    if other := [name for name in ours if theirs.get(name) != ours[name]]:
        raise InputError(
            f"--add: {folder / _RECIPE} has another {other[0]} ({theirs.get(other[0])}) than this run would "
            f"({ours[other[0]]}): write to another --table"
        )
    rows: list[Row] = pd.read_csv(folder / _ORGANISMS).to_dict("records")
    return rows


def write_table(rows: list[Row], folder: Path, scale: Scale | None = None) -> list[str]:
    """Write what was judged, its summary and the recipe of both; gives the targets in sentences."""
    folder.mkdir(parents=True, exist_ok=True)
    judged = pd.DataFrame(rows).sort_values("organism", kind="stable")  # whoever was done first
    table = summary(judged)
    for name, one in ((_ORGANISMS, judged), ("summary.csv", table)):
        with atomically(folder / name) as draft:
            one.to_csv(draft, index=False, float_format="%.4f")
    lines = targets(table)
    told = {"commands": _commands(judged)} | _recipe(scale) | {"targets": lines}
    write_atomically(folder / _RECIPE, json.dumps(told, indent=1) + "\n")
    return lines


def _commands(judged: pd.DataFrame) -> list[str]:
    """What judges as many organisms of each recipe again."""
    counts = judged.groupby("recipe", sort=False)["organism"].nunique()
    return [
        f"python -m analysis calibrate --recipes {recipe} --organisms {count}{' --add' if place else ''}"
        for place, (recipe, count) in enumerate(counts.items())
    ]


def _recipe(scale: Scale | None) -> dict[str, Any]:
    """What shaped a table, as JSON gives it back."""
    recipe = {
        "scale": asdict(scale or Scale()),
        "redraws_per_null_organism": REDRAWS,
        "first_seed": FIRST_SEED,
        "versions": versions(),
    }
    read: dict[str, Any] = json.loads(json.dumps(recipe))
    return read
