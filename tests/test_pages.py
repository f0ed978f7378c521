"""Every page of the list opens and reads the tables and boxes that it names; one more is a file and an entry."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Block, DownloadButton, Element

from analysis.pages import catalogue
from analysis.pages.catalogue import ANSWER, SIDE, Page, addresses, page_of, pages, registered, sections
from analysis.pages.shared import View
from data.errors import InputError
from tests.opened_pages import ROOT, errors_of, opened, words_of
from tests.stored_runs import CLAIMS, write_run

EVERY = pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
OTHER = {"scope": "locked", "compression": "wanda-70%", "repair": "lora-r2", "seed": "1", "reading": "vocabulary"}
"""For every box at the side a choice that the run made by hand does not open with."""


def test_each_file_is_named_by_the_list_and_each_entry_has_its_file():
    files = Path(catalogue.__file__).parent.glob("*.py")
    assert {path.stem for path in files if "\nst.title(" in path.read_text()} == {page.name for page in pages()}
    titles = [page.title for page in pages()]
    assert len(set(titles)) == len(titles)
    assert all(page.icon.replace("_", "").islower() for page in pages())
    assert all(set(page.boxes) <= set(SIDE) for page in pages())
    assert set(SIDE) <= set(View.__dataclass_fields__) | {"compression", "repair"}


def test_addresses_and_sections_follow_the_order_of_the_list():
    assert addresses()[0] == ""
    assert addresses()[1:] == tuple(page.name for page in pages())[1:]
    assert list(itertools.chain(*sections().values())) == sorted(
        pages(), key=lambda page: list(sections()).index(page.section)
    )


def test_the_readme_names_every_page():
    told = (
        (ROOT / "README.md")
        .read_text(encoding="utf-8")
        .partition("## A tour of the workbench")[2]
        .partition("\n## ")[0]
    )
    assert [page.title for page in pages() if f"*{page.title}*" not in told] == []


def test_an_unknown_page_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"no page is called 'recovry'; nearest: recovery"):
        page_of("recovry")


def shown(app: AppTest) -> list[str]:
    """Everything that stands on a page, the side apart; a button to take rows away has another number every time."""
    assert not app.exception
    return [str(part.proto) for part in parts(app.main) if not isinstance(part, DownloadButton)]


def parts(block: Block) -> Iterator[Element]:
    for child in block.children.values():
        if isinstance(child, Block):
            yield from parts(child)
        else:
            yield child


@EVERY
def test_a_page_opens_and_draws_charts_where_it_says_so(page, root):
    verdict = root / "first" / "verdict.json"
    verdict.write_text(json.dumps(json.loads(verdict.read_text()) | {"claims": CLAIMS}))
    app = opened(page.name)
    assert errors_of(app) == []
    assert bool(app.get("plotly_chart")) == page.charts
    assert app.title


@EVERY
def test_a_box_that_a_page_does_not_read_changes_nothing_and_is_said_at_the_side(page, root):
    opened(page.name)  # what is drawn for the first time says so
    first = opened(page.name)
    told = " ".join(one.value for one in first.sidebar.caption)
    assert ("Not used on this page" in told) == bool(page.unread)
    assert all(words in told for words in page.unread)
    others = {box: choice for box, choice in OTHER.items() if box not in page.boxes}
    assert shown(opened(page.name, **others)) == shown(first)
    if page.charts and page.boxes:  # what a page without charts shows may be called alike under another choice
        assert shown(opened(page.name, **{box: OTHER[box] for box in page.boxes})) != shown(first)


@EVERY
def test_a_table_that_a_page_names_is_missed_and_no_other_is(page, root):
    write_run(root / "second")
    stored = {path.stem: path for path in (root / "first").glob("*.parquet") if path.stem != "variants"}
    assert set(page.tables) <= set(stored)
    for table, path in stored.items():
        hidden = path.rename(path.with_suffix(".hidden"))
        st.cache_resource.clear()  # a run's tables do not change while its manifest stays
        st.cache_data.clear()
        app = opened(page.name, run="first")
        hidden.rename(path)
        told = [one.value for one in [*app.error, *app.warning]]
        assert not app.exception
        assert any(f"table '{table}'" in one for one in told) == (table in page.tables), (table, told)


# A page of the test's own: how much higher than chance the variants of the scope answer.

TOY = '''
"""Toy: mean accuracy on test subjects."""

import streamlit as st

from analysis.pages.shared import panel, view


@panel
def show_mean(now):
    rows = now.kept(now.table("recovery")).query("measure == 'accuracy' and split == 'test'")
    rows = rows[rows["reading"] == now.reading]
    st.metric("Mean accuracy", f"{rows['value'].mean():.4f}")


now = view()
st.title("How right is all of it?")
show_mean(now)
'''


@pytest.fixture
def toy(tmp_path) -> Iterator[Page]:
    (tmp_path / "toy.py").write_text(TOY)
    entry = Page(
        name="toy",
        title="Toy",
        icon="toys",
        section=ANSWER,
        tables=("recovery",),
        boxes=("scope", "compression", "repair", "reading"),
        folder=str(tmp_path),
    )
    with registered(entry):
        yield entry
    with pytest.raises(InputError, match="'toy'"):
        page_of("toy")


@pytest.mark.parametrize("choice", [{}, {"compression": "wanda-70%"}, {"scope": "locked", "reading": "vocabulary"}])
def test_one_more_page_stands_in_its_section_and_shows_its_number(toy, root, choice):
    assert sections()[ANSWER][-1] == toy
    assert addresses()[-1] == "toy"
    app = opened("toy", run="first", **choice)
    assert errors_of(app) == []
    assert "How right is all of it?" in words_of(app)
    table = pd.read_parquet(root / "first" / "recovery.parquet")
    scope, reading = choice.get("scope", "main"), choice.get("reading", "candidates")
    kept = [
        row.value
        for row in table.itertuples()
        if (row.scope, row.reading, row.measure, row.split) == (scope, reading, "accuracy", "test")
        and row.compression == choice.get("compression", row.compression)
    ]
    assert len(kept) > 3
    assert app.metric[0].value == f"{sum(kept) / len(kept):.4f}"
    assert "Not used on this page: seed." in [one.value for one in app.sidebar.caption]
    (root / "first" / "recovery.parquet").unlink()
    st.cache_resource.clear()
    assert "no table 'recovery'" in opened("toy", run="first").warning[0].value


def test_no_page_stands_twice(toy):
    with pytest.raises(ValueError, match="a page 'toy' already"), registered(toy):
        pass
