"""A person's walk through the workbench in Chromium: by clicking, reading numbers that must be the tables'."""

import re

import pandas as pd
import pytest

from analysis import screenshots
from tests.stored_runs import LOST, PREDICTION, write_run


@pytest.fixture
def walk(tmp_path):
    """A browser on the workbench, and what its console complained of."""
    executable = screenshots.browser_path()
    if executable is None:
        pytest.skip(f"no Chromium on this machine: looked for {', '.join(screenshots.BROWSERS)}")
    from playwright.sync_api import sync_playwright

    run = write_run(tmp_path / "runs" / "first")
    with (
        screenshots.serving(tmp_path / "runs", tmp_path / "server.log") as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=executable, args=screenshots.CHROMIUM_ARGS)
        complaints: list[str] = []

        def hear(line) -> None:
            # Opened at a page below the root, Streamlit first looks for its server below that page.
            probing = re.search(r"/attention/_stcore/(health|host-config)", line.location.get("url", ""))
            if line.type == "error" and not probing:
                complaints.append(f"{line.text} {line.location.get('url')}")

        def fresh():
            page = browser.new_context(viewport={"width": 1440, "height": 2600}).new_page()
            page.on("console", hear)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            return page

        yield address, run, fresh, complaints
        browser.close()


@pytest.mark.browser
def test_from_the_question_to_a_head_by_clicking(walk, tmp_path):
    address, run, fresh, complaints = walk
    page = fresh()
    page.goto(address)
    screenshots.settle(page)
    assert "gptq-3bit .50 [.20, .80]" in page.locator("[data-testid=stMain]").inner_text()
    page.get_by_text("See the evidence").click()
    page.wait_for_url("**/evidence**")
    screenshots.settle(page)
    assert f" {PREDICTION['estimate']} " in cells_of(page)
    page.get_by_text("Which facts these are").click()
    page.wait_for_url("**/facts**")
    screenshots.settle(page)
    assert "compression=gptq-3bit" in page.url
    assert "wanda" not in cells_of(page)
    page.get_by_label("Search").first.fill("oslo")
    page.get_by_label("Search").first.press("Enter")
    page.wait_for_url("**find=oslo**")
    screenshots.settle(page)
    answers = pd.read_parquet(run / "answers.parquet")
    own = answers[(answers["item"] == LOST) & (answers["reading"] == "candidates")].set_index("variant_id")
    told = cells_of(page)
    assert f" {own.loc['maingptq-3bit/0', 'log_prob']} " in told
    assert own.loc["maingptq-3bit/0", "predicted"] in told
    page.get_by_text("Where attention moved").click()
    page.wait_for_url("**/attention**")
    screenshots.settle(page)
    click_cell(page, layer=2, head=3)
    page.wait_for_url("**layer=2**")
    screenshots.settle(page)
    assert "head=3" in page.url
    assert "Layer 2, head 3" in page.locator("[data-testid=stMain]").inner_text()
    again = fresh()
    again.goto(page.url)
    screenshots.settle(again)
    assert words_of(again) == words_of(page)
    assert again.locator(".js-plotly-plot").count() == 2
    assert again.locator("[data-testid=stException], [data-testid=stAlert]").count() == 0
    screenshots.shoot(again, tmp_path / "page.png", 1440)
    assert (tmp_path / "page.png").stat().st_size > 10_000
    assert complaints == []


def cells_of(page) -> str:
    """What the page's tables say: they are drawn on a canvas, with their cells beside it for screen readers."""
    page.locator("[data-testid=stDataFrame] canvas").first.wait_for()
    return " ".join(page.locator("[data-testid=stDataFrame] [role=gridcell]").all_text_contents())


def words_of(page) -> str:
    """The page's words, less what a mark tells while it is pointed at: that can outlast the mouse on a busy machine."""
    page.evaluate("document.querySelectorAll('.hoverlayer').forEach(layer => layer.replaceChildren())")
    return re.sub(r"\s+", " ", page.locator("[data-testid=stMain]").inner_text())


def click_cell(page, layer: int, head: int) -> None:
    """Click the mark that lies on a cell of the first grid."""
    marks = page.locator(".js-plotly-plot").first.locator(".subplot.xy .scatterlayer .point")
    place = 0
    for place in range(marks.count()):
        told = marks.nth(place).evaluate("mark => mark.__data__ && [mark.__data__.y, mark.__data__.x]")
        if told == [layer, head]:
            break
    else:
        raise AssertionError("no such cell")
    box = marks.nth(place).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_timeout(200)
    page.mouse.down()
    page.mouse.up()
