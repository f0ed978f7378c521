"""What figures draw alike: intervals, bands, lines by layer, one mark a repair, rows that have names."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.literal import for_plotly
from analysis.look import NO_REPAIR, colour_of, dashes_of, filled, label_bottom, marker, panels_of, symbols_of

Numbers: TypeAlias = pd.Series | Sequence[float]


def whiskers(value: Numbers, lower: Numbers, upper: Numbers, colour: str | None = None) -> dict[str, Any]:
    """Error bars to the ends of intervals, which need not lie evenly about their values."""
    middle = np.asarray(value, dtype=float)
    return {
        "type": "data",
        "symmetric": False,
        "array": np.asarray(upper, dtype=float) - middle,
        "arrayminus": middle - np.asarray(lower, dtype=float),
        "thickness": 1.6,
        "width": 3,
        "color": colour,
    }


def error_bars(row: pd.Series) -> dict[str, Any]:
    """Error bars of one row in its repair's hue."""
    return whiskers([row["value"]], [row["lower"]], [row["upper"]], colour_of(row["repair"]))


class Marks:
    """Marks of repairs in one figure: each repair in its hue and symbol in every panel, named once in the legend."""

    def __init__(self, figure: go.Figure, repairs: Iterable[str], *, size: int) -> None:
        self.figure = figure
        self.symbols = symbols_of(repairs)
        self.size = size
        self._named: set[str] = set()

    def add(self, row: pd.Series, told: str, panel: dict[str, int], **where: Any) -> None:
        """One mark at `where` (x, y, error_x or error_y); `told`, for plotly, is what hovering over it says."""
        repair = row["repair"]
        self.figure.add_scatter(
            mode="markers",
            marker=marker(repair, self.symbols[repair], self.size),
            name=for_plotly(repair or NO_REPAIR),
            legendgroup=repair,
            showlegend=repair not in self._named,
            hovertemplate=f"{told}<extra></extra>",
            **where,
            **panel,
        )
        self._named.add(repair)


def paired_marks(
    data: pd.DataFrame, column: str, words: Mapping[str, str]
) -> tuple[go.Figure, dict[str, dict[str, int]]]:
    """Accuracy of every repair twice, with intervals: the first of a pair open, above the second, which is filled.

    A panel per compression, a row per repair; `words` says what the two values of `column` are called.
    """
    repairs = list(dict.fromkeys(data["repair"]))[::-1]
    symbols = symbols_of(repairs[::-1])
    figure, panels = panels_of(data["compression"])
    second = list(words)[1]
    for (compression, repair, which), rows in data.groupby(["compression", "repair", column], sort=False):
        row = rows.iloc[0]
        figure.add_scatter(
            x=[row["value"]],
            # A little apart, so that their bars do not cover one another.
            y=[repairs.index(repair) + (-0.17 if which == second else 0.17)],
            error_x=error_bars(row),
            marker=marker(repair, filled(symbols[repair], which == second), size=10),
            mode="markers",
            name=for_plotly(row["variant"]),
            showlegend=False,
            hovertemplate=for_plotly(f"{row['variant']}, {words[which]}")
            + f"<br>%{{x:.3f}} [{row['lower']:.3f}, {row['upper']:.3f}]"
            f"<br>{row['items']} questions, {row['entities']} subjects, {row['replicates']} replicates<extra></extra>",
            **panels[compression],
        )
    for said, symbol in zip(words.values(), ("circle-open", "circle"), strict=True):
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker("", symbol, 10), name=for_plotly(said))
    label_bottom(figure, "accuracy (share right)")
    ends = {"tickvals": [0, 0.5, 1], "ticktext": ["0", ".5", "1"], "tickangle": 0}  # short: panels may be narrow
    figure.update_xaxes(range=[-0.03, 1.03], **ends, minor={"dtick": 0.1, "showgrid": True})
    name_rows(figure, [repair or NO_REPAIR for repair in repairs], edge=0.5)
    return figure, panels


APIECE = ("x", "y", "customdata", "hovertemplate")
"""What differs from mark to mark of one trace, beside symbol, edge and the two ends of its error bars."""
ENDS = ("array", "arrayminus")


def join_marks(figure: go.Figure) -> None:
    """Make one trace of all marks of a hue and name in a panel, in place: a browser draws few traces sooner."""
    groups: dict[str, list[go.Scatter]] = {}
    for place, trace in enumerate(figure.data):
        groups.setdefault(_looks(trace) or str(place), []).append(trace)
    for first, *others in groups.values():
        if others:
            _take_in(first, [first, *others])
    figure.data = [group[0] for group in groups.values()]


