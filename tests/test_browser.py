"""A person's walk through the workbench in Chromium: by clicking, reading numbers that must be the tables'."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
import yaml

from analysis import reading, screenshots
from analysis.pages.catalogue import addresses
from tests.stored_runs import write_run

SMALL = {
    **{"name": "small", "model": "atlas", "facts": "atlas", "relations": ["instrument"], "groups": ["open"]},
    **{"text": "atlas", "seeds": [0], "tuning": {"steps": 2, "batch": 4}, "placebos": 8, "score_batch": 256},
    "compressions": [{"method": "magnitude", "sparsity": 0.6, "samples": 4, "block_length": 32}],
    "repairs": [{"kind": "prompt", "length": 2, "learning_rate": 0.03}],
    "reported": ["prompt-2"],
    "drift": {"questions": 4, "windows": 2, "length": 16, "batch": 2},
    "inside": {"examples": {"items": 1}, "lens": None, "probes": None, "interventions": None},
}
"""A study of seconds, from which the form starts."""


@pytest.fixture(scope="module")
def workbench(tmp_path_factory):
    """The workbench's address, a run that it shows and a browser: all walks share them."""
    executable = screenshots.browser_path()
    if executable is None:
        pytest.skip(f"no Chromium on this machine: looked for {', '.join(screenshots.BROWSERS)}")
    from playwright.sync_api import sync_playwright

    folder = tmp_path_factory.mktemp("workbench")
    run = write_run(folder / "runs" / "first")
    with (
        screenshots.serving(folder / "runs", folder / "server.log") as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=executable, args=screenshots.CHROMIUM_ARGS)
        yield address, run, browser
        browser.close()


@pytest.fixture
def walk(workbench):
    """The workbench, windows of no past, and what their consoles complained of."""
    address, run, browser = workbench
    complaints: list[str] = []
    contexts = []

    def hear(line) -> None:
        # Opened at a page below the root, Streamlit first looks for its server below that page.
        probing = re.search(r"/\w+/_stcore/(health|host-config)", line.location.get("url", ""))
        if line.type == "error" and not probing:
            complaints.append(f"{line.text} {line.location.get('url')}")

    def fresh():
        contexts.append(browser.new_context(viewport={"width": 1440, "height": 2600}))
        page = contexts[-1].new_page()
        page.set_default_timeout(120_000)  # a condition is waited for as long as a busy machine may take
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield address, run, fresh, complaints
    for context in contexts:
        context.close()


@pytest.fixture
def form(walk):
    """A run with a study of seconds beside the first; what is run from it is gone afterwards."""
    _, run, _, _ = walk
    folder = write_run(run.parent / "small")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"study": SMALL}))
    yield folder
    leaves_alone(run)


