"""The pages of claims and of figures, and the report in HTML: numbers of the tables, what is absent in words."""

import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from analysis.paper import Source, drawn
from analysis.paper_files import bundle_bytes
from analysis.paper_style import Style
from analysis.report_page import write_report_page
from tests.opened_pages import PAGES, ROOT, opened, words_of
from tests.stored_runs import write_run


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    folder = write_run(tmp_path / "runs" / "first")
    monkeypatch.setenv("PALIMPSEST_RUNS", str(folder.parent))
    return folder


def test_every_claim_stands_with_its_figure_and_interval_measured_or_not(run):
    page = opened("claims")
    assert not page.exception
    table = page.dataframe[0].value.set_index("claim")
    assert list(table.loc["IDP gains", ["paper", "ours"]]) == ["+1.24 %", "0.100 [-0.100, 0.300]"]
    assert table.loc["IDP is faster", "setting"] == "not measured in this run"
    told = page.table[0].value["this run"]
    assert told["IDP gains"] == "accuracy: 0.100; interval above zero in 0, below in 0"
    assert told["IDP is faster"] == "not measured in this run"
    assert len(page.get("plotly_chart")) == 1


@pytest.mark.parametrize("figure", ["recovery", "evidence", "claims", "transfer", "attention-maps", "drift-attention"])
def test_every_figure_opens_by_a_link_or_says_why_not(run, figure):
    page = opened("figures", figure=figure, width="icml", points="9", format="html")
    assert not page.exception
    found, _ = drawn(Source(run), (figure,))
    assert len(page.get("plotly_chart")) == (1 if found else 0)
    if found:
        assert page.selectbox(key="width").value == "icml"
        assert "text of 9 points" in words_of(page)
        assert len(page.get("download_button")) == 3
    else:
        assert f"has no figure '{figure}'" in page.warning[0].value


def test_a_bundle_holds_each_figure_with_its_data(run):
    found, _ = drawn(Source(run), ("account",))
    held = zipfile.ZipFile(io.BytesIO(bundle_bytes(found, "html", Style())))
    assert sorted(held.namelist()) == sorted(f"{one.name}.{end}" for one in found for end in ("html", "csv"))
    rows = pd.read_csv(held.open("account-settings.csv"))
    assert list(rows["value"]) == list(found[0].figure.data["value"])


def test_no_model_library_is_loaded_by_any_page(run):
    script = (
        "import sys; from streamlit.testing.v1 import AppTest; from analysis.pages import serving; serving.warm()\n"
        "page = AppTest.from_file('analysis/pages/frame.py', default_timeout=60)\n"
        "page.run(); shown = []\n"
        f"for one in {(*PAGES, 'claims', 'figures')!r}:\n"
        "    page.switch_page(f'{one}.py').run()\n"
        "    assert not page.exception, page.exception\n"
        "    shown += [one] if page.get('plotly_chart') else []\n"
        "assert {'recovery', 'claims', 'figures'} <= set(shown), shown\n"
        "print(sorted({'torch', 'transformers', 'peft', 'lm_eval'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_report_is_one_page_that_needs_no_network(run):
    (run / "report.md").write_text("# A study\n\n| a | b |\n|---|---|\n| <script>x</script> | 2 |\n")
    page = write_report_page(run).read_text()
    assert "<h1>A study</h1>" in page
    assert "<td>2</td>" in page
    assert "<script>x</script>" not in page
    assert page.count("plotly-graph-div") >= 6
    assert page == write_report_page(run).read_text()
    assert not re.search(r"<(?:script|link)[^>]+(?:src|href)=", page)
