"""What every page shares: the choices of the sidebar, cached readers of the run's tables, and how a panel fails."""

import functools
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec

import pandas as pd
import streamlit as st

from analysis import look, reading, selecting
from analysis.literal import for_page
from analysis.pages.picking import arrive, only, pick, pick_at_side, settle, several_at_side, unique
from analysis.reading import Example
from data.errors import InputError

BESIDE_APP = Path(__file__).parent.parent.parent / "runs"
ALL_SEEDS = "all"
STEP = "with-"  # before a choice that a step to another page brings along
ANSWERS = (
    *("item", "group", "split", "phrasing", "relation", "entity", "answer", "reading", "log_prob", "correct"),
    *("predicted", "variant_id"),
)
"""Columns of the answers that pages read: the same ones everywhere, so that the largest table is read once."""
SEVERAL = ("compression", "repair", "live")
AT_FIRST = 120
"""Variants shown before anything is chosen: a run of more begins with its first compressions."""
LOG = logging.getLogger(__name__)
REPORT = "please report it with the traceback that stands in the log of the workbench"
P = ParamSpec("P")


@dataclass(frozen=True)
class View:
    """The shared choices; `stamp` changes when the run is written anew and belongs in every cache key."""

    run: Path
    stamp: str
    scope: str
    reading: str
    compressions: tuple[str, ...]
    """None named means all."""
    repairs: tuple[str, ...]
    """None named means all."""
    seed: int | None
    """None means all."""

    def table(self, name: str, *columns: str) -> pd.DataFrame:
        """One table of the run, shared by all sessions: never change it in place."""
        return _table(self.run, name, self.stamp, columns)

    def rows(self, name: str, *columns: str) -> pd.DataFrame:
        """A table by variant: of a run of very many variants, dense and the chosen compressions alone are read."""
        if not (self.compressions and self.is_large):
            return self.table(name, *columns)
        return _rows(self.run, name, self.stamp, columns, self.scope, self.compressions)

    @property
    def is_large(self) -> bool:
        """Whether the run has more variants than are shown before anything is chosen."""
        return bool(self.table("variants")["variant"].nunique() > AT_FIRST)

    def manifest(self) -> dict[str, Any]:
        """What shaped the run."""
        return _manifest(self.run, self.stamp)

    def example(self, file: str) -> Example:
        """One question of the run token by token, shared by all sessions."""
        return _example(self.run, file, self.stamp)

    def verdict(self) -> dict[str, Any]:
        """What the run's evidence licenses."""
        return _verdict(self.run, self.stamp)

    def chance(self, group: str) -> float | None:
        """Accuracy of a guess among the candidates; the full vocabulary has no such line."""
        # Computed once for a run, whatever is chosen, but for one that is never read whole.
        asked = replace(self, repairs=(), seed=None, compressions=self.compressions if self.is_large else ())
        return _chances(asked).get(group) if self.reading == "candidates" else None

    def variants(self) -> pd.DataFrame:
        """The variants that the shared choices keep."""
        return selecting.variants_of(self.table("variants"), self.scope, self.compressions, self.repairs, self.seed)

    def of_all_seeds(self) -> pd.DataFrame:
        """The same whatever the seed: the inside is read in the first replicates alone."""
        return replace(self, seed=None).variants()

    def kept(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows of a table by variant name that the shared choices keep."""
        return table[(table["scope"] == self.scope) & table["variant"].isin(self.variants()["variant"])]

    def advice(self, table: str, otherwise: str) -> str:
        """What to choose where a table has nothing of the variants chosen: a scope that it has, or `otherwise`."""
        held = set(self.table(table, "variant_id")["variant_id"])
        variants = self.table("variants")
        scopes = unique(variants.loc[variants["variant_id"].isin(held), "scope"])
        return otherwise if not scopes or self.scope in scopes else f"choose scope {' or '.join(scopes)}"

    def dense_id(self) -> str:
        """Identity of the undamaged, unrepaired model of the scope.

        Raises:
            InputError: the run has none.
        """
        variants = self.table("variants")
        found = variants.query("scope == @self.scope and compression == 'dense' and repair == ''")
        if found.empty:
            raise InputError(f"run '{self.run.name}': no dense model in scope '{self.scope}' to compare with")
        return str(found["variant_id"].iloc[0])


# Frames are handed out uncopied: a copy of half a million answers would cost more than any page.
@st.cache_resource(max_entries=64, show_spinner=False)
def _table(run: Path, name: str, stamp: str, columns: tuple[str, ...]) -> pd.DataFrame:
    return reading.read_table(run, name, list(columns) or None)


@st.cache_resource(max_entries=16, show_spinner=False)
def _rows(
    run: Path, name: str, stamp: str, columns: tuple[str, ...], scope: str, compressions: tuple[str, ...]
) -> pd.DataFrame:
    known = _table(run, "variants", stamp, ())
    chosen = known[(known["scope"] == scope) & known["compression"].isin(["dense", *compressions])]
    return reading.read_table(run, name, list(columns) or None, set(chosen["variant_id"]))


@st.cache_resource(max_entries=16, show_spinner=False)
def _example(run: Path, file: str, stamp: str) -> Example:
    return reading.read_example(run, file)


@st.cache_data(max_entries=16, show_spinner=False)
def _manifest(run: Path, stamp: str) -> dict[str, Any]:
    return reading.read_manifest(run)


@st.cache_data(max_entries=16, show_spinner=False)
def _verdict(run: Path, stamp: str) -> dict[str, Any]:
    return reading.read_verdict(run)


@st.cache_data(max_entries=64, show_spinner=False)
def _chances(now: View) -> dict[str, float]:
    return reading.chances_of(now.rows("answers", *ANSWERS))


def runs_root() -> Path:
    """The folder whose direct subfolders may be opened, and nothing else."""
    return Path(os.environ.get("PALIMPSEST_RUNS") or BESIDE_APP)


def choose() -> None:
    """Draw the shared choices and keep them for the page, with what is wrong where they cannot be drawn."""
    _arrive()
    st.session_state["view"] = None
    st.session_state["trouble"] = None
    root = runs_root()
    try:
        names = reading.list_runs(root)
        if not names:
            return
        with st.sidebar:
            run = _chosen_run(root, names)
            with readable(run.name):
                st.session_state["view"] = _chosen_view(run)
    except InputError as error:
        st.session_state["trouble"] = str(error)


def _chosen_run(root: Path, names: list[str]) -> Path:
    """The run of the box, or what is wrong with the one that an address names: then the box is empty.

    Raises:
        InputError: the address names no finished run, or the one that was shown is gone.
    """
    asked = st.query_params.get("run", st.session_state.get("run"))
    if asked in names:
        _accept()
    elif asked is not None:
        st.session_state["refused"] = asked  # the address forgets it at once
    refused = st.session_state.get("refused")
    # The newest stands first, and another may finish meanwhile: whoever reads one goes on reading it.
    settle("run", None if refused else names[0], only([] if refused else names), "list", follows=False)
    name = st.selectbox(
        "Run",
        names,
        None if refused else 0,
        key="run",
        bind="query-params",
        on_change=_accept,
        placeholder="choose a run",
        help=for_page(f"Finished runs in {root}"),
    )
    return reading.run_below(root, str(name or refused))


def _chosen_view(run: Path) -> View:
    manifest = reading.read_manifest(run)
    stamp = reading.stamp(run)
    variants = _table(run, "variants", stamp, ())
    scope = pick_at_side(
        "Scope",
        unique(variants["scope"]),
        "scope",
        help="main: the study; ablations: more or less of a repair; others: controls of known truth",
    )
    own = variants[variants["scope"] == scope]
    damages = unique(own["compression"])
    few = max(2, AT_FIRST * len(damages) // own["variant"].nunique())
    compressions = several_at_side(
        "Compressions", damages, "compression", damages[:few] if few < len(damages) else None
    )
    if few < len(damages) and compressions:
        st.caption(f"{len(compressions)} of {len(damages)} compressions are shown; clear the box for all.")
    repairs = several_at_side("Repairs and controls", [name for name in unique(own["repair"]) if name], "repair")
    seeds = [ALL_SEEDS, *map(str, manifest["seeds"])]
    seed = pick_at_side("Seed", seeds, "seed", help="one replicate of compression and repair, or all of them together")
    read = pick_at_side(
        "Reading", ["candidates", "vocabulary"], "reading", help="best of a fixed list, or of all words"
    )
    study = manifest["study"]
    count = len(manifest["seeds"])
    # A model that lies in a folder is called by its own name: its whole path would fill the side.
    model = Path(study["model"]).name if Path(study["model"]).is_absolute() else study["model"]
    st.caption(for_page(f"Model {model}, text {study['text']}, {count} seed{'s' if count > 1 else ''}"))
    if manifest["note"]:
        st.caption(f":material/info: {for_page(manifest['note'])}.")
    return View(run, stamp, scope, read, compressions, repairs, None if seed == ALL_SEEDS else int(seed))


def _accept() -> None:
    st.session_state.pop("refused", None)


def view() -> View:
    """The shared choices, as the frame left them; without a run, says what to do and ends the page."""
    found: View | None = st.session_state["view"]
    if found is not None:
        return found
    if trouble := st.session_state["trouble"]:
        st.error(for_page(trouble), icon=":material/error:")
        st.caption("Choose another run at the side.")
    else:
        st.markdown(f"No finished run in {for_page(runs_root())} yet. This makes one in a few minutes:")
        st.code("make demo", language="bash")
    st.stop()


def other_view(now: View, name: str) -> View:
    """The same choices in another run.

    Raises:
        InputError: it cannot be opened.
    """
    run = reading.run_below(runs_root(), name)
    reading.read_manifest(run)
    return replace(now, run=run, stamp=reading.stamp(run))


def go_to(page: str, label: str, **choices: str | list[str]) -> None:
    """A link to another page, with some choices made on the way; those of the sidebar stay as they are."""
    made = {f"{STEP}{name}": value for name, value in choices.items()}
    st.page_link(f"{page}.py", label=for_page(label), icon=":material/arrow_forward:", query_params=made or None)


def _arrive() -> None:
    """Make the choices that a step brought along: a box that is already drawn does not read its part of an address."""
    for name in [name for name in st.query_params if name.startswith(STEP)]:
        choice, values = name.removeprefix(STEP), st.query_params.get_all(name)
        arrive(choice, values if choice in SEVERAL else values[-1])
        del st.query_params[name]


class Unreadable(InputError):
    """The system does not give what a part of a page needs."""


@contextmanager
def readable(*runs: str) -> Iterator[None]:
    """Say in one sentence that the system does not give what is read of these runs; the traceback goes to the log.

    Raises:
        Unreadable: it does not.
    """
    try:
        yield
    except OSError as error:
        LOG.exception("a part of a page cannot be drawn")
        named = " or ".join(f"run '{name}'" for name in runs) or "this page"
        raise Unreadable(f"{named}: this part needs what the system does not give ({_in_a_line(error)})") from error


def _in_a_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def looks(now: View | None) -> AbstractContextManager[None]:
    """Every compression's dash and repair's symbol are those of the whole run, whatever is chosen."""
    return nullcontext() if now is None else look.looks_of(now.table("variants"))


def panel(draw: Callable[P, None]) -> Callable[P, None]:
    """A part of a page: what is wrong with its table is said in its place, and the rest of the page stays.

    A fault of our own is said to be one, never blamed on what is stored; its traceback goes to the log. Goes inside
    `st.fragment`: what fails in a fragment would be shown as a traceback.
    """

    @functools.wraps(draw)
    def shown(*args: P.args, **kwargs: P.kwargs) -> None:
        found: View | None = st.session_state["view"]
        try:
            with readable(*([] if found is None else [found.run.name])), looks(found):
                draw(*args, **kwargs)
        except Unreadable as error:
            st.error(for_page(error), icon=":material/error:")
        except InputError as error:
            st.warning(for_page(error), icon=":material/warning:")
        except Exception as error:
            LOG.exception("a part of a page has a fault")
            told = f"{_in_a_line(error)}. This is a fault in Palimpsest, not in your run: {REPORT}"
            st.error(for_page(told), icon=":material/bug_report:")

    return shown


def groups_of(now: View) -> list[str]:
    """The groups of facts of the scope."""
    recovery = now.table("recovery")
    return unique(recovery.loc[recovery["scope"] == now.scope, "group"])


def group_of(now: View, key: str = "group") -> str:
    """A group of facts of the scope, chosen."""
    groups = groups_of(now)
    if not groups:
        raise InputError(f"run '{now.run.name}': table 'recovery' has nothing of scope '{now.scope}'")
    return pick(
        "Group of facts",
        groups,
        key,
        help=for_page("; ".join(f"{name}: {reading.GROUP_NOTE.get(name, 'as named')}" for name in groups)),
    )
