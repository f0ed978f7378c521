"""How a page shows a figure: its title apart, a line on how to read it, and its rows to take away."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from analysis.figures.figure import Figure
from analysis.literal import for_page, of_plotly
from analysis.marks import join_marks

CHART = {"displaylogo": False, "toImageButtonOptions": {"format": "svg"}}
P = ParamSpec("P")


@dataclass(frozen=True)
class Drawn:
    """A figure made ready for a page: its title apart, so that it wraps where the window is narrow."""

    figure: Figure
    bare: go.Figure
    title: str


def ready(figure: Figure) -> Drawn:
    """Take the title off a figure that nobody else holds; in place, since a copy would cost as much as drawing it."""
    bare, layout = figure.figure, figure.figure.layout
    words, below = (for_page(of_plotly(text)) for text in (layout.title.text, layout.title.subtitle.text))
    title = f"**{words}**  \n:small[{below}]"
    # Names of panels stand above them, over as many lines as the longest takes.
    lines = [1 + one.text.count("<br>") for one in layout.annotations if one.yanchor == "bottom"]
    top = 10 + 16 * max(lines) if lines else 16
    without = {"text": "", "subtitle": {"text": ""}}
    bare.update_layout(title=without, margin={"t": top}, height=layout.height - 104 + top)
    bare.update_annotations(font_size=12)
    join_marks(bare)
    return Drawn(figure, bare, title)


def drawn(make: Callable[P, Figure]) -> Callable[P, Drawn]:
    """A figure that is drawn once for the same view and choices, and then shared by all sessions."""

    @functools.wraps(make)
    def once(*args: P.args, **kwargs: P.kwargs) -> Drawn:
        return ready(make(*args, **kwargs))

    return st.cache_resource(max_entries=64, show_spinner=False)(once)


def show(figure: Figure | Drawn, key: str, says: str, **chart: Any) -> Any:
    """A figure, one line on how to read it, and its rows to take away; gives back what was selected on it."""
    # A figure that comes as it is may be someone's: drawn again, or handed out as a file with its title.
    shown = ready(Figure(go.Figure(figure.figure), figure.data)) if isinstance(figure, Figure) else figure
    st.markdown(shown.title)
    event = st.plotly_chart(shown.bare, key=key, config=CHART, **chart)
    left, right = st.columns([7, 1], vertical_alignment="top")
    left.caption(says)
    with right:
        take(shown.figure.data, key)
    return event


def take(table: pd.DataFrame, name: str) -> None:
    """A button that hands out a table as CSV, made when it is pressed."""
    st.download_button(
        "CSV",
        data=lambda: table.to_csv(index=False).encode(),
        file_name=f"{name}.csv",
        mime="text/csv",
        key=f"{name}_csv",
        icon=":material/download:",
        on_click="ignore",
        type="tertiary",
    )


def literal_table(table: pd.DataFrame) -> pd.DataFrame:
    """A table of words for `st.table`, which reads Markdown in every cell and heading."""
    return table.map(for_page).rename(index=for_page, columns=for_page)


def without_minus_zero(table: pd.DataFrame) -> pd.DataFrame:
    """Zero for what a column of hundredths would show as -0.00; every other number as precise as it is."""
    numbers = table.select_dtypes("float")
    plain = numbers.mask((numbers < 0) & (numbers > -0.005), 0.0)
    return table.assign(**{str(name): plain[name] for name in plain})
