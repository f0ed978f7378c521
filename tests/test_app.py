"""The workbench on a tiny stored run: no model is loaded, a link restores its view, and no path leaves the root."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from analysis.reading import chance_of, compact, list_runs, read_manifest, run_below, sentence_of
from data.errors import InputError
from tests.test_figures import attention_frame, drift_frame, recovery_frame, variants_frame

ROOT = Path(__file__).parent.parent
CHROMIUM_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
BITS = {"estimate": 0.5, "lower": 0.2, "upper": 0.8}
SETTING = {
    "model": "tiny",
    "scope": "main",
    "compression": "gptq-3bit",
    "repair": "prompt-4",
    "decision": "displaced",
    "redirected_bits": BITS,
    "relearned_bits": BITS,
    "predictions": [{"name": "beyond recalibration", "p_corrected": 0.004}],
    "reasons": [],
}


def answers_frame() -> pd.DataFrame:
    """Two lists: capitals of four answers, colours of two."""
    lists = {"capital": ["oslo", "paris", "turin", "bergen"], "colour": ["red", "blue"]}
    rows = [
        {"item": f"{relation}/{answer}", "group": "facts", "split": "test", "relation": relation}
        | {"answer": answer, "predicted": words[(place + 1) % len(words)], "reading": "candidates"}
        for relation, words in lists.items()
        for place, answer in enumerate(words)
    ]
    return pd.DataFrame(rows)


def write_run(folder: Path, *, controls: bool = True) -> Path:
    """A run's folder with the tables that the pages read; a real model's has no controls."""
    folder.mkdir(parents=True)
    scopes = [("main", "facts"), ("locked", "locked")] if controls else [("main", "facts")]
    variants = [variants_frame(scope).assign(variant_id=lambda t, s=scope: s + t["variant_id"]) for scope, _ in scopes]
    tables = {
        "variants": pd.concat(variants),
        "recovery": pd.concat([recovery_frame(*scope) for scope in scopes]),
        "drift": pd.concat(map(drift_frame, variants)),
        "attention": pd.concat(map(attention_frame, variants)),
        "answers": answers_frame(),
    }
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)
    verdict = {"settings": [SETTING], "controls": [SETTING | {"scope": "locked"}] if controls else []}
    (folder / "verdict.json").write_text(json.dumps(verdict))
    study = {"name": folder.name, "title": "", "model": "tiny", "text": "hand", "reported": ["prompt-8"]}
    manifest = {"schema": 1, "study": study, "seeds": [0, 1], "note": "dense is a dequantised file"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    runs = tmp_path / "runs"
    write_run(runs / "first")
    monkeypatch.setenv("PALIMPSEST_RUNS", str(runs))
    return runs


def opened(**link: str) -> AppTest:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    for name, value in link.items():
        page.query_params[name] = value
    return page.run()


def words_of(page: AppTest) -> str:
    return " ".join(one.value for one in [*page.markdown, *page.caption, *page.title, *page.subheader])


def test_the_page_opens_with_verdict_table_and_charts(root):
    page = opened()
    assert not page.exception
    assert not page.error
    said = words_of(page)
    assert "Study first" in said
    assert "dequantised" in said
    assert "knowledge came back for subjects the repair never saw" in said
    assert "Controls" in said
    assert "erased" not in said
    table = page.dataframe[0].value
    assert "gptq-3bit + placebo-4" in set(table["variant"])
    assert {"accuracy, tune", "accuracy, test", "bits, tune", "bits, test", "replicates"} <= set(table.columns)
    assert len(page.get("plotly_chart")) == 3


def test_a_run_without_controls_opens(root):
    write_run(root / "real", controls=False)
    page = opened(run="real")
    assert not page.exception
    assert page.selectbox(key="run").value == "real"
    assert "Controls" not in words_of(page)


def test_a_link_restores_its_view(root):
    write_run(root / "second")
    link = {"run": "first", "scope": "locked", "reading": "vocabulary", "site": "mlp_out", "metric": "relative_l2"}
    link |= {"variant": "wanda-70% + lora-r2", "attention_metric": "prompt_mass"}
    page = opened(**link)
    assert not page.exception
    state = {name: page.session_state[name] for name in link}
    assert state == link


def test_a_choice_changes_the_table(root):
    page = opened()
    page.segmented_control(key="scope").set_value("locked").run()
    assert not page.exception
    assert "Scope locked, group locked" in words_of(page)


def test_values_that_do_not_exist_fall_back(root):
    page = opened(run="../../etc", scope="nowhere", metric="none", variant="x")
    assert not page.exception
    assert page.selectbox(key="run").value == "first"
    assert page.session_state["scope"] == "main"


def test_a_scope_of_another_run_is_given_up(root):
    write_run(root / "real", controls=False)
    page = opened(run="first", scope="locked")
    page.selectbox(key="run").set_value("real").run()
    assert not page.exception
    assert page.session_state["scope"] == "main"


def test_no_runs_gives_a_hint(tmp_path, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_RUNS", str(tmp_path / "none"))
    page = opened()
    assert not page.exception
    assert page.code[0].value == "make demo"
    assert not page.dataframe


def test_a_damaged_run_is_one_sentence(root):
    (root / "first" / "drift.parquet").write_bytes(b"not a table")
    page = opened()
    assert not page.exception
    assert "drift.parquet" in page.error[0].value
    (root / "first" / "manifest.json").write_text("{")
    assert "manifest.json" in opened().error[0].value


def test_no_path_leaves_the_root(root, tmp_path):
    outside = write_run(tmp_path / "outside")
    (root / "linked").symlink_to(outside)
    write_run(root / "deep" / "inner")
    assert list_runs(root) == ["first"]
    for name in ("../outside", str(outside), "linked", "deep/inner", "deep", "..", ".", ""):
        with pytest.raises(InputError, match="no finished run"):
            run_below(root, name)
    assert run_below(root, "first") == root / "first"


def test_another_schema_is_refused(root):
    (root / "first" / "manifest.json").write_text('{"schema": 2}')
    with pytest.raises(InputError, match="schema 2"):
        read_manifest(root / "first")


def test_no_model_library_is_loaded(root):
    script = (
        "import sys; from streamlit.testing.v1 import AppTest; page = AppTest.from_file('app.py', default_timeout=60)"
        ".run(); assert not page.exception, page.exception; assert page.dataframe;"
        "print(sorted({'torch', 'transformers', 'probes'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_chance_is_read_off_the_lists():
    assert chance_of(answers_frame(), "facts") == pytest.approx((4 * 1 / 4 + 2 * 1 / 2) / 6)
    assert chance_of(answers_frame(), "nobody") is None


def test_figures_in_few_characters():
    assert compact(0.714, -0.001, 1.0) == ".71 [.00, 1.00]"


@pytest.mark.parametrize("decision", ["displaced", "relearned", "re-injected", "unreached", "undecided"])
def test_every_decision_has_its_sentence(decision):
    said = sentence_of(SETTING | {"decision": decision, "reasons": ["two seeds"]})
    assert len(said) > 20
    assert "erased" not in said


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@pytest.fixture
def address(root, tmp_path):
    """The workbench, served as a user would serve it."""
    port = _free_port()
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=dict(os.environ))
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=2)
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        else:
            pytest.fail(f"the server did not start: {(tmp_path / 'server.log').read_text()}")
        yield f"http://localhost:{port}"
    finally:
        server.terminate()
        server.wait(timeout=20)


@pytest.mark.browser
def test_a_browser_shows_the_table_and_the_charts(address, tmp_path):
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next((found for name in names if (found := shutil.which(name))), None)
    if executable is None:
        pytest.skip("no Chromium on this machine: looked for chromium, chromium-browser, google-chrome")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGS)
        page = browser.new_page(viewport={"width": 1400, "height": 3600})
        page.goto(f"{address}/?reading=vocabulary")
        page.locator(".js-plotly-plot .heatmaplayer image").first.wait_for(timeout=90_000)
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        assert page.locator("[data-testid=stDataFrame] canvas").count() >= 1
        assert page.locator(".js-plotly-plot").count() == 3
        assert page.locator(".js-plotly-plot .scatterlayer .trace").count() > 20
        assert page.locator("[data-testid=stException], [data-testid=stAlert]").count() == 0
        assert "reading=vocabulary" in page.url
        assert "scope" not in page.url
        page.get_by_role("radio", name="locked").click()
        page.wait_for_url("**scope=locked**", timeout=30_000)
        browser.close()
    assert (tmp_path / "page.png").stat().st_size > 10_000
