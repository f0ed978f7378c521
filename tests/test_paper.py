"""Figures and tables for a paper: what is written, what is left out and why, and marks that follow corrected tests."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from analysis import paper_files
from analysis.__main__ import app
from analysis.figures.doses import dose_figure
from analysis.figures.evidence import calibration_figure, claim_rows, forest_figure
from analysis.figures.recovery import recovery_figure
from analysis.figures.registry import figures
from analysis.figures.source import Source
from analysis.look import looks_of
from analysis.paper import drawn, figure_names, file_name
from analysis.paper_files import write_paper
from analysis.paper_style import NO_BROWSER, Style, browser_here, formats_of, printed, style_of
from analysis.paper_tables import PaperTable, paper_tables, significance
from analysis.saying import prediction_table
from data.errors import InputError
from tests.declared import write_table
from tests.drawable_runs import tasks_of, texts_of
from tests.stored_frames import recovery_frame
from tests.stored_runs import CLAIMS, SETTING, seeded_variants, write_run

ROOT = Path(__file__).parent.parent


@pytest.fixture
def run(tmp_path) -> Path:
    return write_run(tmp_path / "first")


def test_a_table_that_is_absent_leaves_its_figures_out_with_the_reason(run):
    found, left_out = drawn(Source(run))
    names = {one.name for one in found}
    assert {"recovery-main-facts", "drift-residual-questions", "account-settings", "evidence", "calibration"} <= names
    assert "parameters-facts" in names
    assert all(len(one.figure.data) for one in found)
    assert {one.split("-")[0] for one in names} & {"tasks", "transfer", "perplexity"} == set()
    assert "no table 'tasks'" in left_out["tasks"]
    assert "prompts of one length alone" in left_out["prompt-length"]
    assert "repairs first --latency" in left_out["latency"]
    accounted = set(left_out) | {one.name for one in figures() if any(name.startswith(one.name) for name in names)}
    assert accounted == {one.name for one in figures()}


def test_an_empty_table_is_never_drawn(run):
    empty = pd.read_parquet(run / "drift.parquet").iloc[:0]
    empty.to_parquet(run / "drift.parquet")
    found, left_out = drawn(Source(run), ("drift-residual",))
    assert not found
    assert "is empty" in left_out["drift-residual"]


def test_tasks_and_perplexity_are_drawn_and_tabled_where_the_run_has_them(run):
    variants = seeded_variants("main")
    write_table(run, "tasks", tasks_of(variants))
    write_table(run, "perplexity", texts_of(variants))
    source = Source(run)
    found, left_out = drawn(source, ("tasks", "perplexity"))
    assert not left_out
    scores, perplexity = (one.figure.data.set_index("variant") for one in found)
    assert set(scores.loc["gptq-3bit", "value"]) == {0.25}
    assert set(scores.loc["gptq-3bit + prompt-4", "value"]) == {0.75}
    assert set(scores["task"]) == {"arc", "sciq", "all tasks"}
    assert perplexity["perplexity"].to_list() == pytest.approx([20.0] * 2)
    assert perplexity.loc["gptq-3bit", "value"] == 0.25
    (table,), _ = paper_tables(source, ["tasks"])
    cells = table.cells.set_index("variant")["arc"]
    assert cells["gptq-3bit + prompt-4"].endswith("]*†")
    assert cells["gptq-3bit"].endswith("]*")
    assert cells["dense"].endswith("]")
    assert "perplexity, wikitext" in table.cells
    bold = dict(zip(table.cells["variant"], table.bold["arc"], strict=True))
    assert bold == {"dense": True, "gptq-3bit": False, "gptq-3bit + prompt-4": True}
    assert r"$^\dagger$" in table.latex()


def test_marks_follow_corrected_tests_and_bold_what_is_not_told_from_the_best():
    rng = np.random.default_rng(0)
    right = {"gptq": 20, "gptq + good": 55, "gptq + as good": 54, "gptq + nothing": 21}
    variants = pd.DataFrame({"variant_id": list(right), "variant": list(right), "compression": "gptq", "repair": ""})
    variants = variants.assign(kind="prompt", repair_seed=0.0, compression_seed=0.0)
    answers = pd.concat(
        pd.DataFrame({"variant_id": name, "entity": np.arange(60), "correct": rng.permutation(60) < count})
        for name, count in right.items()
    )
    found = significance(answers, variants)
    assert found.loc["gptq + good", "mark"] == "***"
    assert found.loc["gptq + nothing", "mark"] == ""
    assert list(found["best"]) == [False, True, True, False]
    assert np.isnan(found.loc["gptq", "p"])


def test_tables_are_valid_latex_and_markdown():
    cells = pd.DataFrame({"variant": ["gptq_3bit", "wanda-70%"], "accuracy": ["-.5 [-.6, .6]***", ".7 [.6, .8]"]})
    table = PaperTable("x", "n = 5 % of & all", cells, pd.DataFrame({"accuracy": [False, True]}), ["a", "b"])
    latex = table.latex()
    assert r"gptq\_3bit & $-$.5 [$-$.6, .6]*** \\" in latex
    assert r"wanda-70\% & \textbf{.7 [.6, .8]} \\" in latex
    assert latex.count(r"\midrule") == 2
    assert r"n = 5 \% of \& all" in latex
    assert "| wanda-70% | **.7 [.6, .8]** |" in table.markdown()
    assert r"[-.6, .6]\*\*\*" in table.markdown()


def scores_frame(rows: dict[tuple[str, str], float], steps: float = 0.0) -> pd.DataFrame:
    """Accuracy by compression and repair."""
    told = [{"compression": one, "repair": repair, "value": value} for (one, repair), value in rows.items()]
    table = pd.DataFrame(told).assign(steps=steps, n=40)
    return table.assign(lower=table["value"] - 0.1, upper=table["value"] + 0.1)


@pytest.fixture(autouse=True)
def _looks():
    """What the repairs that are drawn here are, as a run's table would say."""
    kinds = {"prompt-4-masked": "masked", "recalibrated": "recalibrated"}
    kinds |= dict.fromkeys(("prompt-4", "prompt-16", "prompt-16-30steps", "prompt-4-30steps"), "prompt")
    kinds |= dict.fromkeys(("placebo-4",), "placebo") | dict.fromkeys(("lora-r2", "lora-r8", "lora-r16"), "lora")
    kinds |= dict.fromkeys(("idp-2x8-attention", "idp-4x8-attention"), "idp")
    run = pd.DataFrame({"compression": "dense", "repair": list(kinds), "drawn_as": list(kinds.values())})
    with looks_of(run):
        yield


