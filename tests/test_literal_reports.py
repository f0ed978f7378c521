"""Reports, tables and names of files of a run whose names are full of marks: each name as it is, or made safe."""

import html
import io
import json
import re

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from analysis import paper_tables
from analysis.paper import Source, drawn, file_name, untaken
from analysis.paper_files import caption_of
from analysis.paper_tables import PaperTable
from analysis.repair_report import show_rows
from analysis.report import show_verdict
from analysis.report_markdown import markdown
from tests.literal_runs import NAMES, NOTE, TOLD, write_literal_run

READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
COMPRESSION, REPAIR = NAMES["gptq-3bit"], NAMES["prompt-4"]


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


def verdict_of(run) -> dict:
    stored = json.loads((run / "verdict.json").read_text())
    settings = [one | {"reasons": [f"of {COMPRESSION}"], "further_predictions": []} for one in stored["settings"]]
    claim = {"claim": f"{REPAIR} helps", "paper": "<i>1</i>", "ours": "| $1$", "measured": [{}]}
    return stored | {"settings": settings, "controls": [], "claims": [claim], "reinjections": []}


def test_the_report_shows_names_as_they_are(tmp_path):
    text = markdown(verdict_of(write_literal_run(tmp_path)), NOTE, TOLD["title"])
    shown = READER.render(text)
    said = " ".join(html.unescape(re.sub("<[^<>]+>", " ", shown)).split())
    pair = f"{COMPRESSION} + {REPAIR}"
    for name in (TOLD["title"], f"Note: {NOTE}.", f"main: {pair}", f"{pair}: of {COMPRESSION}", f"{REPAIR} helps"):
        assert " ".join(name.split()) in said
    assert "<i>1</i>" in said
    assert "| $1$" in said
    marked = {*re.findall(r"<(\w+)", shown)}
    assert marked <= {"h1", "h2", "p", "ul", "li", "em", "table", "thead", "tbody", "tr", "th", "td"}


def test_a_table_for_a_paper_shows_names_as_they_are():
    cells = pd.DataFrame(
        {"variant": [COMPRESSION, "[x] 5 %", "* y"], NAMES["turin"]: [".71 [.66, .76]*", "-.10", REPAIR]}
    )
    table = PaperTable(
        "t", f"On {NAMES['facts']}, p < .05.", cells, pd.DataFrame({"variant": [True, False, False]}), [""] * 3
    )
    shown = READER.render(table.markdown())
    read = [html.unescape(re.sub("</?strong>", "", cell)) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", shown)]
    assert read == [*cells.columns, *cells.to_numpy().ravel()]
    assert html.unescape(re.findall("<p>(.*?)</p>", shown)[-1]) == f"On {NAMES['facts']}, p < .05."
    rows = table.latex().splitlines()
    assert r"\textbf{\$gzq\_3\$ $<$b$>$q*$<$/b$>$ :red[x]} & .71 [.66, .76]* \\" in rows
    assert r"{}[x] 5 \% & $-$.10 \\" in rows  # after the end of a row a bracket would be its argument
    assert r"{}* y & [pzq](y) \textasciigrave{}w\textasciigrave{} -$>$ \&amp; \\" in rows


def test_a_caption_of_a_figure_shows_names_as_they_are(tmp_path):
    found, left_out = drawn(Source(write_literal_run(tmp_path)), ("recovery",))
    assert not left_out
    shown = READER.render(caption_of(found[0]))
    assert f"group {NAMES['facts']}, best of" in html.unescape(shown)
    assert set(re.findall(r"<(\w+)", shown)) == {"p", "strong"}


def test_a_terminal_shows_names_as_they_are(tmp_path):
    run, told = write_literal_run(tmp_path), io.StringIO()
    bold = verdict_of(run)
    for one in bold["settings"]:
        one["repair"] = "[bold]x[/bold] [/]"
    show_verdict(Console(file=told, width=300), bold | {"predictions_sha": None})
    show_rows(Console(file=told, width=300), "[red]of[/]", pd.DataFrame({"[i]a": ["[/u]"]}), False)
    for name in (f"{COMPRESSION} + [bold]x[/bold] [/]", "[red]of[/]", "[i]a", "[/u]"):
        assert squeezed(name) in squeezed(told.getvalue())


@pytest.mark.parametrize("group", ["a/b", "../../x", "ü" * 300, "x" * 5000, "", "?*:", "a\0b"])
def test_a_group_never_leads_out_of_the_folder_of_figures(group, tmp_path):
    name = file_name("recovery-main", group)
    (tmp_path / f"table-{name}.csv").write_text("")
    assert [one.name for one in tmp_path.iterdir()] == [f"table-{name}.csv"]
    assert name.startswith("recovery-main")


def test_two_groups_of_the_same_letters_have_a_file_each(tmp_path, monkeypatch):
    assert file_name("a", "x" * 300) != file_name("a", "x" * 301)
    assert [untaken("a", taken) for taken in ((), {"a"}, {"a", "a-2"})] == ["a", "a-2", "a-3"]
    tables = [
        PaperTable(f"recovery-{group}", "", pd.DataFrame(), pd.DataFrame(), []) for group in ("A/b", "a b", "a.b")
    ]
    monkeypatch.setattr(paper_tables, "TABLES", {"recovery": lambda source: tables})
    found, _ = paper_tables.paper_tables(Source(tmp_path))
    assert [one.name for one in found] == ["recovery-a-b", "recovery-a-b-2", "recovery-a-b-3"]
