"""New study: a form over a study's fields, what it would take, and the studies that were started from here."""

from typing import Any

import streamlit as st

from analysis import drafting, launching
from analysis.asking import bare
from analysis.literal import for_page
from analysis.pages.picking import pick
from analysis.pages.shared import View, go_to, panel, runs_root
from analysis.pages.study_form import KEPT, Form, budget, compressions, repairs, row, subject
from analysis.resolution import Resolution
from analysis.study import Study, load_study

ICONS = {"running": ":material/sync:", "finished": ":material/check_circle:"}
ICONS |= {"failed": ":material/error:", "stopped": ":material/pause_circle:", "unreadable": ":material/warning:"}


def template() -> tuple[str, Study]:
    """Where the form starts from: a study that ships, or that of the run at the side."""
    found: View | None = st.session_state["view"]
    own = [] if found is None else [f"run {found.run.name}"]
    name = pick("Start from", [*drafting.shipped(), *own], "from", help="a study that ships, or a run's")
    if found is not None and name in own:
        return name, drafting.study_of(found.manifest()["study"], name)
    return name, load_study(name)


@st.fragment
@panel
def show_form() -> None:
    name, study = template()
    form, given = Form(name), bare(study)
    told = subject(form, given) | {"compressions": compressions(form, given)}
    told["repairs"], reportable = repairs(form, given)
    told |= budget(form, given, reportable)
    with st.expander("Further fields", key="further", bind="query-params"):
        text = st.text_area(
            "As YAML",
            drafting.further(study),
            key=f"new {name} further",
            help="inside, tasks, ablations, transfer, budget, relations...",
            persist_state=KEPT,
        )
    form.check()
    show_study(drafting.with_further(told, text))


@panel
def show_study(study: dict[str, Any]) -> None:
    """The study as it will be written, what it would take, and the button that starts it."""
    text = launching.as_yaml(study)
    with st.expander("The study as YAML", key="yaml", bind="query-params"):
        st.code(text, language="yaml")
    with row():
        ask = st.button("Estimate", key="estimate", icon=":material/calculate:")
        go = st.button("Run", key="run_study", type="primary", icon=":material/play_arrow:")
        st.download_button(
            "YAML",
            text,
            f"{study.get('name', 'study')}.yaml",
            "text/yaml",
            key="study_yaml",
            icon=":material/download:",
            on_click="ignore",
            type="tertiary",
        )
    if ask or go:
        with st.spinner("Checking the study and counting its cells"):
            st.session_state["estimate_of"] = text, launching.resolution_of(text, runs_root().resolve())
    told = st.session_state.get("estimate_of")
    if told is not None and told[0] == text:
        show_estimate(told[1])
    if go:
        launching.launch(text, runs_root())
        st.rerun()


def show_estimate(found: Resolution) -> None:
    """What was found of the study: how much is left to compute, what must be said, and every line of the dry run."""
    with st.container(border=True):
        with st.container(horizontal=True):
            st.metric("Cells", len(found.cells), help="units of work, each computed once and kept")
            st.metric("Finished already", found.finished)
            st.metric("About, to a factor of three", duration(60 * found.minutes))
        for line in (*found.notes, *(one.sentence for one in found.detectable)):
            st.caption(for_page(line))
        with st.expander("Every cell"):
            st.code("\n".join(found.lines), language=None)


def duration(seconds: float) -> str:
    """Seconds as said aloud."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@panel
def show_launched() -> None:
    """Every study that was started from here: drawn again every two seconds while one runs."""
    running = any(one.state == "running" for one in launching.list_launched(runs_root()))
    st.fragment(follow, run_every=2 if running else None)(running)


@panel
def follow(running: bool) -> None:
    found = launching.list_launched(runs_root())
    if running and not any(one.state == "running" for one in found):
        st.rerun()  # a finished run joins the list at the side
    if not found:
        st.caption("None was started from here yet. A run started here goes on when this page is closed.")
    for one in found:
        show_one(one)


def show_one(one: launching.Launched) -> None:
    """One started study: how far it is, and what can be done with it."""
    with st.container(border=True, key=f"launched {one.name}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"{ICONS[one.state]} **{for_page(one.name)}** {one.state}")
            if one.state == "running":
                if st.button("Stop", key=f"stop {one.name}", icon=":material/stop:"):
                    launching.stop(one)
                    st.rerun()
            elif one.state == "finished":
                go_to("question", "See what it says", run=one.says)
            elif one.state != "unreadable" and st.button(
                "Resume", key=f"resume {one.name}", icon=":material/play_arrow:"
            ):
                launching.resume(one, runs_root())
                st.rerun()
        if one.state == "failed":
            st.error(for_page(one.says), icon=":material/error:")
        if one.state == "unreadable":
            st.warning(for_page(one.says), icon=":material/warning:")
        if one.state in ("running", "stopped"):
            show_step(one)
        with st.expander("Study and log", key=f"log {one.name}"):
            st.code(one.study, language="yaml")
            st.code("\n".join(one.log.splitlines()[-40:]) or "nothing said yet", language=None)


def show_step(one: launching.Launched) -> None:
    """How many cells are done, and about how long the others take."""
    if one.step is None:
        st.progress(0.0, "Starting: reading the study and the model's files")
        return
    left = one.step.left
    if one.step.done == one.step.total:
        told = "writing tables and verdict"
    elif one.state == "stopped":
        told = "stopped; what is finished stays"
    else:
        told = "time left not known yet" if left is None else f"about {duration(max(left - one.silent, 0))} left"
    share = one.step.done / max(one.step.total, 1)
    st.progress(share, f"{one.step.done} of {one.step.total} cells, {told}; last: {for_page(one.step.last)}")


st.title("Run a study of your own")
st.caption(
    "A study runs as a process of its own, below this app's runs folder. Close the page or the browser: it goes on. "
    "What is finished is kept, so a stopped study goes on where it was."
)
show_launched()
show_form()
