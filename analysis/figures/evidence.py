"""Figures of how far a verdict can be trusted: every comparison, calibration, the paper's claims beside ours."""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis import reading, saying
from analysis.claims import FASTER
from analysis.figures.entry import Drawn, RunFigure
from analysis.figures.figure import Figure
from analysis.figures.source import Source
from analysis.literal import for_plotly
from analysis.look import GREY, dress, filled, kind_of, marker, symbols_of
from analysis.marks import error_bars, name_rows, whiskers
from data.errors import InputError

LINE = {"line_color": GREY, "line_width": 1.2}
CALIBRATED = {"prompt-8": "prompt", "lora-r4": "lora"}
"""What the repairs of the committed calibration are (`analysis/calibration.py`): its tables are of no run."""
LESS_TIME = 0.6
"""The paper's figure (abstract of its third version): the share of time saved."""


def forest_figure(predictions: pd.DataFrame) -> Figure:
    """Does any repair return more than each arm that holds no knowledge?

    A column per comparison, a row per setting (a compression with a repair, or a control of known truth), all on one
    scale; filled where H0 is rejected by this comparison alone. `predictions` is `saying.prediction_table`.
    """
    comparisons = list(dict.fromkeys(predictions["comparison"]))
    settings = list(dict.fromkeys(predictions["setting"]))
    symbols = symbols_of(dict.fromkeys(kind_of(repair) for repair in predictions["repair"]))
    figure = make_subplots(
        rows=1,
        cols=max(1, len(comparisons)),
        shared_yaxes=True,
        shared_xaxes="all",
        subplot_titles=[_stacked(name) for name in comparisons],
        horizontal_spacing=0.02,
    )
    for _, row in predictions.iterrows():
        symbol = filled(symbols[kind_of(row["repair"])], row["supports"] == "H1")
        figure.add_scatter(
            x=[row["estimate"]],
            y=[settings.index(row["setting"])],
            error_x=error_bars(row.rename({"estimate": "value"})),
            mode="markers",
            marker=marker(row["repair"], symbol, 9),
            showlegend=False,
            hovertemplate=for_plotly(f"{row['setting']} beyond {row['comparison']}")
            + f": %{{x:.2f}} [{row['lower']:.2f}, {row['upper']:.2f}]<br>p = {row['p']:.4f}, n = {row['n']} subjects"
            "<extra></extra>",
            row=1,
            col=comparisons.index(row["comparison"]) + 1,
        )
    for name, symbol in (("p < .05, this comparison alone", "circle"), ("not", "circle-open")):
        figure.add_trace(
            go.Scatter(x=[None], y=[None], mode="markers", marker=marker("", symbol, 9), name=name), row=1, col=1
        )
    figure.add_vline(x=0, **LINE)
    figure.update_xaxes(title="bits", tickformat=".2~g", zeroline=False, nticks=4)
    name_rows(figure, settings, down=True)
    dress(
        figure,
        title="What each repair returned beyond each comparison",
        subtitle="bits per fact on subjects unread by any repair, 95 % intervals over replicates and subjects; "
        f"n = up to {int(predictions['n'].max())} subjects",
        height=254 + 27 * max(3, len(settings)),
    )
    return Figure(figure, predictions)


def _stacked(comparison: str) -> str:
    """A comparison's name over short lines: five columns share the width of a paper's text."""
    return "<br>".join(map(for_plotly, textwrap.wrap(comparison, 9, break_long_words=False)))