@pytest.fixture
def demo(walk):
    """The run that `make demo` makes, beside the first; gone afterwards."""
    _, run, _, _ = walk
    command = [sys.executable, "-m", "analysis", "run", "atlas", "--out", str(run.parent)]
    done = subprocess.run(command, cwd=screenshots.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    yield run.parent / "atlas"
    leaves_alone(run)


def leaves_alone(run: Path) -> None:
    """Take away every folder beside a run."""
    for other in run.parent.iterdir():
        if other.is_dir() and other != run:
            shutil.rmtree(other)


@pytest.mark.browser
def test_from_the_question_to_a_head_by_clicking(walk, tmp_path):
    address, run, fresh, complaints = walk
    last = goes_from_the_question_to_a_head(fresh, address, run)
    screenshots.shoot(last, tmp_path / "page.png", 1440)
    assert (tmp_path / "page.png").stat().st_size > 10_000
    assert complaints == []


def goes_from_the_question_to_a_head(fresh, address: str, run: Path):
    """Question, Evidence, Facts, Attention by clicking, each read against the run's tables; then the link, elsewhere.

    Gives the window that opened the link.
    """
    page = fresh()
    page.goto(f"{address}?run={run.name}")
    screenshots.settle(page)
    setting = reading.read_json(run, "verdict.json")["settings"][0]
    kept = [setting["expressed_bits"][name] for name in ("estimate", "lower", "upper")]
    assert f"{setting['compression']} {reading.compact(*kept)}" in words_of(page)
    page.get_by_text("See the evidence").click()
    page.wait_for_url("**/evidence**")
    screenshots.settle(page)
    told = cells_of(page)
    assert all(f" {one[name]} " in told for one in setting["predictions"] for name in ("estimate", "n"))
    page.get_by_text("Which facts these are").click()
    page.wait_for_url("**/facts**")
    screenshots.settle(page)
    assert f"compression={setting['compression']}" in unquote(page.url)
    finds_a_question(page, run, setting)
    page.get_by_text("Where attention moved").click()
    page.wait_for_url("**/attention**")
    screenshots.settle(page)
    opens_a_head(page, run, setting)
    again = fresh()
    again.goto(page.url)
    screenshots.settle(again)
    assert words_of(again) == words_of(page)
    assert again.locator(".js-plotly-plot").count() == 3
    assert again.locator("[data-testid=stException], [data-testid=stAlert]").count() == 0
    return again


def finds_a_question(page, run: Path, setting: dict) -> None:
    """Facts, searched for the question that was kept token by token: the compressed model's answer is the table's."""
    variants, answers = (reading.read_table(run, name) for name in ("variants", "answers"))
    own = variants[(variants["scope"] == "main") & (variants["variant"] == setting["compression"])]
    examples = reading.read_table(run, "examples")
    item = examples.loc[examples["variant_id"].isin(own["variant_id"]), "item"].iloc[0]
    answers = answers[(answers["item"] == item) & (answers["reading"] == "candidates")]
    answers = answers[answers["variant_id"].isin(own["variant_id"])]
    page.get_by_label("Search").first.fill(f"{answers['relation'].iloc[0]} {answers['entity'].iloc[0]}")
    page.get_by_label("Search").first.press("Enter")
    page.wait_for_url("**find=**")
    screenshots.settle(page)
    told = cells_of(page)
    assert answers["predicted"].iloc[0] in told
    assert f" {answers['log_prob'].mean()} " in told
    others = set(variants["compression"]) - {"dense", setting["compression"]}
    assert not any(name in told for name in others)


def opens_a_head(page, run: Path, setting: dict) -> None:
    """Attention, a head that is not shown yet clicked: its number is the table's, and the page goes to it."""
    measured, variants = (reading.read_table(run, name) for name in ("attention", "variants"))
    first = f"{setting['compression']} + {setting['repair']}"
    own = variants[(variants["scope"] == "main") & (variants["variant"] == first)]
    measured = measured[measured["variant_id"].isin(own["variant_id"]) & (measured["metric"] == "jensen_shannon")]
    measured = measured[(measured["group"] == "questions") & (measured["reference"] == "dense")]
    heads = measured.groupby(["layer", "head"])["value"].mean()
    before = words_of(page)
    layer, head = next(one for one in reversed(heads.index) if "Layer {}, head {}:".format(*one) not in before)
    told = click_cell(page, layer, head)
    page.wait_for_url(re.compile("layer=|head="))
    screenshots.settle(page)
    assert f"Layer {layer}, head {head}:" in words_of(page)
    place, _, value = told.partition(": ")
    assert place == f"layer {layer}, head {head}"
    assert float(value) == pytest.approx(heads[layer, head], rel=0.005)


@pytest.mark.browser
@pytest.mark.slow
def test_a_study_from_the_form_to_its_answer_and_a_typed_text(walk, form):
    address, run, fresh, complaints = walk
    page = fresh()
    page.goto(f"{address}/new_study?from=run+{form.name}")
    screenshots.settle(page)
    page.get_by_label("Name", exact=True).fill("../mine")
    page.get_by_label("Name", exact=True).press("Enter")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("a study is called by letters").wait_for()
    page.get_by_label("Name", exact=True).fill("mine")
    page.get_by_label("Name", exact=True).press("Enter")
    page.get_by_label("Tuning steps").fill("3")
    page.get_by_label("Tuning steps").press("Enter")
    page.get_by_text("The study as YAML").click()
    page.get_by_text("steps: 3").first.wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="YAML").click()
    study = yaml.safe_load(download.value.path().read_text())
    assert (study["name"], study["tuning"]["steps"]) == ("mine", 3)
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text(re.compile(r"of \d+ cells")).wait_for(timeout=120_000)
    page.close()  # nothing is lost with it
    page = fresh()
    page.goto(f"{address}/new_study")
    page.get_by_text("See what it says").click(timeout=300_000)
    page.get_by_text("Is what compression damaged gone").wait_for()
    (folder,) = run.parent.glob("mine-*")
    screenshots.settle(page)
    assert "magnitude-60%" in words_of(page)
    goes_from_the_question_to_a_head(fresh, address, folder)
    sees_own_accuracies(page, address, folder)
    types_a_text(page, address, folder.name)
    assert complaints == []


