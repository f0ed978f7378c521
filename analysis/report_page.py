"""The report as one page in HTML: the words of report.md and the figures that carry them; it needs no network."""

import html
from pathlib import Path

from markdown_it import MarkdownIt

from analysis.figures.registry import figures
from analysis.figures.source import Source
from analysis.paper import drawn
from analysis.store import write_atomically

PAGE = "report.html"
WORDS = "report.md"
STYLE = """
body { max-width: 1020px; margin: 2rem auto; padding: 0 1rem; color: #222;
  font: 15px/1.5 "Source Sans 3", "Source Sans Pro", "DejaVu Sans", Arial, sans-serif; }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .6rem; text-align: left; vertical-align: top; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.2rem; } .absent { color: #666; }
"""


def write_report_page(run: Path) -> Path:
    """Write `report.html` beside `report.md` of a run whose tables and verdict are written.

    Raises:
        OSError: the folder cannot be written to, or holds no report.
    """
    words = MarkdownIt("commonmark", {"html": False}).enable("table").render((run / WORDS).read_text(encoding="utf-8"))
    found, left_out = drawn(Source(run), [one.name for one in figures() if one.in_report])
    parts = []
    for place, one in enumerate(found):
        # The script that draws is carried once, in the page itself; a fixed name keeps the page the same each time.
        parts.append(one.figure.figure.to_html(full_html=False, include_plotlyjs=place == 0, div_id=one.name))
    absent = [f"<li>{html.escape(name)}: {html.escape(reason)}</li>" for name, reason in left_out.items()]
    page = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f"<title>{html.escape(run.name)}</title><style>{STYLE}</style></head><body>",
        words,
        "<h2>Figures</h2>",
        *parts,
        *(["<p class=absent>Left out:</p><ul class=absent>", *absent, "</ul>"] if absent else []),
        "</body></html>",
    ]
    write_atomically(run / PAGE, "\n".join(page))
    return run / PAGE