def calibration_figure(summary: pd.DataFrame, organisms: pd.DataFrame) -> Figure:
    """On models of known truth, how often is *displaced* said, and is the share that was displaced found?

    Left: share of organisms called displaced by any repair or by one, with exact 95 % intervals. Right: the share
    of the gap in accuracy that came back in each organism against what its key opens. `summary` and `organisms` are
    the tables of `data/calibration/` (analysis/calibration_table.py).
    """
    recipes = list(dict.fromkeys(summary["recipe"]))
    repairs = list(dict.fromkeys(summary["repair"]))
    looks = {one: CALIBRATED.get(one, one) for one in repairs}
    symbols = symbols_of(looks.values())
    figure = make_subplots(
        rows=1, cols=2, subplot_titles=["called displaced", "share that came back"], horizontal_spacing=0.16
    )
    for repair, rows in summary.groupby("repair", sort=False):
        look = "" if repair == "any" else looks[repair]
        apart = 0.25 * (repairs.index(str(repair)) - (len(repairs) - 1) / 2)
        figure.add_scatter(
            x=rows["rate"],
            y=[recipes.index(recipe) + apart for recipe in rows["recipe"]],
            error_x=whiskers(rows["rate"], rows["lower"], rows["upper"]),
            mode="markers",
            marker=marker(look, symbols[looks[repair]], 9),
            name=for_plotly(f"{repair} repair" if repair == "any" else repair),
            legendgroup=repair,
            customdata=rows[["displaced", "organisms"]],
            hovertemplate="%{customdata[0]} of %{customdata[1]}: %{x:.2f}<extra></extra>",
            row=1,
            col=1,
        )
    planted = organisms.dropna(subset=["share_estimate", "share_true"])
    for repair, rows in planted.groupby("repair", sort=False):
        figure.add_scatter(
            x=rows["share_true"],
            y=rows["share_estimate"],
            error_y=whiskers(rows["share_estimate"], rows["share_lower"], rows["share_upper"]),
            mode="markers",
            marker=marker(looks[repair], symbols[looks[repair]], 9),
            name=for_plotly(repair),
            legendgroup=repair,
            showlegend=False,
            row=1,
            col=2,
        )
    figure.add_trace(
        go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": GREY, "dash": "dot"}, name="as the key opens"),
        row=1,
        col=2,
    )
    for alpha, name in ((0.05, "α = .05"),):
        figure.add_vline(x=alpha, line_dash="dash", row=1, col=1, **LINE)
        figure.add_trace(
            go.Scatter(x=[None], y=[None], mode="lines", line={"color": GREY, "dash": "dash"}, name=name), row=1, col=1
        )
    figure.update_xaxes(title="share of organisms", range=[-0.03, 1.03], zeroline=False, nticks=6, col=1)
    figure.update_xaxes(title="share that the key opens", range=[-0.03, 1.03], zeroline=False, nticks=6, col=2)
    name_rows(figure, recipes, down=True, col=1)
    # Its title is the panel's: a second one would reach into the other panel where the window is narrow.
    figure.update_yaxes(zeroline=False, tickformat=".2~g", col=2)
    counted = int(summary["organisms"].max())
    dress(
        figure,
        title="The whole pipeline where the truth is known",
        subtitle=f"up to {counted} independent organism{'s' if counted > 1 else ''} per recipe; exact 95 % intervals "
        "over organisms on the left, bootstrap intervals on the right",
        height=240 + 60 * max(3, len(recipes)),
    )
    return Figure(figure, pd.concat([summary.assign(table="summary"), planted.assign(table="organisms")]))


def claims_figure(measured: pd.DataFrame) -> Figure:
    """What did this run find of each claim of the paper?

    A panel per claim that was measured, a row per setting, 95 % intervals; the dashed line is the paper's own figure
    where it gives one. `measured` is `claim_rows`.
    """
    named = list(dict.fromkeys(measured["claim"]))
    figure = make_subplots(
        rows=len(named),
        cols=1,
        # A claim is longer than a panel is wide in a paper.
        subplot_titles=[
            "<br>".join(
                map(for_plotly, textwrap.wrap(f"{name} ({measured[measured['claim'] == name]['unit'].iloc[0]})", 44))
            )
            for name in named
        ],
        row_heights=[float((measured["claim"] == name).sum()) + 0.6 for name in named],
        vertical_spacing=min(0.16, 0.6 / max(1, len(named))),
    )
    symbols = symbols_of(measured["repair"])
    for place, name in enumerate(named, 1):
        rows = measured[measured["claim"] == name].reset_index(drop=True)
        for number, row in rows.iterrows():
            figure.add_scatter(
                x=[row["value"]],
                y=[number],
                error_x=None if np.isnan(row["lower"]) else error_bars(row),
                mode="markers",
                marker=marker(row["repair"], symbols[row["repair"]], 9),
                showlegend=False,
                hovertemplate=f"{for_plotly(row['setting'])}: %{{x:.3g}}<extra></extra>",
                row=place,
                col=1,
            )
        name_rows(figure, list(rows["setting"]), down=True, row=place, col=1)
        paper = rows["paper_value"].iloc[0]
        if not np.isnan(paper):
            figure.add_vline(x=float(paper), line_dash="dash", row=place, col=1, **LINE)
        figure.update_xaxes(tickformat=".3~g", zeroline=True, zerolinecolor=GREY, nticks=6, row=place, col=1)
    figure.add_scatter(
        x=[None], y=[None], mode="lines", line={"color": GREY, "dash": "dash"}, name="the paper's figure"
    )
    # Ending where the panel ends, so that a long one reaches over the names of the rows and not past the picture.
    figure.update_annotations(x=1, xanchor="right", align="right")
    dress(
        figure,
        title="The paper's claims beside this run",
        subtitle="95 % intervals; facts, and tasks where the study names them; further right favours the claim",
        height=220 + 24 * len(measured) + 76 * len(named),
    )
    return Figure(figure, measured)


