"""Pages of a run whose names are full of marks: in Chromium every name is seen as it is, wherever it stands."""

import re
from urllib.parse import quote

import pytest

from analysis import reading, screenshots
from analysis.pages.catalogue import addresses
from analysis.paper import file_name
from analysis.report_markdown import markdown
from analysis.report_page import write_report_page
from tests.literal_runs import EVERY, NAMES, NOTE, RUN, TOLD, write_literal_run
from tests.opened_pages import PAGES, errors_of, opened

ASKED = {
    "evidence": "",
    "recovery": "account_open=true",
    "attention": "layer=2&head=3",
    "facts": "which=lost by compression",
    "figures": "figure=recovery&format=html",
    "question": "decisions=true",
}
"""What opens the parts of a page that are closed at first."""
FEW = ("live", "new_study", "claims", "compare", "figures")
"""Pages that show little of one run, beside what stands at the side."""
SEEN = """() => {
  const shown = [document.body.innerText];
  for (const cell of document.querySelectorAll('[role=columnheader], [role=gridcell]')) shown.push(cell.textContent);
  for (const box of document.querySelectorAll('input')) shown.push(box.value);
  for (const text of document.querySelectorAll('svg text')) shown.push(text.textContent);
  return shown;
}"""
"""All that can be read: texts, cells of tables, what stands in boxes, every text of a figure by itself."""
TAKEN = """() => [...document.querySelectorAll(
  '.katex, .stMarkdownColoredText, .stMarkdownColoredBackground, [data-testid=stMain] img, '
  + '[data-testid=stMain] :is(u, i, del, h4, script), [data-testid=stMain] a[href*="czq"]'
)].map(part => part.outerHTML)"""
"""What a name may have been taken for."""


@pytest.mark.parametrize("page", PAGES)
def test_every_page_of_a_run_with_marks_in_its_names_opens(root, page):
    write_literal_run(root)
    shown = opened(page, run=RUN)
    assert errors_of(shown) == []


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    """A window on a server whose one run is full of marks; nothing in it may open a dialogue."""
    executable = screenshots.browser_path()
    if executable is None:
        pytest.skip(f"no Chromium on this machine: looked for {', '.join(screenshots.BROWSERS)}")
    from playwright.sync_api import sync_playwright

    folder = tmp_path_factory.mktemp("marks")
    (folder / "runs").mkdir()
    run = write_literal_run(folder / "runs")
    with screenshots.serving(folder / "runs", folder / "server.log") as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=screenshots.CHROMIUM_ARGS)
        page = browser.new_page(viewport={"width": 1440, "height": 3000})
        page.set_default_timeout(60_000)
        yield page, address, run
        browser.close()


@pytest.mark.browser
@pytest.mark.parametrize("name", addresses())
def test_a_name_is_seen_as_it_is(window, name):
    page, address, _ = window
    page.goto(f"{address}/{name}?{ASKED.get(name or 'question', '')}")
    screenshots.settle(page)
    seen = page.evaluate(SEEN)
    assert broken(seen) == []
    assert page.evaluate(TAKEN) == []
    met = {one for one in EVERY if any(squeezed(one) in squeezed(text) for text in seen)}
    assert RUN in met
    assert len(met) >= (4 if name in FEW else 5)


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def broken(seen: list[str]) -> list[str]:
    """Where the core of a name stands without the rest of it, but for names of files, which are made of letters."""
    found = []
    for name in EVERY:
        seen = [text.replace(file_name(name, ""), "") for text in seen]
    for name in map(squeezed, EVERY):
        core = re.search(r"[a-zA-Z]zq", name)
        assert core is not None
        for text in map(squeezed, seen):
            for place in re.finditer(core.group(), text):
                start = place.start() - core.start()
                if text[max(start, 0) : start + len(name)] != name:
                    found.append(f"{name}: {text[max(start - 20, 0) : start + len(name) + 20]}")
    return found


@pytest.mark.browser
def test_what_a_mark_of_a_figure_tells_is_seen_as_it_is(window):
    page, address, _ = window
    page.goto(f"{address}/recovery?compression={quote(NAMES['gptq-3bit'])}")
    screenshots.settle(page)
    told = []
    for mark in page.locator(".js-plotly-plot").first.locator(".scatterlayer .point").all()[:8]:
        box = mark.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        told += page.locator(".hoverlayer .hovertext").first.all_text_contents()
    assert any(squeezed(NAMES["gptq-3bit"]) in squeezed(one) for one in told)
    assert broken(told) == []


@pytest.mark.browser
def test_the_report_as_a_page_shows_names_as_they_are(window):
    page, _, run = window
    verdict = reading.read_json(run, "verdict.json")
    settings = [one | {"further_predictions": []} for one in verdict["settings"]]
    (run / "report.md").write_text(markdown(verdict | {"settings": settings, "claims": []}, NOTE, TOLD["title"]))
    page.goto(write_report_page(run).as_uri())
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    seen = page.evaluate(SEEN)
    assert broken(seen) == []
    assert all(any(squeezed(name) in squeezed(text) for text in seen) for name in (TOLD["title"], NOTE))
    assert page.locator(".katex, mjx-container").count() == 0
