"""Pages of the workbench as Streamlit's own test runner opens them, and what stands on them."""

from pathlib import Path

from streamlit.testing.v1 import AppTest

from analysis.pages.catalogue import page_of, pages

ROOT = Path(__file__).parent.parent
FRAME = str(ROOT / "analysis" / "pages" / "frame.py")
PAGES = tuple(one.name for one in pages())
CHARTS = {"question": 1, "recovery": 3, "evidence": 2, "drift": 4, "attention": 3, "choices": 2, "facts": 2}
CHARTS |= {"causal": 2, "compare": 2}
"""How many charts some pages draw of the run made by hand."""


def opened(page: str = "question", **link: str) -> AppTest:
    """A page as a link opens it."""
    app = AppTest.from_file(FRAME, default_timeout=60)
    for name, value in link.items():
        app.query_params[name] = value
    if page != PAGES[0]:
        app.switch_page(page_of(page).file)
    return app.run()


def errors_of(page: AppTest) -> list[str]:
    """The errors that a page shows; it must not have raised."""
    assert not page.exception
    return [one.value for one in page.error]


def words_of(page: AppTest) -> str:
    """All the text of a page."""
    return " ".join(one.value for one in [*page.markdown, *page.caption, *page.title, *page.subheader])
