"""Question: what is asked, what this run says in five sentences, and the four-way account as one picture."""

from typing import Any

import streamlit as st

from analysis import reading, saying
from analysis.literal import for_page
from analysis.pages.account import show_account
from analysis.pages.shared import View, go_to, panel, view

HUES = {"displaced": "green", "relearned": "orange", "re-injected": "orange", "unreached": "blue", "undecided": "gray"}


def show_settings(settings: list[dict[str, Any]]) -> None:
    """One line per decision and reason, with all the settings that share them."""
    places: dict[tuple[str, str], list[str]] = {}
    for one in settings:
        places.setdefault((one["decision"], reading.sentence_of(one)), []).append(for_page(reading.place_of(one)))
    lines = [
        f"- {', '.join(named)} :{HUES.get(decision, 'gray')}-badge[{decision}] {for_page(sentence)}"
        for (decision, sentence), named in places.items()
    ]
    st.markdown("\n".join(lines))


@panel
def show_answer(now: View) -> None:
    with st.container(border=True):
        st.subheader("What this run says")
        st.markdown(
            "\n".join(
                f"{place}. {for_page(said)}" for place, said in enumerate(saying.five_sentences(now.verdict()), 1)
            )
        )
        st.caption(
            "Bits per fact: information about the right answer that can be read out, calibrated on other subjects. "
            "Brackets: 95 % intervals. Failing to recover does not show that nothing is there."
        )
        with st.container(horizontal=True):
            go_to("evidence", "See the evidence")
            go_to("recovery", "See every variant")


@panel
def show_decisions(now: View) -> None:
    verdict = now.verdict()
    with st.expander("Every decision with its reason", key="decisions", bind="query-params"):
        show_settings(verdict["settings"])
        if verdict.get("controls"):
            st.markdown("**Controls, where the truth is known**")
            show_settings(verdict["controls"])


@panel
def show_study(now: View) -> None:
    study = now.manifest()["study"]
    name = for_page(study.get("title") or study["name"])
    st.markdown(
        f"**{name}.** A model is compressed, repaired without touching its weights or "
        "with few new ones, and asked again. What returns on subjects that the repair never read had been "
        "*displaced*; what returns only on subjects it read was *learned anew*."
    )


now = view()
st.title("Is what compression damaged gone, or only out of reach?")
show_study(now)
show_answer(now)
show_account(now)
show_decisions(now)