def test_lengths_are_drawn_only_where_there_are_several():
    rows = {("gptq", ""): 0.2, ("gptq", "prompt-4"): 0.5, ("gptq", "placebo-4"): 0.2, ("gptq", "prompt-4-masked"): 0.3}
    with pytest.raises(InputError, match="one length alone"):
        dose_figure(scores_frame(rows), "length", "facts")
    rows |= {("gptq", "prompt-16"): 0.6, ("gptq", "prompt-16-30steps"): 0.4}
    found = dose_figure(scores_frame(rows), "length", "facts").data
    assert list(found.loc[found["series"] == "prompt", "amount"]) == [4, 16]
    assert {"masked", "placebo"} <= set(found["series"])


@pytest.mark.parametrize(
    ("name", "amounts", "alone"),
    [
        ("prompts", {"idp-2x8-attention": 2, "idp-4x8-attention": 4}, "banks of one size"),
        ("rank", {"lora-r2": 2, "lora-r8": 8}, "adapters of one rank"),
    ],
)
def test_an_ablation_is_read_off_the_names_of_what_was_made(name, amounts, alone):
    rows = {("gptq", ""): 0.2, ("gptq", "prompt-4"): 0.5} | {("gptq", one): 0.6 for one in amounts}
    assert list(dose_figure(scores_frame(rows), name, "facts").data["amount"]) == list(amounts.values())
    with pytest.raises(InputError, match=alone):
        dose_figure(scores_frame(rows).iloc[:3], name, "facts")


def test_steps_are_those_made_and_damage_is_read_off_the_compression():
    table = scores_frame({("gptq", ""): 0.2, ("gptq", "prompt-4"): 0.5, ("gptq", "prompt-4-30steps"): 0.4}, 60.0)
    table.loc[table["repair"] == "", "steps"] = 0.0
    table.loc[table["repair"] == "prompt-4-30steps", "steps"] = 30.0
    found = dose_figure(table, "steps", "facts").data
    assert found[["series", "amount"]].to_numpy().tolist() == [["prompt-4", 30.0], ["prompt-4", 60.0]]
    rows = {(f"gptq-{bits}bit", repair): 0.1 * bits for bits in (2, 3) for repair in ("", "prompt-4")}
    rows |= {("sparsegpt-50%", ""): 0.3}
    found = dose_figure(scores_frame(rows), "damage", "facts").data
    assert set(found["panel"]) == {"gptq, bits"}
    assert set(found["series"]) == {"", "prompt-4"}
    assert sorted(set(found["amount"])) == [2.0, 3.0]


