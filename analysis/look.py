"""How every figure looks: one hue and marker per repair, one dash per compression, words and units per metric.

Markers differ besides hues, because a grey print has none.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.literal import for_plotly
from analysis.metrics import registry
from analysis.metrics.registry import Words

# Okabe-Ito, with a grey that is seen on white and on black for the unrepaired model, and hues between them: none is
# darker than what three to one from the dark page needs; what is too bright for white is drawn with an edge.
REPAIR_COLOURS = {
    "": "#767676",
    "recalibrated": "#E69F00",
    "placebo": "#CC79A7",
    "masked": "#56B4E9",
    "shuffled": "#B0406E",
    "prompt": "#0072B2",
    "prefix": "#117733",
    "ptuning": "#7262C9",
    "idp": "#009E73",
    "ensemble": "#44AA99",
    "lora": "#D55E00",
    "idp+lora": "#AA4499",
    "key": "#F0E442",
    "reinjected": "#95603F",
    "text": "#999933",
}
SYMBOLS = {
    "": "circle",
    "recalibrated": "square",
    "placebo": "hourglass",
    "masked": "triangle-down",
    "shuffled": "triangle-left",
    "prompt": "triangle-up",
    "prefix": "triangle-right",
    "ptuning": "hexagon",
    "idp": "diamond",
    "ensemble": "diamond-tall",
    "lora": "pentagon",
    "idp+lora": "hexagram",
    "key": "star",
    "reinjected": "x",
    "text": "bowtie",
}
UNKNOWN = ("#9A6FB0", "cross")
UNKNOWN_KIND = "?"
UNDOTTED = ("hourglass", "bowtie")
"""Symbols that plotly draws full and open, and not with a dot."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
NO_REPAIR = "no repair"
SEQUENTIAL = "Cividis"
DIVERGING = "RdBu_r"
GREY = "#767676"
FLOOR_NAME = "floor (same model, other batch plan)"
METRICS = Words(
    {
        "lens_divergence": ("KL from dense's logit lens", "bits"),
        "lens_log_prob": ("lens log-probability of the right answer's first token", "nats"),
        "lens_rank": ("lens rank of the right answer's first token, geometric mean", "1 is the top"),
        "lens_top": ("right answer's first token on top of the lens", "share"),
        "lens_depth": ("layer from which the right answer stays on top", "layers"),
        "probe_accuracy": ("accuracy of a linear probe", "share right"),
        "probe_control": ("accuracy of a probe of control labels", "share right"),
        "probe_selectivity": ("selectivity of a linear probe", "share right, less control"),
        "restored": ("restored log-odds of the right answer", "nats"),
        "dropped": ("drop in log-odds of the right answer", "nats"),
    }
)
"""Words and unit of what is measured inside: of drift and attention by their list, here of the other instruments."""
SITES = {
    "resid_pre": "residual before the block",
    "attn_out": "attention output",
    "mlp_out": "MLP output",
    "resid_post": "residual after the block",
    "pattern": "attention pattern",
}


# A place of its own in every thread: sessions that look at different runs are drawn for side by side.
_COMPRESSIONS: ContextVar[tuple[str, ...]] = ContextVar("compressions", default=())
_REPAIRS: ContextVar[Mapping[str, str]] = ContextVar("repairs", default=MappingProxyType({}))


@contextmanager
def looks_of(variants: pd.DataFrame) -> Iterator[None]:
    """Within it, dashes and symbols are numbered by all compressions and repairs of a run, not by those at hand.

    So each keeps its look on every page and in every figure, whatever else is shown there. `variants` is the run's
    table of them, of all scopes, whose column `drawn_as` says what each repair is: a name may say anything.
    """
    compressions = _COMPRESSIONS.set(tuple(dict.fromkeys(variants["compression"])))
    repairs = _REPAIRS.set(dict(zip(variants["repair"], variants["drawn_as"], strict=True)))
    try:
        yield
    finally:
        _COMPRESSIONS.reset(compressions)
        _REPAIRS.reset(repairs)


def kind_of(repair: str) -> str:
    """What a repair is drawn as, by the run's table; a kind that stands for all its repairs is itself; else `?`."""
    return _REPAIRS.get().get(repair, repair if repair in REPAIR_COLOURS else UNKNOWN_KIND)


def colour_of(repair: str) -> str:
    """The hue of a repair, the same in every figure."""
    return REPAIR_COLOURS.get(kind_of(repair), UNKNOWN[0])


def symbols_of(repairs: Iterable[str]) -> dict[str, str]:
    """A marker for each repair; a second one of the same kind has the same outline, left open."""
    asked = dict.fromkeys(repairs)
    # What is not of the run, such as a kind that stands for all its repairs, is numbered by itself.
    named = _REPAIRS.get() if asked.keys() <= _REPAIRS.get().keys() else asked
    seen: dict[str, int] = {}
    found = {}
    for repair in named:
        kind = kind_of(repair)
        place = seen[kind] = seen.get(kind, -1) + 1
        symbol = SYMBOLS.get(kind, UNKNOWN[1])
        forms = ("", "-open") if symbol in UNDOTTED else ("", "-open", "-dot", "-open-dot")
        found[repair] = symbol + forms[place % len(forms)]
    return {repair: found[repair] for repair in asked}


def dashes_of(compressions: Iterable[str]) -> dict[str, str]:
    """A dash for each compression in the order of the run, or else as given; dense is always solid."""
    asked = dict.fromkeys(compressions)
    others = [name for name in dict.fromkeys([*_COMPRESSIONS.get(), *asked]) if name != "dense"]
    rest = DASHES[1:]
    every = {name: rest[place % len(rest)] for place, name in enumerate(others)}
    return {"dense": DASHES[0]} | {name: every[name] for name in asked if name != "dense"}


