"""A figure and the rows that it draws: what is drawn is what can be taken away; no browser and no model.

A repair has one hue and one marker and a compression one dash in every figure, so that a reader learns them once;
markers differ too, because a grey print has no hues.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from data.errors import InputError

IMAGES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Figure:
    """A figure and exactly the rows that it draws."""

    figure: go.Figure
    data: pd.DataFrame


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, SVG, PDF or HTML by the path's ending, and its rows as CSV beside it.

    Raises:
        InputError: another ending, or an image is asked for and no Chromium is on the machine.
    """
    if path.suffix not in (*IMAGES, ".html"):
        raise InputError(f"figure '{path.name}': endings are {', '.join(IMAGES)} and .html")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".html":
        figure.figure.write_html(path)
    else:
        from choreographer.browsers.chromium import Chromium

        if Chromium.find_browser(skip_local=False) is None:
            raise InputError(f"figure '{path.name}': drawing an image needs Chrome or Chromium; .html needs neither")
        figure.figure.write_image(path, width=1000, scale=2 if path.suffix == ".png" else 1)
    figure.data.to_csv(path.with_suffix(".csv"), index=False)


def chosen(table: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    """The rows that have all the wanted values."""
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table


def averaged(table: pd.DataFrame, variants: pd.DataFrame, places: list[str]) -> pd.DataFrame:
    """A row per variant and place: the mean over replicates, the widest of their intervals, the highest floor."""
    if variants["scope"].nunique() > 1:
        raise ValueError("variants of one scope at a time: equal names in two scopes are different models")
    known = variants[["variant_id", "variant", "compression", "repair"]]
    joined = known.merge(table, on="variant_id", validate="one_to_many")
    return joined.groupby(["variant", "compression", "repair", *places], sort=False, as_index=False).agg(
        value=("value", "mean"),
        lower=("lower", "min"),
        upper=("upper", "max"),
        floor=("floor", "max"),
        tokens=("tokens", "min"),
        replicates=("variant_id", "nunique"),
    )
