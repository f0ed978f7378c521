"""Pictures of the workbench for the README and for looking: every page of a run, light and dark, wide and narrow.

python -m analysis.screenshots --runs runs --run atlas --out docs/screenshots
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import typer

from analysis.pages.catalogue import addresses
from data.errors import InputError

ROOT = Path(__file__).parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
ASKED = {"live": "&typed=in+the+orchestra+gideon+ingram+is+heard+on+the"}
"""What a page is asked with, beside the run: a question of the atlas."""
SETTLED = "[data-testid=stApp][data-test-script-state=notRunning]"
TALLEST = 6000
"""Pixels: what is longer is cut."""


def browser_path() -> str | None:
    """Chromium or Chrome of this machine, if there is one."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


@contextlib.contextmanager
def serving(runs: Path, log: Path, seconds: float = 60) -> Iterator[str]:
    """The workbench served on a free port of this machine while the block lasts; gives its address.

    Raises:
        InputError: it did not start.
    """
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    environment = dict(os.environ) | {"PALIMPSEST_RUNS": str(runs.resolve())}
    with log.open("w") as output:
        server = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, env=environment)
    try:
        _wait(f"http://localhost:{port}", log, seconds)
        yield f"http://localhost:{port}"
    finally:
        server.terminate()
        server.wait(timeout=20)


def _wait(address: str, log: Path, seconds: float) -> None:
    """Until the server says that it is well."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=2)
            return
        time.sleep(0.3)
    raise InputError(f"the workbench did not start within {seconds:.0f} s: {log.read_text()[-400:]}")


def settle(page: Any) -> None:
    """Wait until the page has run and drawn what it has to draw."""
    page.locator(SETTLED).wait_for(timeout=60_000)
    page.locator("[data-testid=stSkeleton]").first.wait_for(state="detached", timeout=60_000)
    page.wait_for_timeout(700)  # a chart's last frame is announced nowhere
    page.locator(SETTLED).wait_for(timeout=60_000)


def shoot(page: Any, path: Path, width: int) -> None:
    """Picture a page whole: the window is made as tall as what it holds."""
    settle(page)
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": width, "height": min(max(height, 800), TALLEST)})
    settle(page)
    page.screenshot(path=path)
    page.set_viewport_size({"width": width, "height": 900})


def open_live(page: Any) -> None:
    """Press what a person presses on the page that opens models."""
    for name in ("See what opening them takes", "Open them"):
        page.get_by_role("button", name=name).click(timeout=120_000)
    page.get_by_role("button", name="Open them").wait_for(state="detached", timeout=120_000)


def ask_estimate(page: Any) -> None:
    """Ask what the study of the form would take."""
    page.get_by_role("button", name="Estimate").click()
    page.get_by_text("About, to a factor of three").wait_for(timeout=120_000)


PRESSED: dict[str, Callable[[Any], None]] = {"live": open_live, "new_study": ask_estimate}
"""What is pressed on a page before its picture is taken."""


def shrink(path: Path) -> None:
    """Write a picture again as tightly as PNG can without loss: a palette would change the repairs' hues."""
    from PIL import Image

    with Image.open(path) as picture:
        whole = picture.convert("RGB")
    whole.save(path, optimize=True)


def main(
    runs: Path = Path("runs"),
    run: str = "atlas",
    out: Path = Path("docs/screenshots"),
    widths: list[int] = typer.Option([1440, 900]),  # noqa: B008
    only: list[str] = typer.Option([], help="pages, all unless named"),  # noqa: B008
    schemes: list[str] = typer.Option(["light", "dark"]),  # noqa: B008
) -> None:
    """Picture every page of one run."""
    executable = browser_path()
    if executable is None:
        raise InputError(f"pictures need Chromium on this machine: looked for {', '.join(BROWSERS)}")
    from playwright.sync_api import sync_playwright

    out.mkdir(parents=True, exist_ok=True)
    with serving(runs, out / ".server.log") as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGS)
        for scheme in (one for one in SCHEMES if one in schemes):
            context = browser.new_context(color_scheme=scheme, viewport={"width": widths[0], "height": 900})
            page = context.new_page()
            for name in only or addresses():
                for width in widths:
                    page.set_viewport_size({"width": width, "height": 900})
                    page.goto(f"{address}/{name.removeprefix('question')}?run={run}{ASKED.get(name, '')}")
                    if name in PRESSED:
                        settle(page)
                        PRESSED[name](page)
                    path = out / f"{name or 'question'}-{scheme}-{width}.png"
                    shoot(page, path, width)
                    shrink(path)
            context.close()
        browser.close()
    (out / ".server.log").unlink()


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        sys.exit(f"error: {error}")