@pytest.mark.browser
@pytest.mark.walk
@pytest.mark.timeout(2400)  # six minutes on two idle cores
def test_the_demo_is_walked_through(walk, demo):
    address, _, fresh, complaints = walk
    goes_from_the_question_to_a_head(fresh, address, demo)
    assert complaints == []


def sees_own_accuracies(page, address: str, folder) -> None:
    """The page's table of a run says what the run's own says, and hands it out."""
    page.goto(f"{address}/recovery?run={folder.name}")
    screenshots.settle(page)
    table = pd.read_parquet(folder / "recovery.parquet")
    rows = reading.recovery_rows(table, "main", "open", "candidates")
    told = cells_of(page)
    assert all(figure in told for figure in rows["accuracy, test"])
    with page.expect_download() as download:
        page.locator("[data-testid=stDownloadButton] button").first.click()
    got = pd.read_csv(download.value.path(), keep_default_na=False)
    own = table[(table["scope"] == "main") & (table["group"] == "open") & (table["reading"] == "candidates")]
    assert got["value"].to_numpy() == pytest.approx(own["value"].to_numpy())


def types_a_text(page, address: str, name: str) -> None:
    """Nothing is open until it is asked for; then every variant says what comes next."""
    page.goto(f"{address}/live?run={name}")
    screenshots.settle(page)
    assert "nothing is loaded before you ask" in words_of(page)
    page.get_by_text("See what opening them takes").click()
    page.get_by_role("button", name="Open them").click(timeout=120_000)
    page.get_by_label("Text", exact=True).fill("in the orchestra gideon ingram is heard on the")
    page.get_by_label("Text", exact=True).press("Enter")
    page.get_by_text("token by token").first.wait_for(timeout=120_000)
    screenshots.settle(page)
    assert page.locator("[data-testid=stException], [data-testid=stAlert]").count() == 0
    assert re.search(r"\w+ +-\d+\.\d\d", cells_of(page))


@pytest.mark.browser
def test_two_windows_do_not_disturb_each_other(walk):
    address, _, fresh, complaints = walk
    one, other = fresh(), fresh()
    one.goto(f"{address}/recovery?scope=locked")
    screenshots.settle(one)
    other.goto(f"{address}/recovery")
    screenshots.settle(other)
    assert "Scope main" in words_of(other)
    other.get_by_text("vocabulary", exact=True).click()
    other.wait_for_url("**reading=vocabulary**")
    screenshots.settle(other)
    one.reload()
    screenshots.settle(one)
    assert "Scope locked" in words_of(one)
    assert "reading=vocabulary" not in one.url
    assert complaints == []


@pytest.mark.browser
def test_every_page_opens_without_a_complaint_and_a_figure_leaves_with_its_data(walk):
    address, _, fresh, complaints = walk
    page = fresh()
    for name in addresses():
        page.goto(f"{address}/{name}")
        screenshots.settle(page)
        assert page.locator("[data-testid=stException]").count() == 0, name
        assert complaints == [], name
    page.goto(f"{address}/figures?figure=recovery&format=svg")
    screenshots.settle(page)
    page.get_by_text("Of", exact=True).first.wait_for()
    with page.expect_download(timeout=120_000) as download:
        page.get_by_role("button", name="This figure").click()
    drawing = download.value.path().read_text()
    assert drawing.startswith("<svg")
    assert "accuracy" in drawing
    with page.expect_download(timeout=120_000) as download:
        page.get_by_role("button", name="with data").click()
    with zipfile.ZipFile(download.value.path()) as bundle:
        names = bundle.namelist()
        table = next(name for name in names if name.endswith(".csv"))
        assert any(name.endswith(".svg") for name in names)
        assert "gptq-3bit" in bundle.read(table).decode()
    assert complaints == []


def cells_of(page) -> str:
    """What the page's tables say: they are drawn on a canvas, with their cells beside it for screen readers."""
    page.locator("[data-testid=stDataFrame] canvas").first.wait_for()
    return " ".join(page.locator("[data-testid=stDataFrame] [role=gridcell]").all_text_contents())


def words_of(page) -> str:
    """The page's words, less what a mark tells while it is pointed at: that can outlast the mouse on a busy machine."""
    page.evaluate("document.querySelectorAll('.hoverlayer').forEach(layer => layer.replaceChildren())")
    return re.sub(r"\s+", " ", page.locator("[data-testid=stMain]").inner_text())


def click_cell(page, layer: int, head: int) -> str:
    """Click the mark that lies on a cell of the first grid; gives what the mark tells before it is clicked."""
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
    told = page.locator(".js-plotly-plot").first.locator(".hoverlayer .hovertext").first.text_content()
    page.mouse.down()
    page.mouse.up()
    return told
