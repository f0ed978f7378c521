"""Marks that look alike are one trace on a page, and none of them is lost."""

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.look import marker
from analysis.marks import error_bars, join_marks


def add(figure: go.Figure, repair: str, value: float, column: int, symbol: str = "circle", **more) -> None:
    row = {"repair": repair, "value": value, "lower": value - 1, "upper": value + 2}
    figure.add_scatter(
        x=[value],
        y=[0],
        error_x=error_bars(row),
        mode="markers",
        marker=marker(repair, symbol, 9),
        legendgroup=repair,
        name=repair,
        hovertemplate=f"{repair} {value}",
        row=1,
        col=column,
        **more,
    )


def test_marks_of_one_look_in_one_panel_are_joined_with_what_each_says():
    figure = make_subplots(rows=1, cols=2)
    add(figure, "lora-r4", 1.0, 1)
    add(figure, "prompt-8", 2.0, 1, showlegend=False)
    add(figure, "lora-r4", 3.0, 1, showlegend=False)
    add(figure, "lora-r4", 4.0, 2, showlegend=False)
    join_marks(figure)
    joined, prompt, beside = figure.data
    assert (list(joined.x), list(joined.y)) == ([1.0, 3.0], [0, 0])
    assert (list(joined.error_x.array), list(joined.error_x.arrayminus)) == ([2.0, 2.0], [1.0, 1.0])
    assert list(joined.hovertemplate) == ["lora-r4 1.0", "lora-r4 3.0"]
    assert joined.showlegend
    assert (prompt.name, beside.xaxis) == ("prompt-8", "x2")


def test_marks_of_one_hue_and_name_keep_their_symbols_and_edges():
    figure = make_subplots(rows=1, cols=1)
    add(figure, "prompt-8", 1.0, 1, "triangle-up-open", showlegend=False)
    add(figure, "prompt-8", 2.0, 1, "triangle-up", showlegend=False)
    add(figure, "prompt-32", 3.0, 1, "triangle-up", showlegend=False)
    apart = [trace.marker.line.width for trace in figure.data]
    join_marks(figure)
    joined, other = figure.data
    assert list(joined.marker.symbol) == ["triangle-up-open", "triangle-up"]
    assert list(joined.marker.line.width) == apart[:2]
    assert apart[0] != apart[1]
    assert (joined.marker.size, joined.marker.color) == (9, other.marker.color)
    assert (other.name, other.marker.symbol) == ("prompt-32", "triangle-up")


def test_lines_and_marks_of_many_hues_stay_as_they_are():
    figure = go.Figure()
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines")
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines")
    for _ in range(2):
        figure.add_scatter(x=[0, 1], y=[0, 1], mode="markers", marker={"color": ["#000", "#fff"]})
    join_marks(figure)
    assert len(figure.data) == 4
