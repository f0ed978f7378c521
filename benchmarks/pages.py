"""How long a person waits for the workbench on a stored run: in Chromium, by the browser's own clock.

1. First visit: a browser that has never seen the app opens a page by its link; heading, then first chart.
2. From page to page: the same by a click at the side, as most pages are come to.
3. A choice: from the click to the first chart that is drawn anew, on pages that were open a while.

Seconds, not ratios: what a person waits is no ratio. They are of the machine and of what else it does.
"""

import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from analysis.pages.catalogue import RUNS, addresses, pages
from analysis.reading import list_runs
from analysis.screenshots import CHROMIUM_ARGS, browser_path, serving, settle
from benchmarks.measure import Ratio
from data.errors import InputError

PAGES = {
    address: page.title
    for address, page in zip(addresses(), pages(), strict=True)
    if page.charts and page.section != RUNS
}
"""Pages that draw charts of one run when they open, by their part of the address."""
CHOICES = {"recovery": ("graded", "open"), "drift": ("text", "questions"), "attention": ("text", "questions")}
"""On each page two values of one box, chosen in turn."""
HEADING = "document.querySelector('[data-testid=stMain] h1')"
CHART = "document.querySelector('[data-testid=stMain] .js-plotly-plot')"
LISTEN = "addEventListener('click', () => { window.acted = performance.now(); }, {once: true, capture: true});"
FIRST, SECOND = 1.5, 0.5
"""Seconds within which a page and a choice should show."""


def page_seconds(rounds: int) -> dict[str, Ratio]:
    """The slowest page of each kind of waiting, a median over rounds.

    Raises:
        InputError: no Chromium, or no finished run to show.
    """
    runs = Path(os.environ.get("PALIMPSEST_RUNS") or "runs")
    if not (names := list_runs(runs)):
        raise InputError(f"no finished run in '{runs}': `make study` makes one, and this benchmark opens it")
    run = "atlas" if "atlas" in names else names[0]
    with _browser() as (browser, folder), serving(runs, folder / "server.log") as address:
        visits = {name: [_visit(browser, f"{address}/{name}?run={run}") for _ in range(rounds)] for name in PAGES}
        walked = _walk(browser, f"{address}/?run={run}", rounds)
        chosen = {name: _choose(browser, f"{address}/{name}?run={run}", name, rounds) for name in CHOICES}
    slowest = partial(_slowest, run=run)
    return {
        "first visit, heading": slowest({name: [one[0] for one in found] for name, found in visits.items()}, FIRST),
        "first visit, first chart": slowest({name: [one[1] for one in found] for name, found in visits.items()}, None),
        "page to page, first chart": slowest(walked, FIRST),
        "a choice, first time": slowest({name: found[:1] for name, found in chosen.items()}, None),
        "a choice": slowest({name: found[1:] for name, found in chosen.items()}, SECOND),
    }


def _slowest(found: dict[str, list[float]], target: float | None, run: str) -> Ratio:
    """The page that takes longest, by its median."""
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    name = max(medians, key=lambda name: medians[name])
    return Ratio(medians[name], target, "s", f"{PAGES[name]}, the slowest of {len(medians)} pages, run {run}")


@contextmanager
def _browser() -> Iterator[tuple[Any, Path]]:
    """Chromium without a window, and a folder for the server's log."""
    executable = browser_path()
    if executable is None:
        raise InputError("this benchmark needs Chromium or Chrome on this machine")
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGS)
        yield browser, Path(folder)
        browser.close()


def _visit(browser: Any, address: str) -> tuple[float, float]:
    """Seconds from asking for a page to its heading and to its first chart, in a browser without a cache."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(address, wait_until="commit")
    seconds = tuple(_since(page, f"{what} !== null", "0") for what in (HEADING, f"{CHART}?._fullLayout ?? null"))
    context.close()
    return seconds[0], seconds[1]


def _walk(browser: Any, address: str, rounds: int) -> dict[str, list[float]]:
    """Seconds from a click at the side to the first chart of a page, every page in turn; the first turn counts not."""
    page = browser.new_page()
    page.goto(address)
    settle(page)
    found: dict[str, list[float]] = {name: [] for name in PAGES}
    for turn in range(rounds + 1):
        for name, title in [*list(PAGES.items())[1:], ("", PAGES[""])]:
            page.evaluate(f"() => {{ window.before = {CHART}; }}")
            seconds = _timed(
                page,
                page.locator("[data-testid=stSidebarNav] a").filter(has_text=title).first.click,
                f"{CHART}?._fullLayout && {CHART} !== window.before",
            )
            settle(page)
            if turn:
                found[name].append(seconds)
    return found


def _choose(browser: Any, address: str, name: str, rounds: int) -> list[float]:
    """Seconds from a click on a choice to the first chart drawn anew; the first has never been drawn before."""
    page = browser.new_page()
    page.goto(address)
    settle(page)
    found = []
    for turn in range(2 * rounds + 1):
        page.evaluate(f"() => {{ window.before = {CHART}.data; }}")
        words = CHOICES[name][turn % 2]
        button = page.locator("[data-testid=stMain] [data-testid=stButtonGroup] button").filter(has_text=words).first
        found.append(_timed(page, button.click, f"{CHART}.data !== window.before"))
        settle(page)
    return found


def _timed(page: Any, act: Callable[[], None], shown: str) -> float:
    """Seconds from an act to what it shows."""
    page.evaluate(f"() => {{ {LISTEN} }}")
    act()
    return _since(page, shown, "window.acted")


def _since(page: Any, shown: str, start: str) -> float:
    """Seconds since `start` on the page's clock when a condition on the page first holds."""
    holds = f"() => ({shown}) ? Math.max(1, performance.now() - {start}) : false"
    milliseconds = page.wait_for_function(holds, polling="raf", timeout=60_000).json_value()
    return float(milliseconds) / 1000
