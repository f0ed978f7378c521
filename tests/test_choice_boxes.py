"""What a box shows is what the page reads: every page in Chromium, after every choice that others depend on.

The browser keeps what a box shows on its own, which AppTest cannot see: it has one state for both.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis import reading, screenshots
from analysis.look import METRICS
from tests.choice_runs import write_runs

pytestmark = pytest.mark.browser

AT_THE_SIDE = ("run", "scope", "compression", "repair", "seed", "reading")
OWN = {
    "": (),
    "recovery": ("group",),
    "evidence": ("setting",),
    "claims": (),
    "drift": ("metric", "site", "read_on", "reference", "layer", "lens_metric", "lens_group"),
    "attention": ("first", "second", "attention_metric", "attention_read_on", "attention_reference", "layer", "head"),
    "choices": ("bank", "replicate", "choice_group", "measure", "selector", "item"),
    "facts": ("group", "item", "which=lost by compression", "of"),
    "causal": ("patched_variant", "patched_replicate", "intervention"),
    "live": ("live",),
    "new_study": ("from",),
    "compare": ("beside", "group", "metric", "site", "read_on", "reference"),
    "figures": ("figure=drift-residual", "format=svg", "width", "points"),
}
"""The boxes of each page, those first on which others depend; what is chosen in them where it is not the last."""
OFTEN = ("evidence", "drift", "facts")
"""Pages that are walked by every `make test`: boxes that others depend on, of each control. `make walks` walks all."""
READ = {"candidates": "best of the fixed candidates", "vocabulary": "best of the full vocabulary"}
METRIC = {words: name for name, (words, _) in METRICS.items()}

SHOWN = """() => {
  const shown = {};
  for (const box of document.querySelectorAll('[class*=st-key-]')) {
    const key = [...box.classList].find(name => name.startsWith('st-key-')).slice(7);
    if (box.querySelector('[data-testid=stButtonGroup]'))
      shown[key] = [...box.querySelectorAll('[aria-checked=true]')].map(one => one.innerText).join();
    else if (box.querySelector('[data-testid=stSelectbox]')) shown[key] = box.querySelector('input').value;
    else if (box.querySelector('[data-testid=stMultiSelect]'))
      shown[key] = [...box.querySelectorAll('[data-tag]')].map(one => one.innerText).join();
  }
  return shown;
}"""
"""What every box shows, by its key."""
TOLD = """() => [...document.querySelectorAll('[data-testid=stElementContainer]')]
  .filter(part => !part.querySelector('[data-testid=stWidgetLabel]'))
  .map(part => part.querySelector('[data-testid=stDataFrame]')
    ? [...part.querySelectorAll('[role=columnheader], [role=gridcell]')].map(cell => cell.textContent).join(' ')
    : part.innerText)
  .join(' ').replace(/\\s+/g, '')"""
"""All words but those of boxes, without spaces: lines of a figure break anywhere."""
PATIENCE = 20
"""Seconds."""
WATCH = """() => {
  window.ran = new Promise(done => {
    const app = document.querySelector('[data-testid=stApp]');
    new MutationObserver(done).observe(app, {attributeFilter: ['data-test-script-state']});
    setTimeout(done, 1500);  // one so short that nothing was drawn between its ends
  });
}"""
"""Looks from now on for a script to run."""
CALM = """() => new Promise(done => {
  const running = () => !document.querySelector('[data-testid=stApp][data-test-script-state=notRunning]')
    || !document.querySelector('.st-key-reading') || document.querySelector('[data-testid=stSkeleton]');
  let since = performance.now();
  const watch = new MutationObserver(() => { since = performance.now(); });
  watch.observe(document.body, {subtree: true, childList: true, attributes: true, characterData: true});
  const look = () => {
    if (running()) since = performance.now();
    if (performance.now() - since > 200) { watch.disconnect(); done(); } else setTimeout(look, 20);
  };
  look();
})"""
"""Until no script runs and nothing has changed for a fifth of a second: a chart's last frame is not announced."""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address, the runs' folder, the window that walks and one that opens links."""
    executable = screenshots.browser_path()
    if executable is None:
        pytest.skip(f"no Chromium on this machine: looked for {', '.join(screenshots.BROWSERS)}")
    from playwright.sync_api import sync_playwright

    folder = tmp_path_factory.mktemp("choices")
    (folder / "runs").mkdir()
    write_runs(folder / "runs")
    with screenshots.serving(folder / "runs", folder / "server.log") as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=screenshots.CHROMIUM_ARGS)
        context = browser.new_context(viewport={"width": 1440, "height": 2600}, reduced_motion="reduce")
        windows = [context.new_page() for _ in range(2)]  # which share nothing but what a browser keeps of scripts
        for window in windows:
            window.set_default_timeout(60_000)
        yield address, folder / "runs", *windows
        browser.close()


EVERY_PAGE = [page if page in OFTEN else pytest.param(page, marks=pytest.mark.walk) for page in OWN]


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_a_box_shows_what_the_page_reads(served, page):
    address, runs, window, other = served
    window.goto(f"{address}/{page}")
    check = Checked(window, other, runs, page)
    check("opened")
    for box in OWN[page]:
        key, _, value = box.partition("=")
        choose(window, key, value or None)
        check(key)
    choose(window, "scope", "locked")
    check("scope")
    for key, value in (("seed", "1"), ("reading", "vocabulary"), ("repair", "prompt-4"), ("compression", "rtn-4bit")):
        choose(window, key, value)
        check(key)
    choose(window, "run", "second")
    check("run")
    window.get_by_role("link", name="Claims").click()
    calm(window)
    window.go_back()
    check("back", link=bool(OWN[page]))


def test_a_step_to_another_page_brings_its_choices_into_box_page_and_address(served):
    address, runs, window, other = served
    window.goto(f"{address}/evidence?scope=locked")
    calm(window)
    choose(window, "setting", "locked (ria-50%) + prompt-4")
    Checked(window, other, runs, "evidence")("setting")
    calm(window)  # the links stand below the words that were waited for
    for text, page in (("Which facts these are", "facts"), ("Where attention moved", "attention")):
        window.get_by_text(text).click()
        window.wait_for_url(f"**/{page}**")
        check = Checked(window, other, runs, page)
        check("step", link=True)
    shown = window.evaluate(SHOWN)
    assert (shown["scope"], shown["compression"], shown["repair"]) == ("locked", "ria-50%", "prompt-4")
    window.goto(f"{address}/drift")
    calm(window)
    window.get_by_text("Heads of layer 0").click()
    window.wait_for_url("**/attention**")
    check("layer", link=True)
    assert window.evaluate(SHOWN)["layer"] == "0"


class Checked:
    """Compares what boxes show with what stands below them, and with what the link opens in another window."""

    def __init__(self, window, other, runs: Path, page: str) -> None:
        self.window, self.other, self.runs, self.page = window, other, runs, page

    def __call__(self, after: str, link: bool = False) -> None:
        calm(self.window)
        self.waited(self.unsaid, f"{self.page or 'question'}, {after}")
        if link:
            self.other.goto(self.window.url)
            calm(self.other)
            self.waited(self.unlike, f"{self.page or 'question'}, link after {after}")

    def waited(self, wrong: Callable[[], str], where: str) -> None:
        """Tables are drawn last and announce it nowhere: what is wrong must stay so to count."""
        until = time.monotonic() + PATIENCE
        while (found := wrong()) and time.monotonic() < until:
            self.window.wait_for_timeout(100)
        assert not found, f"{where}: {found}"

    def unsaid(self) -> str:
        """What the words of its boxes have the page say and it does not."""
        shown, told = self.window.evaluate(SHOWN), self.window.evaluate(TOLD)
        assert set(AT_THE_SIDE) <= set(shown)
        absent = [words for words in said_of(self.page, shown, self.runs) if squeezed(words) not in told]
        return f"{absent} of {shown}" if absent else ""

    def unlike(self) -> str:
        """How this window differs from the one that opened its link."""
        for what in (SHOWN, TOLD):
            mine, theirs = self.window.evaluate(what), self.other.evaluate(what)
            if mine != theirs:
                return f"{mine} is not {theirs}"
        return ""


def said_of(page: str, shown: dict[str, str], runs: Path) -> list[str]:
    """What the words of its boxes have a page say."""
    said = {"run": f"text of {shown['run']}"} | SAYS.get(page, lambda shown, runs: {})(shown, runs)
    return [words for key, words in said.items() if key in shown]


def of_recovery(shown: dict[str, str], runs: Path) -> dict[str, str]:
    return {
        "scope": f"Scope {shown['scope']}, group {shown['group']}:",
        "group": f"Accuracy, group {shown['group']}, {READ[shown['reading']]}",
        "seed": "" if shown["seed"] == "all" else f"test, seed {shown['seed']}",
    }


def of_evidence(shown: dict[str, str], runs: Path) -> dict[str, str]:
    verdict = reading.read_json(runs / shown["run"], "verdict.json")
    every = {reading.place_of(one): one for one in [*verdict["settings"], *verdict["controls"]]}
    bits = every[shown["setting"]]["redirected_bits"]
    number = reading.compact(bits["estimate"], bits["lower"], bits["upper"])
    return {
        "setting": f"{shown['setting']}, displaced: knowledge came back for subjects the repair never saw, {number}"
    }


def of_drift(shown: dict[str, str], runs: Path) -> dict[str, str]:
    return {
        "metric": f"{shown['metric']} (",
        "site": f"Drift from {shown['reference']}: {shown['site']}",
        "read_on": f"content tokens of {shown['read_on']}",
        "layer": f"Layer {shown['layer']}, every site: drift from {shown['reference']}",
        "lens_metric": f"{shown['lens_metric']} (",
        "lens_group": f"Logit lens, group {shown['lens_group']}",
    }


def of_attention(shown: dict[str, str], runs: Path) -> dict[str, str]:
    metric = shown["attention_metric"]
    return {
        "first": f"{shown['first']}{shown['second']}first − second",
        "attention_metric": metric[0].upper() + metric[1:],
        "attention_read_on": f"content tokens of {shown['attention_read_on']}",
        "layer": f"Layer {shown['layer']}, head {shown['head']}: {metric}",
        "head": f"Layer {shown['layer']}, head {shown['head']}, token by token",
        "example": f"{shown['example']}: ",
    }


def of_choices(shown: dict[str, str], runs: Path) -> dict[str, str]:
    if "bank" not in shown:
        return {}
    return {
        "bank": f"{shown['bank']}, replicate {shown['replicate']}, group {shown['choice_group']}: n = ",
        "measure": f"selector {shown['measure']} more than",
        "item": f"{shown['item']}: {shown['selector']} kept prompt",
    }


def of_facts(shown: dict[str, str], runs: Path) -> dict[str, str]:
    which = "" if shown["which"] == "all" else f", {shown['which']}: {shown['of']}"
    if "item" not in shown:
        return {"which": "No question fits"}
    relation, _, subject = shown["item"].partition(" of ")
    return {
        "which": f"questions of group {shown['group']}{which}",
        "item": f"{relation} of land of {subject}: {subject}",
        "reading": "among the candidates" if shown["reading"] == "candidates" else "over the whole vocabulary",
    }


def of_causal(shown: dict[str, str], runs: Path) -> dict[str, str]:
    if "patched_variant" not in shown:
        return {}
    setting = shown["positions" if shown["intervention"] == "Patching" else "form"]
    words = "Restored log-odds" if shown["intervention"] == "Patching" else "Drop in log-odds"
    return {
        "intervention": f"{words} of the right answer: {shown['patched_variant']}, {setting}",
        "patched_replicate": f"{shown['patched_variant']}, replicate {shown['patched_replicate']}, {setting}",
    }


def of_compare(shown: dict[str, str], runs: Path) -> dict[str, str]:
    return {
        "beside": f"setting 1: {shown['run']} 2: {shown['beside']}",
        "group": f"group {shown['group']}",
        "reading": READ[shown["reading"]],
        "scope": f"scope {shown['scope']}",
        "site": f"drift from {shown.get('reference')}, {shown.get('site')}",
    }


def of_figures(shown: dict[str, str], runs: Path) -> dict[str, str]:
    return {
        "figure": f"All of '{shown['figure']}' with data",
        "format": f"as {shown['format'].upper()} for {shown['width']}:",
        "points": f"text of {shown['points']} points",
        "of": f"{shown.get('of')} as",
    }


SAYS: dict[str, Callable[[dict[str, str], Path], dict[str, str]]] = {
    "recovery": of_recovery,
    "evidence": of_evidence,
    "drift": of_drift,
    "attention": of_attention,
    "choices": of_choices,
    "facts": of_facts,
    "causal": of_causal,
    "compare": of_compare,
    "figures": of_figures,
}
"""By page: what each box's words have it say, by the box's key."""


def squeezed(words: str) -> str:
    return re.sub(r"\s+", "", words)


def choose(window, key: str, value: str | None) -> None:
    """Choose in a box as a person does, its last option unless another is named."""
    box, name = window.locator(f".st-key-{key}"), re.compile(f"^{re.escape(value or '')}$")
    listed = not box.locator("[data-testid=stButtonGroup]").count()
    if listed:
        box.locator("input").click()
    options = window.locator("[role=listbox] [role=option]") if listed else box.locator("[role=radio]")
    options.first.wait_for()
    option = options.last if value is None else options.filter(has_text=name)
    chosen = option.get_attribute("aria-selected" if listed else "aria-checked") == "true"
    window.evaluate(WATCH)
    option.click()
    if listed:
        window.keyboard.press("Escape")
    if not chosen:
        window.evaluate("window.ran")


def calm(window) -> None:
    window.evaluate(CALM)