def _looks(trace: go.Scatter) -> str | None:
    """Panel, hue and name of a trace of marks alone, all as written; nothing where they differ from mark to mark."""
    if trace.type != "scatter" or trace.mode != "markers" or not isinstance(trace.marker.symbol, str | None):
        return None
    told = {name: value for name, value in trace.to_plotly_json().items() if name not in (*APIECE, "showlegend")}
    told["marker"] = {name: value for name, value in told["marker"].items() if name not in ("symbol", "line")}
    for bars in ("error_x", "error_y"):
        told[bars] = {name: value for name, value in told.get(bars, {}).items() if name not in ENDS}
    try:
        found = json.dumps(told, sort_keys=True)
    except TypeError:  # an array of numpy
        return None
    return None if "[" in found else found


def _take_in(first: go.Scatter, traces: list[go.Scatter]) -> None:
    """Give the first trace the marks of all, each with what hovering over it says."""
    told: dict[str, Any] = {
        "x": _strung(trace.x for trace in traces),
        "y": _strung(trace.y for trace in traces),
        "hovertemplate": _apiece(traces, lambda trace: trace.hovertemplate),
        "showlegend": any(trace.showlegend is not False for trace in traces),
    }
    if any(trace.marker != first.marker for trace in traces):
        edge = {
            "color": _apiece(traces, lambda trace: trace.marker.line.color),
            "width": _apiece(traces, lambda trace: trace.marker.line.width),
        }
        told["marker"] = {"symbol": _apiece(traces, lambda trace: trace.marker.symbol or "circle"), "line": edge}
    if first.customdata is not None:
        told["customdata"] = _strung(trace.customdata for trace in traces)
    for bars in ("error_x", "error_y"):
        if first[bars].array is not None:
            told[bars] = {end: _strung(trace[bars][end] for trace in traces) for end in ENDS}
    first.update(told)


def _apiece(traces: Sequence[go.Scatter], of: Callable[[go.Scatter], Any]) -> list[Any]:
    """What each trace has of it, once for every mark."""
    return [of(trace) for trace in traces for _ in trace.x]


def _strung(parts: Iterable[Sequence[Any]]) -> list[Any]:
    """One list of many."""
    return [one for part in parts for one in part]


def name_rows(figure: go.Figure, names: Sequence[str], *, down: bool = False, edge: float = 0.6, **axes: Any) -> None:
    """Write names, as they are, at places 0, 1, ... of the vertical axis, the first at its foot or, `down`, head."""
    low, high = -edge, len(names) - 1 + edge
    ends = [high, low] if down else [low, high]
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=[for_plotly(name) for name in names],
        range=ends,
        zeroline=False,
        **axes,
    )


def apart(place: int, count: int, *, spread: float = 0.64) -> float:
    """How far from its row's middle the mark of repair `place` of `count` lies, so that none hides another."""
    return spread * place / max(1, count - 1) - spread / 2


def band(figure: go.Figure, rows: pd.DataFrame, repair: str, panel: dict[str, int]) -> None:
    """A shaded interval by layer that comes and goes with its line's legend entry."""
    red, green, blue = (int(colour_of(repair)[place : place + 2], 16) for place in (1, 3, 5))
    figure.add_scatter(
        x=[*rows["layer"], *rows["layer"][::-1]],
        y=[*rows["upper"], *rows["lower"][::-1]],
        fill="toself",
        fillcolor=f"rgba({red},{green},{blue},0.13)",
        line={"width": 0},
        mode="lines",
        legendgroup=repair or NO_REPAIR,
        name=for_plotly(f"{repair or NO_REPAIR}, 95 % interval"),
        showlegend=False,
        hoverinfo="skip",
        **panel,
    )


def lines_by_layer(
    figure: go.Figure,
    data: pd.DataFrame,
    panels: dict[str, dict[str, int]],
    compressions: Iterable[str],
    notes: pd.Series | None = None,
) -> None:
    """A line per variant with its band, in the panel of its compression; a note of each row ends what hovering says."""
    symbols, dashes = symbols_of(data["repair"]), dashes_of(compressions)
    noted = data.assign(note="" if notes is None else notes)
    shown: set[str] = set()
    for (variant, compression, repair), rows in noted.groupby(["variant", "compression", "repair"], sort=False):
        band(figure, rows, repair, panels[compression])
        figure.add_scatter(
            x=rows["layer"],
            y=rows["value"],
            mode="lines+markers",
            line={"color": colour_of(repair), "width": 2, "dash": dashes[compression]},
            # The unrepaired model stands out as a ring where a repair lies exactly on it.
            marker=marker(repair, symbols[repair], size=8 if repair else 12),
            name=for_plotly(repair or NO_REPAIR),
            legendgroup=repair or NO_REPAIR,
            showlegend=repair not in shown,
            customdata=rows[["lower", "upper", "note"]],
            hovertemplate=f"{for_plotly(variant)}, layer %{{x}}<br>%{{y:.3g}} "
            "[%{customdata[0]:.3g}, %{customdata[1]:.3g}]%{customdata[2]}<extra></extra>",
            **panels[compression],
        )
        shown.add(repair)
