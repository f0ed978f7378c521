"""Claims: what the paper claims, its figure, and what this run measured of it, with the interval."""

import pandas as pd
import streamlit as st

from analysis import reading, saying
from analysis.claims import NOT_MEASURED
from analysis.figures.evidence import claim_rows, claims_figure, with_latency
from analysis.figures.figure import Figure
from analysis.literal import for_page
from analysis.pages.drawing import drawn, show, take
from analysis.pages.shared import View, go_to, panel, view


def table_of(claims: list[dict]) -> pd.DataFrame:
    """Every claim, those without a measurement too: a row per setting that was measured."""
    measured = claim_rows(claims)
    absent = [one for one in claims if one["claim"] not in set(measured["claim"])]
    told = pd.DataFrame(
        [{"claim": one["claim"], "paper": one["paper"], "setting": _shortly(one["ours"])} for one in absent],
        columns=["claim", "paper", "setting"],
    )
    order = [one["claim"] for one in claims]
    both = pd.concat([measured, told], ignore_index=True).fillna({"unit": ""})
    return both.sort_values("claim", key=lambda names: names.map(order.index), kind="stable").reset_index(drop=True)


def ours_of(row: pd.Series) -> str:
    """What was measured with its interval, to a thousandth; a count or a time, which have none, to three digits."""
    if pd.isna(row["value"]):
        return ""
    if pd.isna(row["lower"]):
        return f"{row['value']:.3g}"
    return f"{row['value']:.3f} [{row['lower']:.3f}, {row['upper']:.3f}]"


def _shortly(ours: str) -> str:
    """What stands in the table; what a measurement needs is said below it."""
    return NOT_MEASURED if ours.startswith(NOT_MEASURED) else ours


@drawn
def claims_chart(now: View, measured: pd.DataFrame) -> Figure:
    return claims_figure(measured)


@panel
def show_claims(now: View) -> None:
    claims = with_latency(now.verdict()["claims"], reading.read_latency(now.run))
    told, measured = saying.claims_told(claims), claim_rows(claims)
    # What an absent measurement would take is said in words of ours, which name a command.
    found = [for_page(words) if one["measured"] else words for one, words in zip(claims, told["run"], strict=True)]
    shown = told.map(for_page).assign(run=found)
    headed = shown.rename(columns={"claim": "the paper claims", "paper": "its figure", "run": "this run"})
    st.table(headed.set_index("the paper claims"))
    st.caption(
        "Measured on facts and, where the study names them, on standard tasks; nowhere on all of the paper's nine. A "
        "claim that was not measured is neither met nor refuted. A count or a time has no interval."
    )
    if not measured.empty:
        show(
            claims_chart(now, measured),
            "claims_chart",
            "Further right favours the claim; a bar that crosses zero decides nothing. Dashed: the paper's own figure, "
            "where it gives one.",
        )
        with st.container(horizontal=True):
            go_to("evidence", "See what was tested")
            go_to("drift", "See every layer")
    st.subheader("Every measurement")
    show_measurements(table_of(claims))


def show_measurements(table: pd.DataFrame) -> None:
    """What was measured of every claim, to sort and to take away."""
    text = st.column_config.TextColumn
    st.dataframe(
        table.assign(ours=[ours_of(row) for _, row in table.iterrows()])[
            ["setting", "ours", "claim", "unit", "n", "paper"]
        ],
        hide_index=True,
        height=min(38 + 35 * len(table), 460),
        placeholder="",
        key="claims_table",
        column_config={
            "claim": text("the paper claims", width=330),
            "paper": text("the paper's figure", width=240),
            "setting": text("this run", width=270, pinned=True),
            "ours": text("ours", help="with its 95 % interval", width=150),
            "unit": text("what is measured", width=300),
            "n": st.column_config.NumberColumn(
                "n",
                format="%d",
                help="test subjects; items of tasks; replicates where drift is compared; variants that correlate",
            ),
        },
    )
    take(table, "claims")


now = view()
st.title("What the paper claims, and what this run measured")
show_claims(now)