def test_the_forest_fills_what_rejects_and_claims_keep_the_papers_figure():
    figure = forest_figure(prediction_table([SETTING])).figure
    assert figure.data[0].x[0] == 0.41
    assert "open" not in figure.data[0].marker.symbol
    rows = claim_rows(CLAIMS)
    assert len(rows) == 1
    assert rows["paper_value"].iloc[0] == 0.0124


def test_the_committed_calibration_is_drawn_with_its_exact_intervals():
    summary, organisms = (
        pd.read_csv(ROOT / "data" / "calibration" / f"{name}.csv") for name in ("summary", "organisms")
    )
    figure = calibration_figure(summary, organisms).figure
    drawn_rates = sorted(rate for trace in figure.data if trace.error_x.array is not None for rate in trace.x)
    assert drawn_rates == pytest.approx(sorted(summary["rate"]))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: formats_of("pdf,docx"), "'docx'"),
        (lambda: formats_of(","), "no format"),
        (lambda: style_of("icmll", 8), "nearest: icml"),
        (lambda: style_of("90", 8), "inches wide"),
        (lambda: style_of("icml", 80), "font size 80"),
        (lambda: figure_names("recovry"), "nearest: recovery"),
    ],
)
def test_a_mistake_is_one_line(call, says):
    with pytest.raises(InputError, match=says):
        call()


def test_text_has_the_documents_size_at_any_width():
    found = recovery_figure(recovery_frame(), "main", "facts", "candidates")
    for style in (Style(3.25, 6.75, 8.0), Style(3.25, 6.75, 10.0)):
        figure = printed(found, style, wide=True)
        assert figure.layout.font.size * style.scale / 96 * 72 == pytest.approx(style.points)
        assert figure.layout.width * style.scale / 96 == pytest.approx(6.75)
        assert not figure.layout.title.text
    assert found.figure.layout.title.text  # the figure itself keeps its own


def test_without_a_browser_pages_and_data_are_written_all_the_same(run, monkeypatch):
    monkeypatch.setattr(paper_files, "browser_here", lambda: False)
    written = write_paper(Source(run), ("pdf",), Style(), ("evidence",))
    assert written.left_out == {"pdf": NO_BROWSER}
    assert {path.name for path in written.folder.iterdir()} == {
        *("evidence.csv", "evidence.html", "captions.md", "plotly.min.js"),
    }
    assert "https://" not in (written.folder / "evidence.html").read_text().split("<body>")[0]


@pytest.mark.browser
def test_every_figure_becomes_a_pdf_of_the_column_asked_for(run):
    if not browser_here():
        pytest.skip(NO_BROWSER)
    written = write_paper(Source(run), ("pdf", "svg"), style_of("icml", 8), ("evidence", "account"))
    assert len(written.figures) == 3
    for name in written.figures:
        pdf = (written.folder / f"{name}.pdf").read_bytes()
        assert pdf.startswith(b"%PDF")
        box = [float(one) for one in pdf.split(b"/MediaBox")[1].split(b"[")[1].split(b"]")[0].split()]
        assert box[2] / 72 == pytest.approx(6.75, abs=0.05)
        assert "svg" in (written.folder / f"{name}.svg").read_text()[:200]


def test_names_of_files_are_plain():
    assert file_name("interventions", "patching-gptq-2bit + prompt-8%") == "interventions-patching-gptq-2bit-prompt-8"


def test_the_command_says_what_it_wrote_and_what_not(run):
    asked = ["figures", str(run), "--format", "html", "--only"]
    done = CliRunner().invoke(app, [*asked, "evidence,transfer"])
    assert done.exit_code == 0, done.output
    assert "left out: transfer: " in done.output
    assert "1 figures" in done.output
    wrong = CliRunner().invoke(app, [*asked, "evidnce"])
    assert isinstance(wrong.exception, InputError)
    assert "nearest: evidence" in str(wrong.exception)
    sentence = CliRunner().invoke(app, ["compare", str(run), "dense", "gptq-3bit"]).output
    assert "first part at layer 0" in " ".join(sentence.split())
