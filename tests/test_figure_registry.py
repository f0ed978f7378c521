"""Every figure of the list is drawn from the tables that it names, and one more is a file and a line."""

import json
import re
import zipfile
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest

from analysis import figures as home
from analysis.figures.entry import Drawn, RunFigure
from analysis.figures.figure import Figure
from analysis.figures.registry import figure_of, figures, registered
from analysis.figures.source import Source
from analysis.look import dress
from analysis.paper import drawn, figure_names
from analysis.paper_files import bundle_bytes, write_paper
from analysis.paper_style import Style
from analysis.report_page import write_report_page
from analysis.schema.registry import TABLES
from data.errors import InputError
from tests.drawable_runs import write_drawable
from tests.opened_pages import errors_of, opened

EVERY = pytest.mark.parametrize("name", [one.name for one in figures()])


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_drawable(tmp_path_factory.mktemp("drawable") / "first")


@dataclass(frozen=True)
class Read(Source):
    """Notes which tables are read."""

    names: set[str] = field(default_factory=set)

    def rows(self, name: str, columns: list[str] | None = None) -> pd.DataFrame:
        """As a source reads them."""
        self.names.add(name)
        return super().rows(name, columns)


def test_each_file_of_figures_is_in_the_list_and_each_entry_is_whole():
    every = [one.name for one in figures()]
    assert len(set(every)) == len(every)
    source = Path(home.__path__[0], "registry.py").read_text()
    files = [
        path
        for path in Path(home.__path__[0]).glob("*.py")
        if re.search(r"^[A-Z_]+ = RunFigure\(", path.read_text(), re.M)
    ]
    assert all(f"{path.stem}." in source for path in files)
    for one in figures():
        assert re.fullmatch(r"[a-z][^.?!]*\?", one.question), "one sentence, as the page shows it behind the name"
        assert {*one.tables, *one.also} <= {table.name for table in TABLES.every()}
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", one.name)
        assert not set(one.tables) & set(one.also)
    assert any(one.in_report for one in figures())


@EVERY
def test_a_figure_is_drawn_with_its_data_and_its_file(name, run):
    one = figure_of(name)
    found, left_out = drawn(Source(run), [name])
    assert not left_out
    assert ([part.name for part in found] == [name]) == (not one.each)
    for part in found:
        assert part.name == name or part.name.startswith(f"{name}-")
        assert len(part.figure.data)
        assert part.figure.figure.layout.title.text
        assert go.Figure(json.loads(part.figure.figure.to_json())).data
        assert one.narrow or part.wide
    with zipfile.ZipFile(BytesIO(bundle_bytes(found, "html", Style()))) as bundle:
        assert bundle.namelist() == [f"{part.name}.{kind}" for part in found for kind in ("html", "csv")]
        stored = pd.read_csv(bundle.open(f"{found[0].name}.csv"))
    assert len(stored) == len(found[0].figure.data)


@EVERY
def test_a_figure_reads_the_tables_that_it_names_and_no_other(name, run):
    one = figure_of(name)
    source = Read(run)
    for _ in one.draw(source):
        pass
    assert set(one.tables) <= source.names <= {*one.tables, *one.also}


@EVERY
def test_a_figure_whose_table_is_absent_or_empty_is_left_out_with_its_reason(name, run, tmp_path):
    for table in figure_of(name).tables:
        for absent in (True, False):
            folder = write_links(run, tmp_path / f"{table}-{absent}", table)
            if not absent:
                whole = pd.read_parquet(run / f"{table}.parquet")
                whole.iloc[:0].to_parquet(folder / f"{table}.parquet", index=False)
            found, left_out = drawn(Source(folder), [name])
            assert not found
            assert f"table '{table}'" in left_out[name]


def write_links(run: Path, folder: Path, but: str) -> Path:
    """A run of the same files but for one table."""
    folder.mkdir()
    for path in run.iterdir():
        if path.name != f"{but}.parquet":
            (folder / path.name).symlink_to(path)
    return folder


def test_an_unknown_figure_is_refused_with_the_nearest():
    assert figure_names("claims, lens") == ("claims", "lens")
    with pytest.raises(InputError, match="no figure is called 'clams'; nearest: claims"):
        figure_names("claims, clams")


# A figure of the test's own: mean accuracy on test subjects, a bar per compression and a file per scope.


def bars(source: Source) -> Drawn:
    recovery = source.table("recovery")
    part = recovery[(recovery["measure"] == "accuracy") & (recovery["split"] == "test")]
    for scope, rows in part.groupby("scope", sort=False):
        data = rows.groupby("compression", as_index=False)["value"].mean()
        figure = go.Figure(go.Bar(x=data["compression"], y=data["value"]))
        dress(figure, title="Mean accuracy", subtitle=f"scope {scope}", height=300)
        yield str(scope), Figure(figure, data)


@pytest.fixture
def toy():
    entry = RunFigure(
        name="mean-accuracy",
        question="how right is each compression?",
        draw=bars,
        tables=("recovery",),
        each="scope",
        narrow=True,
        in_report=True,
    )
    with registered(entry):
        yield entry
    with pytest.raises(InputError, match="mean-accuracy"):
        figure_of("mean-accuracy")


def test_one_more_figure_goes_from_a_finished_run_to_its_files_the_report_and_the_page(toy, root):
    run = root / "first"
    written = write_paper(Source(run), ("html",), Style(), figure_names("mean-accuracy"))
    assert written.figures == ("mean-accuracy-main", "mean-accuracy-locked")
    stored = pd.read_csv(written.folder / "mean-accuracy-main.csv").set_index("compression")["value"]
    rows = [
        one
        for one in pd.read_parquet(run / "recovery.parquet").itertuples()
        if (one.scope, one.measure, one.split) == ("main", "accuracy", "test")
    ]
    for compression in {one.compression for one in rows}:
        own = [one.value for one in rows if one.compression == compression]
        assert stored[compression] == pytest.approx(sum(own) / len(own))
    (run / "report.md").write_text("# A run\n")
    assert 'id="mean-accuracy-main"' in write_report_page(run).read_text()
    page = opened("figures", run="first", figure="mean-accuracy")
    assert errors_of(page) == []
    assert "mean-accuracy" in page.selectbox(key="figure").options
    assert page.get("plotly_chart")
    box = page.selectbox(key="of_mean_accuracy")
    assert (box.options, box.help) == (list(written.figures), "One for each scope")
    with pytest.raises(ValueError, match="a figure 'mean-accuracy' already"), registered(toy):
        pass
