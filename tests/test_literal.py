"""Names with marks of Markdown, HTML, LaTeX or plotly in them are shown as they are, by readers that are not ours."""

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from analysis.literal import SPLIT, code_for_page, for_latex, for_markdown, for_page, for_plotly, of_plotly

PIECES = (
    *(
        "$",
        "*",
        "**",
        "_",
        "__",
        "`",
        "```",
        "[",
        "]",
        "(",
        ")",
        "<",
        ">",
        "<b>",
        "</b>",
        "<br>",
        "&",
        "&amp;",
        "&#36;",
    ),
    *(
        "#",
        "1.",
        "23)",
        "-",
        "--",
        "---",
        "->",
        "<-",
        "<->",
        ">=",
        "<=",
        "~=",
        "~~",
        "|",
        ":",
        "::",
        ":red[",
        ":smile:",
    ),
    *(
        ":streamlit:",
        ":material/home:",
        "\\",
        "www.example.com",
        "http://x.y",
        "a@b.org",
        "![i](u)",
        "{",
        "}",
        "^",
        "=",
    ),
    *(
        "+",
        "!",
        "'",
        '"',
        "<!-- x -->",
        "~",
        "%",
        "%{x}",
        "2:4",
        "x_y",
        "P_7",
        "a",
        "b c",
        "é",
        "№5",
        "القاهرة",
        " ",
        "\t",
    ),
    *("\n", "\u00a0", "<script>alert(1)</script>", "[x](y)", "[^1]", ":100:", "R&D", "50%", "0"),
)
NAMES = st.one_of(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.text(max_size=12)).filter(
    lambda name: "\0" not in name and name.strip()
)
READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
AROUND = ("{}", "**{}**: x", "- {}", "1. x: {}.", "x {}, {}.", "## {}", "({})", "x: '{}'")
"""Where pages and reports put a name."""


def folded(name: str) -> str:
    return " ".join(name.split())


def read(text: str) -> str:
    """What a reader of Markdown shows of a text, with whatever is no text of its own."""
    return folded(
        html.unescape(re.sub(r"</?(p|strong|li|ul|ol|h2|table|thead|tbody|tr|th|td)>", "", READER.render(text)))
    )


def bare(around: str) -> str:
    """A surrounding as it is shown."""
    return re.sub(r"^(- |1\. |## )", "", around.replace("**", ""))


@given(NAMES, st.sampled_from(AROUND))
def test_markdown_shows_a_name_as_it_is(name, around):
    assert read(around.replace("{}", for_markdown(name))) == folded(bare(around).replace("{}", folded(name)))


@given(NAMES, NAMES)
def test_a_table_of_markdown_shows_names_as_they_are(one, other):
    first, second = (for_markdown(name, starts=False) for name in (one, other))
    shown = READER.render(f"| {first} | x |\n|---|---|\n| {second} | y |\n")
    cells = [html.unescape(cell) for cell in re.findall(r"<t[hd]>(.*?)</t[hd]>", shown)]
    assert cells == [folded(one), "x", folded(other), "y"]


@given(NAMES, st.sampled_from(AROUND))
def test_a_page_shows_a_name_as_it_is(name, around):
    text = around.replace("{}", for_page(name).replace(SPLIT, ""))
    assert read(text) == folded(bare(around).replace("{}", folded(name)))


@pytest.mark.parametrize("after", ["", " ", "x"])
@pytest.mark.parametrize("before", ["", " ", "x"])
def test_what_a_page_reads_beyond_markdown_finds_nothing_in_a_piece(before, after):
    for piece in PIECES:
        finds_nothing(f"{before}{piece}{after}")


@given(NAMES)
def test_what_a_page_reads_beyond_markdown_finds_nothing_in_a_name(name):
    finds_nothing(name)


def finds_nothing(name: str) -> None:
    """As Streamlit 1.67 has it: icons before anything is read; then signs, icons and addresses within what is left."""
    told = for_page(name)
    assert ":material/" not in told
    for text in re.split(re.escape(SPLIT), told):
        text = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)
        assert not re.search(r"(^|\s)(<->|->|<-|--|>=|<=|~=)(\s|$)", text)
        assert not re.search(r":streamlit:|:material_\w+:|:[\w+-]+:", text, re.ASCII)
        assert not re.search(r"(https?://|www\.)", text, re.IGNORECASE)
        assert not re.search(r"[-.\w+]+@[-\w]+\.[-\w]", text)


@given(NAMES)
def test_a_command_in_a_code_span_is_what_it_is(name):
    text = f"python -m analysis run {folded(name)}"
    if ":material/" in text:
        assert code_for_page(text) == for_page(text)
        return
    shown = READER.render(code_for_page(text)).strip()
    assert shown.startswith("<p><code>")
    assert html.unescape(shown.removeprefix("<p><code>").removesuffix("</code></p>")) == text


@given(NAMES, NAMES)
def test_plotly_shows_a_name_as_it_is(one, other):
    text = f"{for_plotly(one)}<br>{for_plotly(other)}"
    assert shown_by_plotly(text) == [one, other]
    assert of_plotly(for_plotly(one)) == one.replace("<br>", "<br>")


def shown_by_plotly(text: str) -> list[str]:
    """The lines that plotly.js draws of a text: no formula, no variable, its tags and its few entities."""
    assert not re.search(r"([^$]*)([$]+[^$]*[$]+)([^$]*)", text), "MathJax would draw it"
    assert not re.search(r"%\{[^}]*\}", text), "a variable would be put there"
    parts = re.split(r"(<[^<>]*>)", text)
    assert [part for part in parts if re.match(r"<(br|b|i|em|a|s|sub|sup|u|span)\b", part, re.IGNORECASE)] == ["<br>"]
    known = {"amp": "&", "lt": "<", "gt": ">", "nbsp": "\u00a0", "times": "×", "plusmn": "±", "deg": "°", "mu": "μ"}

    def entity(found: re.Match[str]) -> str:
        name = found[1]
        if name.startswith("#"):
            return chr(int(name[2:], 16) if name[1] in "xX" else int(name[1:]))
        return known.get(name, found[0])

    return [re.sub(r"&(#\d+|#[xX][\da-fA-F]+|[a-z]+);", entity, part) for part in re.split("<br>", text)]


@given(NAMES)
def test_latex_finds_no_command_in_a_name(name):
    told = for_latex(name)
    assert undone(told) == name.replace("–", "--").replace("†", "†")


def undone(told: str) -> str:
    """What LaTeX sets of a text: every command that is written here by what it prints; none else may stand in it."""
    prints = {"textbackslash{}": "\\", "textasciitilde{}": "~", "textasciicircum{}": "^", "textbar{}": "|"}
    prints |= {"textasciigrave{}": "`", "dagger$": "†"} | {mark: mark for mark in "%_&#${}"}
    out, place = [], 0
    while place < len(told):
        if told[place] == "\\":
            command = next(name for name in sorted(prints, key=len, reverse=True) if told.startswith(name, place + 1))
            out.append(prints[command])
            place += 1 + len(command)
        elif found := re.match(r"\$(<|>|-|\^\\dagger)\$", told[place:]):
            out.append({"^\\dagger": "†"}.get(found[1], found[1]))
            place += found.end()
        elif told.startswith("{}", place):
            place += 2
        else:
            assert told[place] not in "%_&#${}~^"
            out.append(told[place])
            place += 1
    return "".join(out)
