"""What every page shares: the run, scope and reading chosen in the sidebar, and cached readers of the run's tables."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from analysis import reading
from data.errors import InputError

BESIDE_APP = Path(__file__).parent.parent.parent / "runs"
ANSWERS = ["item", "group", "split", "relation", "answer", "predicted", "reading"]


@dataclass(frozen=True)
class View:
    """The shared choices; `stamp` changes when the run is written anew and belongs in every cache key."""

    run: Path
    stamp: str
    scope: str
    reading: str

    def table(self, name: str) -> pd.DataFrame:
        """One table of the run, a copy."""
        return _table(self.run, name, self.stamp)

    def manifest(self) -> dict[str, Any]:
        """What shaped the run."""
        return _json(self.run, "manifest.json", self.stamp)

    def verdict(self) -> dict[str, Any]:
        """What the run's evidence licenses."""
        return _json(self.run, "verdict.json", self.stamp)

    def chance(self, group: str) -> float | None:
        """Accuracy of a guess among the candidates; the full vocabulary has no such line."""
        return _chance(self.run, group, self.stamp) if self.reading == "candidates" else None


@st.cache_data(max_entries=64, show_spinner=False)
def _table(run: Path, name: str, stamp: str) -> pd.DataFrame:
    return reading.read_table(run, name)


@st.cache_data(max_entries=32, show_spinner=False)
def _json(run: Path, name: str, stamp: str) -> dict[str, Any]:
    return reading.read_json(run, name)


@st.cache_data(max_entries=64, show_spinner=False)
def _chance(run: Path, group: str, stamp: str) -> float | None:
    return reading.chance_of(reading.read_table(run, "answers", ANSWERS), group)


def runs_root() -> Path:
    """The folder whose direct subfolders may be opened, and nothing else."""
    return Path(os.environ.get("PALIMPSEST_RUNS") or BESIDE_APP)


def choose() -> None:
    """Draw the shared choices and keep them for the page; with nothing to choose, say how to make a run."""
    root = runs_root()
    names = reading.list_runs(root)
    if not names:
        st.title("Palimpsest")
        st.markdown(f"No finished run in `{root}` yet. This makes one in a few minutes:")
        st.code("make demo", language="bash")
        st.stop()
    try:
        _choose(root, names)
    except InputError as error:
        st.error(str(error), icon=":material/error:")
        st.stop()


def _choose(root: Path, names: list[str]) -> None:
    with st.sidebar:
        name = st.selectbox("Run", names, key="run", bind="query-params", help=f"Finished runs in {root}")
        run = reading.run_below(root, name)
        manifest = reading.read_manifest(run)
        stamp = reading.stamp(run)
        recovery = _table(run, "recovery", stamp)
        scope = pick("Scope", unique(recovery["scope"]), "scope", help="main: the study. Others: controls, truth known")
        asked = recovery[recovery["scope"] == scope]
        readings = unique(asked["reading"])
        read = pick("Reading", readings, "reading", help="best of the fixed candidates, or of the full vocabulary")
        study = manifest["study"]
        st.caption(f"Model `{study['model']}`, text `{study['text']}`, seeds {_listed(manifest['seeds'])}")
    st.session_state["view"] = View(run, stamp, scope, read)


def view() -> View:
    """The shared choices, as the frame left them."""
    found: View = st.session_state["view"]
    return found


def pick(label: str, options: list[str], key: str, help: str | None = None) -> str:
    """One of a few options, always one, kept in the link under its key."""
    # A choice that another run or scope does not have would otherwise stand as an option that is not there.
    if st.session_state.get(key) not in options:
        st.session_state.pop(key, None)
    draw = st.segmented_control if len(options) <= 5 and max(map(len, options)) <= 16 else st.selectbox
    if draw is st.segmented_control:
        chosen = st.segmented_control(
            label, options, default=options[0], required=True, key=key, bind="query-params", help=help
        )
    else:
        chosen = st.selectbox(label, options, key=key, bind="query-params", help=help)
    return str(chosen)


def unique(column: pd.Series) -> list[str]:
    """Values in the order of the table."""
    return list(dict.fromkeys(column))


def _listed(values: list[Any]) -> str:
    return ", ".join(map(str, values))
