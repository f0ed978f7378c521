"""The one list of pages: a new one is a file beside this and an entry here.

The frame, the pictures, the benchmark and the tests read it. It loads no Streamlit: what a page is can be known without
drawing one.
"""

from dataclasses import dataclass

from probes.specs.registry import Registry

SIDE = {
    "scope": "scope",
    "compression": "compressions",
    "repair": "repairs",
    "seed": "seed",
    "reading": "reading",
}
"""The boxes at the side that narrow what is shown, by key, and what they are called in a sentence."""
ALL = tuple(SIDE)
ANSWER, INSIDE, RUNS = "The answer", "The inside", "Runs"
"""The sections at the side."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """What is known of a page before it is drawn."""

    name: str
    """Its part of the address, and its file without `.py`. The first page of the list has no part of the address."""
    title: str
    """As it stands at the side."""
    icon: str
    """Of Material Symbols, which Streamlit carries."""
    section: str
    tables: tuple[str, ...] = ()
    """Tables of the run, beside `variants`, without which a part of it has only a sentence to show."""
    boxes: tuple[str, ...] = ()
    """The boxes at the side that change what it shows; of the others the side says that they do not."""
    charts: bool = False
    """Whether one run is enough for it to draw charts when it opens."""
    folder: str = ""
    """Where its file lies, unless it is beside this one."""

    @property
    def file(self) -> str:
        """Its file, from the frame's folder."""
        return f"{self.folder}/{self.name}.py" if self.folder else f"{self.name}.py"

    @property
    def unread(self) -> tuple[str, ...]:
        """What the boxes at the side are called that change nothing on it."""
        return tuple(words for key, words in SIDE.items() if key not in self.boxes)


_PAGES = Registry(
    "page",
    (
        Page(
            name="question",
            title="Question",
            icon="help",
            section=ANSWER,
            boxes=("scope", "compression", "repair"),
            charts=True,
        ),
        Page(
            name="recovery",
            title="Recovery",
            icon="healing",
            section=ANSWER,
            tables=("recovery", "answers"),
            boxes=ALL,
            charts=True,
        ),
        Page(
            name="evidence",
            title="Evidence",
            icon="balance",
            section=ANSWER,
            boxes=("scope", "compression", "repair"),
            charts=True,
        ),
        Page(name="claims", title="Claims", icon="fact_check", section=ANSWER, charts=True),
        Page(
            name="drift",
            title="Drift",
            icon="moving",
            section=INSIDE,
            tables=("drift", "lens"),
            boxes=("scope", "compression", "repair", "seed"),
            charts=True,
        ),
        Page(
            name="attention",
            title="Attention",
            icon="grid_on",
            section=INSIDE,
            tables=("attention", "examples"),
            boxes=("scope", "compression", "repair", "seed"),
            charts=True,
        ),
        Page(
            name="choices",
            title="IDP",
            icon="alt_route",
            section=INSIDE,
            tables=("banks", "selectors", "selections"),
            boxes=("scope", "compression", "repair", "seed"),
            charts=True,
        ),
        Page(
            name="facts",
            title="Facts",
            icon="search",
            section=INSIDE,
            tables=("recovery", "answers", "lens_items", "examples", "interventions"),
            boxes=ALL,
            charts=True,
        ),
        Page(
            name="causal",
            title="Causal",
            icon="account_tree",
            section=INSIDE,
            tables=("interventions",),
            boxes=("scope", "compression", "repair"),
            charts=True,
        ),
        Page(name="live", title="Live", icon="bolt", section=INSIDE, tables=("timings",), boxes=("scope", "seed")),
        Page(name="new_study", title="New study", icon="add_circle", section=RUNS),
        Page(name="compare", title="Compare", icon="compare", section=RUNS, tables=("recovery", "drift"), boxes=ALL),
        Page(
            name="figures",
            title="Figures",
            icon="imagesmode",
            section=RUNS,
            tables=("recovery", "answers"),
            charts=True,
        ),
    ),
)

pages = _PAGES.every
page_of = _PAGES.of
registered = _PAGES.with_one_more


def addresses() -> tuple[str, ...]:
    """Every page's part of the address, in their order; the first has none."""
    return "", *(one.name for one in pages()[1:])


def sections() -> dict[str, list[Page]]:
    """Pages by section, each in the order of the list."""
    return {section: [one for one in pages() if one.section == section] for section in _sections()}


def _sections() -> list[str]:
    return list(dict.fromkeys(one.section for one in pages()))
