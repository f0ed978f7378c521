"""Figures as a paper prints them: at the column width of a venue, with text in the document's size, as PDF, SVG or PNG.

A figure is laid out in its own units (text of 13 pixels) and scaled as a whole, so that text, marks and lines shrink
alike: at eight points on a column of 3.25 inches it is drawn 365 units wide, and no mark outgrows its text.
"""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kaleido
import plotly.graph_objects as go
from choreographer.browsers.chromium import Chromium

from analysis.figures.figure import Figure
from analysis.literal import for_plotly, of_plotly
from data.errors import InputError
from data.naming import nearest

IMAGES = ("pdf", "svg", "png")
FORMATS = (*IMAGES, "html")
VENUES = {
    "acl": (3.03, 6.30),
    "acm": (3.33, 7.00),
    "iclr": (5.50, 5.50),
    "icml": (3.25, 6.75),
    "ieee": (3.50, 7.16),
    "jmlr": (6.00, 6.00),
    "nature": (3.50, 7.20),
    "neurips": (5.50, 5.50),
}
"""Inches: one column, and the whole text; from the venues' style files."""
UNITS_PER_INCH = 96
UNITS_PER_POINT = 96 / 72
TEXT = 13
"""Height of a figure's text in its own units (analysis/look.py)."""
PNG_DENSITY = 300 / UNITS_PER_INCH
NO_BROWSER = (
    "no Chrome or Chromium on this machine, so no images: install one (`apt install chromium`, or "
    "`plotly_get_chrome`); HTML and CSV need neither"
)
WIDEST, NARROWEST = 24.0, 1.5
SMALLEST, LARGEST = 4.0, 24.0


@dataclass(frozen=True)
class Style:
    """How wide figures are and how high their text is."""

    column: float = VENUES["neurips"][0]
    """Inches of one column of text."""
    text: float = VENUES["neurips"][1]
    """Inches of the whole text, for figures with several panels."""
    points: float = 8.0
    """Height of the text in points."""

    def inches(self, wide: bool) -> float:
        """Width of a figure."""
        return self.text if wide else self.column

    @property
    def scale(self) -> float:
        """Printed units of a figure's own."""
        return self.points * UNITS_PER_POINT / TEXT


def style_of(width: str, points: float) -> Style:
    """The style of a venue by name, or of a width in inches.

    Raises:
        InputError: no such venue, or a width or height of text that no page has.
    """
    if not SMALLEST <= points <= LARGEST:
        raise InputError(f"font size {points:g}: a figure's text has {SMALLEST:g} to {LARGEST:g} points")
    if width.lower() in VENUES:
        return Style(*VENUES[width.lower()], points)
    try:
        inches = float(width.removesuffix("in"))
    except ValueError:
        raise InputError(f"width '{width}': neither inches nor a venue; {nearest(width.lower(), VENUES)}") from None
    if not NARROWEST <= inches <= WIDEST:
        raise InputError(f"width {inches:g}: a figure is {NARROWEST:g} to {WIDEST:g} inches wide")
    return Style(inches, inches, points)


def formats_of(text: str) -> tuple[str, ...]:
    """Formats from a list with commas.

    Raises:
        InputError: one that is not written here.
    """
    asked = tuple(dict.fromkeys(one.strip().lower() for one in text.split(",") if one.strip()))
    if unknown := [one for one in asked if one not in FORMATS]:
        raise InputError(f"format '{unknown[0]}': figures are written as {', '.join(FORMATS)}")
    if not asked:
        raise InputError(f"no format named: figures are written as {', '.join(FORMATS)}")
    return asked


def browser_here() -> bool:
    """Whether there is a browser that can draw images."""
    return Chromium.find_browser(skip_local=False) is not None


def printed(figure: Figure, style: Style, wide: bool) -> go.Figure:
    """The figure as it stands in a paper: no title, which is for the caption, and laid out for the width.

    The legend keeps clear of the axes below, and colour bars of the legend.
    """
    units = style.inches(wide) * UNITS_PER_INCH / style.scale
    drawn = go.Figure(figure.figure)
    titled = max([str(note.text).count("<br>") + 1 for note in drawn.layout.annotations if _above(note)], default=0)
    top, taken = 10 + 17 * titled, int(drawn.layout.margin.t or 0)
    height = drawn.layout.height - taken + top
    drawn.update_layout(title={"text": "", "subtitle": {"text": ""}}, width=units, height=height)
    drawn.update_layout(margin={"t": top, "l": 8, "r": 10}, font={"size": TEXT, "color": "#000000"})
    drawn.update_layout(legend={"font": {"size": TEXT}})
    drawn.update_xaxes(title_font_size=TEXT, tickfont_size=TEXT)
    drawn.update_yaxes(title_font_size=TEXT, tickfont_size=TEXT)
    drawn.update_annotations(font={"size": TEXT, "color": "#000000"})
    drawn.update_traces(colorbar={"title": {"font": {"size": TEXT}}}, selector={"type": "heatmap"})
    _wrap_titles(drawn, units, height)
    return drawn


def _wrap_titles(drawn: go.Figure, width: float, height: float) -> None:
    """Break titles of axes that are longer than their axis, which would run into the next one's."""
    for axes, long in ((drawn.select_xaxes(), 0.85 * width), (drawn.select_yaxes(), height - 100)):
        for axis in axes:
            start, end = axis.domain or (0, 1)
            letters = int((end - start) * long / (0.55 * TEXT))
            wrapped = textwrap.wrap(of_plotly(axis.title.text), max(10, letters))
            axis.title.text = "<br>".join(map(for_plotly, wrapped))


def _above(note: Any) -> bool:
    """Whether an annotation is the title of a panel, which stands above it."""
    return note.yref == "paper" and note.yanchor == "bottom"


def image_bytes(figure: Figure, style: Style, wide: bool, kind: str) -> bytes:
    """One image of a figure.

    Raises:
        InputError: no Chrome or Chromium is on the machine.
    """
    if not browser_here():
        raise InputError(NO_BROWSER)
    drawn = printed(figure, style, wide)
    return kaleido.calc_fig_sync(drawn, opts=_options(drawn, style, kind), kopts={"mathjax": False})


def write_images(figures: Iterable[tuple[Figure, bool, Path]], style: Style, kinds: Sequence[str]) -> list[Path]:
    """Images of many figures, each (figure, whether it takes the whole text, path less its ending), by one browser."""
    jobs: list[dict[str, Any]] = []
    for figure, wide, path in figures:
        drawn = printed(figure, style, wide)
        for kind in kinds:
            written = path.with_name(f"{path.name}.{kind}")
            jobs.append({"fig": drawn, "path": written, "opts": _options(drawn, style, kind)})
    if jobs:
        # Without mathjax=False the page would fetch a library from a host on the internet.
        kaleido.write_fig_from_object_sync(jobs, kopts={"n": 2, "mathjax": False})
    return [job["path"] for job in jobs]


def _options(drawn: go.Figure, style: Style, kind: str) -> dict[str, Any]:
    """Size and scale of one image."""
    scale = style.scale * (PNG_DENSITY if kind == "png" else 1)
    return {"format": kind, "width": drawn.layout.width, "height": drawn.layout.height, "scale": scale}
