"""Figures: every figure of the run as a paper prints it, with format, width and size of text, and its data."""

from pathlib import Path
from shlex import quote

import streamlit as st

from analysis.figures.registry import figure_of, figures
from analysis.figures.source import Source
from analysis.literal import code_for_page, for_page
from analysis.pages.drawing import show, take
from analysis.pages.picking import pick
from analysis.pages.shared import View, panel, view
from analysis.paper import Named, drawn
from analysis.paper_files import bundle_bytes, file_bytes
from analysis.paper_style import FORMATS, IMAGES, NO_BROWSER, VENUES, browser_here, style_of
from data.errors import InputError

MIME = {"pdf": "application/pdf", "svg": "image/svg+xml", "png": "image/png", "html": "text/html"}
POINTS = ("8", "9", "10")


@st.cache_resource(max_entries=24, show_spinner="Drawing")
def figures_of(run: Path, stamp: str, beside: tuple[int, ...], name: str) -> tuple[list[Named], dict[str, str]]:
    """The figures of one name, and why there are none."""
    return drawn(Source(run), (name,))


def times_beside(run: Path, name: str) -> tuple[int, ...]:
    """When what a figure reads besides the run's tables was written: the manifest does not change with it."""
    return tuple(file.stat().st_mtime_ns if file.is_file() else 0 for file in figure_of(name).beside(run))


@st.fragment
@panel
def show_figure(now: View) -> None:
    names = [one.name for one in figures()]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = pick("Figure", names, "figure", help="; ".join(f"{one.name}: {one.question}" for one in figures()))
        kind = pick("Format", list(FORMATS), "format")
        venue = pick("Width of", sorted(VENUES), "width", help=widths())
        points = pick("Text, points", list(POINTS), "points")
    style = style_of(venue, float(points))
    found, left_out = figures_of(now.run, now.stamp, times_beside(now.run, name), name)
    for reason in left_out.values():
        raise InputError(f"run '{now.run.name}' has no figure '{name}': {reason}")
    labels = [one.name for one in found]
    of = f"One for each {figure_of(name).each}"
    label = pick("Of", labels, f"of_{name.replace('-', '_')}", help=of) if len(found) > 1 else labels[0]
    one = found[labels.index(label)]
    wide = style.inches(one.wide)
    show(
        one.figure,
        "paper_figure",
        f"{for_page(one.name)} as {kind.upper()} for {venue}: {wide:g} inches wide, text of {points} points, no title.",
    )
    if kind in IMAGES and not browser_here():
        st.warning(NO_BROWSER, icon=":material/warning:")
        take(one.figure.data, one.name)
        return
    with st.container(horizontal=True):
        st.download_button(
            f"This figure ({kind.upper()})",
            data=lambda: file_bytes(one, kind, style),
            file_name=f"{one.name}.{kind}",
            mime=MIME[kind],
            key="take_figure",
            icon=":material/download:",
            on_click="ignore",
            type="primary",
        )
        st.download_button(
            f"All of '{name}' with data (ZIP)",
            data=lambda: bundle_bytes(found, kind, style),
            file_name=f"{name}.zip",
            mime="application/zip",
            key="take_figures",
            icon=":material/folder_zip:",
            on_click="ignore",
        )


def widths() -> str:
    """What each venue's columns measure."""
    return "; ".join(f"{name}: {column:g} in a column, {text:g} in the text" for name, (column, text) in VENUES.items())


now = view()
st.title("Figures for a paper")
st.caption(
    "Every figure of the whole run: choices at the side do not narrow it. All at once, with tables in LaTeX and "
    f"Markdown: {code_for_page(f'python -m analysis figures {quote(now.run.name)} --format pdf,svg,png,html')}."
)
show_figure(now)
