"""Names that people typed, shown as they are where a text is read for more: Markdown, pages, plotly, LaTeX.

A name may hold anything: `$P_7$`, `<b>`, `:red[x]`. Whatever puts one into a text of these kinds calls the function of
that kind, on the name alone or on a text that holds no markup of its own.
"""

import re
from collections.abc import Collection

MARKDOWN = re.compile(r"[\\`*$~|]|<(?=[A-Za-z/!?])|\](?=[(\[:])|&(?=[#\w])|(?<![^\W_])_|_(?![^\W_])")
"""What Markdown takes for more than itself; an underscore within a word is none, nor a bracket without a target."""
OPENING = re.compile(r"(?:[\[#+\->=:]|\d+[.)])")
"""What makes a heading, a list, a box, a quotation or a rule of a line that begins so: its last sign does."""
PAGE = re.compile(r"[<\[\]]|:(?=[\w+:-])|(?<=:material)/")
"""What a page takes for more besides: colours, icons, buttons, and whatever it may come to read."""
SPLIT = ":small[]"
"""Nothing, as a page shows it; what stands on its two sides is not read together."""
TOGETHER = re.compile(
    r"(?<=:)(?=[\w+-]+:)"  # :smile:, :streamlit:, :material_home:
    r"|(?<=(?<!\S)<)(?=->(?!\S))|(?<=(?<!\S)<-)(?=>(?!\S))"  # <->
    r"|(?<=(?<!\S)-)(?=[->](?!\S))|(?<=(?<!\S)<)(?=[-=](?!\S))|(?<=(?<!\S)[>~])(?==(?!\S))"  # ->, --, <-, <=, >=, ~=
    r"|(?<=www)(?=\.)|(?<=http)(?=://)|(?<=https)(?=://)|(?<=.)(?=@)",  # addresses
    re.IGNORECASE,
)
"""Where a page that has read all marks of Markdown still puts one sign, an icon or a link for several letters."""
PLOTLY = re.compile(r"[&<$]|%(?={)")
ENTITIES = {"&": "&amp;", "<": "&lt;", "$": "&#36;", "%": "&#37;"}
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"}
LATEX |= {"`": r"\textasciigrave{}", "–": "--", "<": "$<$", ">": "$>$", "†": r"$^\dagger$", "\0": "{}"}
LATEX |= {mark: rf"\{mark}" for mark in "%_&#${}"}


def for_markdown(text: object, starts: bool = True) -> str:
    """A text, on one line, in which nothing is taken for Markdown; `starts`: a line may begin with it."""
    told = " ".join(str(text).split())
    return _escaped(told, _marks(told, starts), ())


def for_page(text: object) -> str:
    """A text, on one line, in which nothing is taken for Markdown as Streamlit reads it: signs, icons, colours too."""
    told = " ".join(str(text).split())
    marks = _marks(told) | {found.start() for found in PAGE.finditer(told)}
    return _escaped(told, marks, {found.start() for found in TOGETHER.finditer(told)})


def _marks(text: str, starts: bool = True) -> set[int]:
    opening = OPENING.match(text) if starts else None
    return {found.start() for found in MARKDOWN.finditer(text)} | ({opening.end() - 1} if opening else set())


def _escaped(text: str, marks: Collection[int], splits: Collection[int]) -> str:
    return "".join(
        f"{SPLIT if place in splits else ''}{chr(92) if place in marks else ''}{letter}"
        for place, letter in enumerate(text)
    )


def for_plotly(text: object) -> str:
    """A text in which plotly takes nothing for a tag, an entity, a formula or a variable."""
    return PLOTLY.sub(lambda found: ENTITIES[found.group()], str(text))


def of_plotly(text: str | None) -> str:
    """What a text of plotly's shows, on one line: `for_plotly` undone."""
    told = (text or "").replace("<br>", " ")
    for letter, entity in reversed(ENTITIES.items()):
        told = told.replace(entity, letter)
    return told


def for_latex(text: object) -> str:
    """A text in which LaTeX takes nothing for a command or for another sign; a hyphen before a figure is a minus."""
    told = re.sub(r"(?<=-)(?=-)|(?<=')(?=')", "\0", str(text))
    told = "".join(LATEX.get(letter, letter) for letter in told)
    return re.sub(r"(?<![\w-])-(?=[.\d])", "$-$", told)


def code_for_page(text: str) -> str:
    """A command in the letters of code, where a page leaves those as they are."""
    if ":material/" in text:
        return for_page(text)
    fence = "`" * (1 + max((len(found) for found in re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"
