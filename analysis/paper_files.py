"""Write a run's figures and tables below its folder: a file per figure and format, each with its CSV."""

import io
import tempfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from analysis.figures.source import Source
from analysis.literal import for_markdown, of_plotly
from analysis.paper import Named, drawn
from analysis.paper_style import IMAGES, NO_BROWSER, Style, browser_here, image_bytes, write_images
from analysis.paper_tables import PaperTable, paper_tables

FOLDER = "figures"
SCRIPT = "directory"
"""How plotly names a script that lies once beside all pages: no page needs a network."""


@dataclass(frozen=True)
class Written:
    """What was written where, and what was not, each with its reason."""

    folder: Path
    figures: tuple[str, ...]
    tables: tuple[str, ...]
    left_out: dict[str, str]
    images: bool


def write_paper(source: Source, kinds: Sequence[str], style: Style, names: Sequence[str] = ()) -> Written:
    """Draw everything first, then write it: what cannot be drawn leaves nothing behind.

    Without Chrome or Chromium images are left out, and pages (HTML) stand in for them. Tables are computed while the
    browser, a process of its own, makes the images.
    """
    figures, left_out = drawn(source, names)
    images = [kind for kind in kinds if kind in IMAGES]
    can_draw = not images or browser_here()
    folder = source.run / FOLDER
    folder.mkdir(exist_ok=True)
    with ThreadPoolExecutor(1) as beside:
        made = beside.submit(
            write_images,
            [(one.figure, one.wide, folder / one.name) for one in figures],
            style,
            images if can_draw else [],
        )
        tables, no_tables = ([], {}) if names else paper_tables(source)
        made.result()
    pages = "html" in kinds or not can_draw
    for one in figures:
        one.figure.data.to_csv(folder / f"{one.name}.csv", index=False)
        if pages:
            one.figure.figure.write_html(folder / f"{one.name}.html", include_plotlyjs=SCRIPT, div_id=one.name)
    (folder / "captions.md").write_text("".join(map(caption_of, figures)), encoding="utf-8")
    for table in tables:
        _write_table(table, folder)
    return Written(
        folder=folder,
        figures=tuple(one.name for one in figures),
        tables=tuple(f"table-{table.name}" for table in tables),
        left_out=left_out | no_tables | ({} if can_draw else {", ".join(images): NO_BROWSER}),
        images=can_draw,
    )


def file_bytes(one: Named, kind: str, style: Style) -> bytes:
    """One figure in one format; a page (HTML) carries the script that draws it."""
    if kind == "html":
        return str(one.figure.figure.to_html(div_id=one.name)).encode()
    return image_bytes(one.figure, style, one.wide, kind)


def bundle_bytes(figures: Sequence[Named], kind: str, style: Style) -> bytes:
    """Figures in one format, each with its data, as a ZIP file; images by one browser."""
    held = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as bundle:
        if kind in IMAGES:
            write_images([(one.figure, one.wide, Path(folder, one.name)) for one in figures], style, [kind])
        for one in figures:
            drawn_as = Path(folder, f"{one.name}.{kind}")
            bundle.writestr(drawn_as.name, drawn_as.read_bytes() if kind in IMAGES else file_bytes(one, kind, style))
            bundle.writestr(f"{one.name}.csv", one.figure.data.to_csv(index=False))
    return held.getvalue()


def caption_of(one: Named) -> str:
    """Title and subtitle, which an image for a paper leaves to its caption."""
    title = one.figure.figure.layout.title
    words, below = (for_markdown(of_plotly(text)) for text in (title.text, title.subtitle.text))
    return f"**{one.name}**: {words}. {below}.\n\n"


def _write_table(table: PaperTable, folder: Path) -> None:
    path = folder / f"table-{table.name}"
    path.with_name(f"{path.name}.tex").write_text(table.latex(), encoding="utf-8")
    path.with_name(f"{path.name}.md").write_text(table.markdown(), encoding="utf-8")
    table.cells.to_csv(path.with_name(f"{path.name}.csv"), index=False)