def filled(symbol: str, yes: bool = True) -> str:
    """A symbol with or without its filling; plotly writes `open` before `dot`."""
    base = symbol.replace("-open", "")
    if yes:
        return base
    return base.removesuffix("-dot") + ("-open-dot" if base.endswith("-dot") else "-open")


def marker(repair: str, symbol: str, size: int) -> dict[str, Any]:
    """A marker in the repair's hue; a thin grey edge keeps the pale ones visible on white."""
    edge = {"color": colour_of(repair) if "-open" in symbol else GREY, "width": 1.8 if "-open" in symbol else 0.8}
    return {"color": colour_of(repair), "symbol": symbol, "size": size, "line": edge}


def panels_of(compressions: pd.Series) -> tuple[go.Figure, dict[str, dict[str, int]]]:
    """An empty figure with a panel per compression, side by side up to three, else in two columns."""
    names = list(dict.fromkeys(compressions))
    columns = max(1, len(names) if len(names) <= 3 else 2)
    rows = max(1, -(-len(names) // columns))
    figure = make_subplots(
        rows=rows,
        cols=columns,
        shared_yaxes="all",
        subplot_titles=[for_plotly(name) for name in names],
        horizontal_spacing=0.03,
        vertical_spacing=min(0.14, 0.3 / rows),
    )
    return figure, {name: {"row": place // columns + 1, "col": place % columns + 1} for place, name in enumerate(names)}


def rows_of(panels: dict[str, dict[str, int]]) -> int:
    """How many rows of panels there are."""
    return max((panel["row"] for panel in panels.values()), default=1)


def label_bottom(figure: go.Figure, title: str) -> None:
    """Write the title of the horizontal axis once, under all panels: a title a panel runs into the next one."""
    figure.add_annotation(
        text=for_plotly(title),
        x=0.5,
        xref="paper",
        y=0,
        yref="paper",
        yanchor="top",
        yshift=-24,
        showarrow=False,
        font={"size": 13},
    )


def places_axis(places: pd.Series) -> dict[str, Any]:
    """An axis of layers or heads: it ends half a step beyond them and has at most nine round ticks."""
    last = int(places.max()) if len(places) else 0
    step = next((step for step in (1, 2, 5, 10, 20) if last / step < 9), 50)
    return {"dtick": step, "tick0": 0, "range": [-0.5, last + 0.5], "zeroline": False, "tickangle": 0}


def dress(figure: go.Figure, *, title: str, subtitle: str, height: int) -> None:
    """Title and subtitle, shown as they stand, legend and text sizes alike in every figure."""
    figure.update_layout(
        template="plotly_white",
        title={
            "text": for_plotly(title),
            "subtitle": {"text": for_plotly(subtitle), "font": {"size": 13}},
            "font": {"size": 17},
        },
        title_x=0,
        title_xref="paper",
        title_xanchor="left",
        title_y=1,
        title_yref="container",
        title_yanchor="top",
        title_pad={"t": 16, "l": 0},
        font={"size": 13, "family": "Source Sans, Source Sans Pro, DejaVu Sans, Arial, sans-serif"},
        legend={"orientation": "h", "yanchor": "top", "y": -70 / (height - 150), "x": 0, "font": {"size": 13}},
        margin={"t": 104, "b": 70, "l": 70, "r": 20},
        height=height,
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)


def _span(values: pd.Series) -> str:
    """One number, or the two ends."""
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def counts_of(data: pd.DataFrame) -> str:
    """How much a drift figure rests on."""
    if data.empty:
        return "no tokens"
    several = "s" if data["replicates"].max() > 1 else ""
    return f"{_span(data['replicates'])} replicate{several}, n = {_span(data['tokens'])} content tokens"


def reference_words(reference: str) -> str:
    """A reference as read in a title."""
    return {"dense": "the dense model", "parent": "the same model without its repair"}.get(reference, reference)


def is_level(metric: str) -> bool:
    """Whether a metric is of the variant alone, as a share of attention is; its floor is dense's own level."""
    return metric in registry.METRICS and registry.METRICS[metric].level


def against_words(metric: str, reference: str) -> str:
    """The end of a title: what a metric is measured against, if it is."""
    return "" if is_level(metric) else f", against {reference_words(reference)}"


def colours_of(values: pd.Series) -> dict[str, Any]:
    """Colours of a heat map and their ends: from zero up, or as far both ways where values lie below it."""
    low, high = float(values.min()), float(values.max())
    if -low > 1e-6 * max(high, 0.0):  # what rounding leaves below zero has no sign
        reach = max(-low, high)
        return {"colorscale": DIVERGING, "zmin": -reach, "zmax": reach}
    return {"colorscale": SEQUENTIAL, "zmin": 0, "zmax": high or 1.0}


def reading_words(reading: str) -> str:
    """A reading as read in a title."""
    return {"candidates": "best of the fixed candidates", "vocabulary": "best of the full vocabulary"}.get(
        reading, reading
    )


def both_ways(most: float) -> dict[str, Any]:
    """Ticks of an axis that runs both ways from zero, written without a sign: the side says it."""
    step = next((step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.25) if most / step <= 2), 0.5)
    places = [round(step * count, 2) for count in range(-int(most / step) - 1, int(most / step) + 2)]
    return {"tickvals": places, "ticktext": [f"{abs(place):g}" for place in places], "zeroline": False, "tickangle": 0}
