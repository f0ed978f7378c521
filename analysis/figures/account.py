"""Figures of the verdict: the four-way account as one picture, and one setting's comparisons beside its controls."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis import saying
from analysis.figures.entry import Drawn, RunFigure
from analysis.figures.figure import Figure
from analysis.figures.source import Source
from analysis.literal import for_plotly
from analysis.look import GREY, colour_of, dress, marker
from analysis.marks import Marks, error_bars, name_rows

ZERO = {"line_color": GREY, "line_width": 1.2, "opacity": 0.7}


def account_figure(account: pd.DataFrame) -> Figure:
    """Of what compression left unanswered, how much was in reach, how much was taught anew, how much stays away?

    A column per quantity of the account, a row per setting; bits per fact with 95 % intervals over replicates and
    subjects, all on one scale.
    """
    quantities = list(dict.fromkeys(account["words"]))
    settings = list(dict.fromkeys(account["setting"]))[::-1]
    figure = make_subplots(
        rows=1,
        cols=max(1, len(quantities)),
        shared_yaxes=True,
        shared_xaxes="all",
        subplot_titles=[words.replace(" ", "<br>") for words in quantities],
        horizontal_spacing=0.025,
    )
    marks = Marks(figure, account["repair"], size=10)
    for _, row in account.iterrows():
        marks.add(
            row,
            f"{for_plotly(row['setting'])}<br>{row['words']}: %{{x:.2f}} [{row['lower']:.2f}, {row['upper']:.2f}] bits"
            f"<br>{row['subjects']} subjects",
            {"row": 1, "col": quantities.index(row["words"]) + 1},
            x=[row["value"]],
            y=[settings.index(row["setting"])],
            error_x=error_bars(row),
        )
    figure.add_vline(x=0, **ZERO)
    figure.update_xaxes(title="bits", tickformat=".2~g", zeroline=False)
    name_rows(figure, settings)
    subjects = int(account["subjects"].max()) if len(account) else 0
    dress(
        figure,
        title="Where what was known has gone",
        subtitle=f"bits per fact with 95 % intervals over replicates and subjects; n = up to {subjects} test subjects",
        height=210 + 30 * max(3, len(settings)),
    )
    return Figure(figure, account)


def comparisons_figure(predictions: pd.DataFrame, settings: list[str]) -> Figure:
    """Does a repair return more than each arm that holds no knowledge, and does it where the truth is known?

    A column per setting, a row per comparison, all on one scale; filled where H0 is rejected by itself.
    """
    data = predictions[predictions["setting"].isin(settings)].reset_index(drop=True)
    named = [name for name in settings if name in set(data["setting"])]
    rows = list(dict.fromkeys(data["comparison"]))[::-1]
    figure = make_subplots(
        rows=1,
        cols=max(1, len(named)),
        shared_yaxes=True,
        shared_xaxes="all",
        subplot_titles=[_broken(name) for name in named],
        horizontal_spacing=0.03,
    )
    for _, row in data.iterrows():
        rejected = row["supports"] == "H1"
        look = marker(row["repair"], "circle" if rejected else "circle-open", 11)
        figure.add_scatter(
            x=[row["estimate"]],
            y=[rows.index(row["comparison"])],
            error_x=error_bars(row.rename({"estimate": "value"})),
            mode="markers",
            marker=look | {"color": colour_of(row["repair"])},
            showlegend=False,
            hovertemplate=f"beyond {for_plotly(row['comparison'])}: %{{x:.2f}} [{row['lower']:.2f}, {row['upper']:.2f}]"
            f"<br>p = {row['p']:.4f}, n = {row['n']} subjects<extra></extra>",
            row=1,
            col=named.index(row["setting"]) + 1,
        )
    for name, symbol in (("more than the comparison (p < .05, this one alone)", "circle"), ("not", "circle-open")):
        figure.add_trace(
            go.Scatter(x=[None], y=[None], mode="markers", marker=marker("", symbol, 11), name=name), row=1, col=1
        )
    figure.add_vline(x=0, **ZERO)
    figure.update_xaxes(title="bits", tickformat=".2~g", zeroline=False)
    name_rows(figure, rows)
    subjects = int(data["n"].max()) if len(data) else 0
    dress(
        figure,
        title="What the repair returned beyond each comparison",
        subtitle="bits per fact on subjects unread by any repair; 95 % intervals over replicates and subjects; "
        f"n = up to {subjects} subjects",
        height=230 + 34 * max(3, len(rows)),
    )
    return Figure(figure, data)


def _broken(setting: str) -> str:
    """A setting's name over as many lines as it has parts, since columns may be narrow."""
    return for_plotly(setting).replace(" (", "<br>(").replace(" + ", "<br>+ ")


def _account(source: Source) -> Drawn:
    for name in ("settings", "controls"):
        account = saying.account_table(source.verdict[name])
        if len(account):
            yield name, account_figure(account)


ACCOUNT = RunFigure(
    name="account",
    question="where has what was known gone?",
    draw=_account,
    each="part of the verdict, the settings and the controls",
    in_report=True,
)