def with_latency(claims: Sequence[dict], latency: pd.DataFrame | None) -> list[dict]:
    """The claims with what a run's latency table, written after its verdict, says of IDP and LoRA.

    By how much less time IDP takes than LoRA beside the weights, as a share of LoRA's: a row per phase and batch.
    """
    if latency is None:
        return list(claims)
    rows = []
    for (phase, batch), part in latency[latency["form"] == ""].groupby(["phase", "batch"], sort=False):
        ratios = dict(zip(part["repair"], part["ratio"], strict=True))
        idp, lora = (next((name for name in ratios if name.startswith(kind)), None) for kind in ("idp-", "lora-"))
        if idp is not None and lora is not None:
            rows.append(
                {"setting": f"{phase}, batch {batch}", "repair": idp, "value": 1 - ratios[idp] / ratios[lora]}
                | {"lower": None, "upper": None, "unit": f"share of the time of {lora} saved", "n": None}
                | {"paper_value": LESS_TIME}
            )
    return [one | {"measured": rows} if one["claim"] == FASTER and rows else one for one in claims]


def claim_rows(claims: Sequence[dict]) -> pd.DataFrame:
    """Every measurement of every claim: a row per setting, empty where nothing was measured.

    Columns: claim, paper, paper_value (missing where the paper gives none), setting, repair, value, lower, upper
    (missing for a count), unit, n.
    """
    rows = [{"claim": one["claim"], "paper": one["paper"], **found} for one in claims for found in one["measured"]]
    columns = ["claim", "paper", "paper_value", "setting", "repair", "value", "lower", "upper", "unit", "n"]
    numbers = ["paper_value", "value", "lower", "upper"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(numbers, float))


def _evidence(source: Source) -> Drawn:
    predictions = saying.prediction_table([*source.verdict["settings"], *source.verdict["controls"]])
    if predictions.empty:
        raise InputError("the verdict holds no comparison: name repairs under `reported` in the study")
    yield "", forest_figure(predictions)


def _calibration(source: Source) -> Drawn:
    found = reading.read_calibration()
    yield "", calibration_figure(found.summary, found.organisms)


def _claims(source: Source) -> Drawn:
    measured = claim_rows(with_latency(source.verdict["claims"], reading.read_latency(source.run)))
    if measured.empty:
        raise InputError("no claim of the paper was measured in this run")
    yield "", claims_figure(measured)


EVIDENCE = RunFigure(
    name="evidence",
    question="does any repair return more than arms that hold no knowledge?",
    draw=_evidence,
    in_report=True,
)
CALIBRATION = RunFigure(
    name="calibration",
    question="is the verdict right where the truth is known?",
    draw=_calibration,
    beside=lambda run: sorted(reading.CALIBRATION.glob("*")),
    in_report=True,
)
CLAIMS = RunFigure(
    name="claims",
    question="what did this run find of each claim of the paper?",
    draw=_claims,
    beside=lambda run: [run / reading.LATENCY],
    in_report=True,
)
