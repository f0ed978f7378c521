"""Recovery: every variant's accuracy and bits with intervals, which answers turned over, and what it costs."""

from shlex import quote
from typing import Any

import pandas as pd
import streamlit as st

from analysis import reading, selecting
from analysis.figures.figure import Figure
from analysis.figures.prompts import latency_figure
from analysis.figures.recovery import flips_figure, parameters_figure, recovery_figure
from analysis.figures.transfer import transfer_figure
from analysis.literal import code_for_page, for_page
from analysis.pages.account import show_account
from analysis.pages.drawing import drawn, show, take
from analysis.pages.shared import ANSWERS, View, go_to, group_of, groups_of, panel, view
from analysis.repair_report import latency_of, timing_scatter

AHEAD = 4
"""Groups whose first chart is drawn before it is asked for."""


@drawn
def recovery_chart(now: View, group: str) -> Figure:
    recovery = now.kept(now.table("recovery"))
    return recovery_figure(recovery, now.scope, group, now.reading, chance=now.chance(group))


@drawn
def flips_chart(now: View, group: str) -> Figure:
    return flips_figure(flips_of(now, group), group, now.reading)


@drawn
def parameters_chart(now: View, group: str) -> Figure:
    return parameters_figure(now.kept(now.table("recovery")), now.scope, group, now.reading)


@drawn
def transfer_chart(now: View, group: str) -> Figure:
    return transfer_figure(now.table("transfer"), group, now.reading)


@st.cache_resource(max_entries=64, show_spinner=False)
def rows_of(now: View, group: str) -> pd.DataFrame:
    """The table's rows; shared, never changed in place."""
    return reading.recovery_rows(now.kept(now.table("recovery")), now.scope, group, now.reading).reset_index()


@panel
def show_recovery(now: View, group: str) -> None:
    recovery = now.kept(now.table("recovery"))
    rows = rows_of(now, group)
    if now.seed is not None:
        rows = rows.merge(of_one_seed(now, group), on="variant", how="left")
    st.dataframe(
        rows,
        hide_index=True,
        height=min(38 + 35 * len(rows), 460),
        key="recovery_table",
        column_config={
            "variant": st.column_config.TextColumn(width=225, pinned=True),
            "parameters_added": st.column_config.NumberColumn("parameters added", format="localized"),
            f"test, seed {now.seed}": st.column_config.NumberColumn(
                f"accuracy, test, seed {now.seed}", format="%.2f", help="this replicate alone"
            ),
        },
    )
    take(recovery[(recovery["group"] == group) & (recovery["reading"] == now.reading)], "recovery")
    show(
        recovery_chart(now, group),
        "recovery_chart",
        "Tune subjects (open marks) are named in the text that repairs are tuned on; test subjects (filled) are not. "
        "Only what exceeds the placebo, the recalibrated model and the same repair of the dense model can count as "
        "knowledge that came back. With two or three seeds intervals are wide and may pass the ends of the axis."
        + (
            "" if now.seed is None else f" Drawn over all replicates; the table's last column is seed {now.seed} alone."
        ),
    )


def of_one_seed(now: View, group: str) -> pd.DataFrame:
    """Accuracy on test subjects in the chosen replicate alone."""
    answers = asked(now, group)
    names = now.variants().set_index("variant_id")["variant"]
    answers = answers[answers["variant_id"].isin(names.index)]
    means = answers.groupby(answers["variant_id"].map(names))["correct"].mean()
    return means.rename_axis("variant").rename(f"test, seed {now.seed}").reset_index()


@st.cache_resource(max_entries=64, show_spinner=False)
def asked(now: View, group: str) -> pd.DataFrame:
    """Answers on test subjects in the measuring phrasing; shared, never changed in place."""
    answers = now.rows("answers", *ANSWERS)
    return answers[
        (answers["group"] == group)
        & (answers["reading"] == now.reading)
        & (answers["split"] == "test")
        & (answers["phrasing"] == "measure")
        & answers["variant_id"].isin(now.variants()["variant_id"])
    ]


@st.cache_data(max_entries=64, show_spinner=False)
def flips_of(now: View, group: str) -> pd.DataFrame:
    """Lost and gained answers of every variant that the choices keep."""
    answers = now.rows("answers", *ANSWERS)
    of_dense = answers[(answers["variant_id"] == now.dense_id()) & (answers["group"] == group)]
    of_dense = of_dense[(of_dense["reading"] == now.reading) & (of_dense["phrasing"] == "measure")]
    own = asked(now, group)
    both = pd.concat([own, of_dense[of_dense["split"] == "test"]]).drop_duplicates(["variant_id", "item"])
    return selecting.flips(both, now.variants(), now.dense_id())


@panel
def show_flips(now: View, group: str) -> None:
    if flips_of(now, group).empty:
        st.caption("Only the dense model itself is chosen at the side: nothing can turn over.")
        return
    show(
        flips_chart(now, group),
        "flips_chart",
        "A repair that returned knowledge moves the left mark towards zero; one that only reshuffles answers moves "
        "both outwards. Accuracy alone cannot tell the two apart.",
    )
    go_to("facts", "See which questions", group=group)


@panel
def show_cost(now: View, group: str) -> None:
    show(
        parameters_chart(now, group),
        "parameters_chart",
        "Further right costs more parameters. Untrained prompts and re-weighted answers cost none: a repair that does "
        "not rise above them has bought nothing.",
    )
    latency = reading.read_latency(now.run)
    if latency is None:
        command = code_for_page(f"python -m analysis repairs {quote(now.run.name)} --latency")
        st.caption(f"Time was not measured: {command} adds it here.")
        return
    recovery = now.kept(now.table("recovery"))
    show(
        latency_figure(recovery, latency_of(latency), now.scope, group, now.reading),
        "latency_chart",
        "Further right is slower than the model without a repair. A prompt's keys and values are constants; LoRA that "
        f"is merged into the weights costs nothing, here it lies beside them. {scatter_words(latency)}",
    )


def scatter_words(latency: pd.DataFrame) -> str:
    """How much of a difference in time says nothing, as far as it was measured."""
    scatter = timing_scatter(latency)
    return "" if scatter is None else f"Merged, the same computation was timed {scatter:.2f} off 1: less says nothing."


@panel
def show_transfer(now: View, group: str) -> None:
    show(
        transfer_chart(now, group),
        "transfer_chart",
        "On the diagonal a repair is used where it was tuned. Beside it: what the same repair gives a model with other "
        "damage, or none. The charts above show these where they are named at the side.",
    )


@st.fragment
@panel
def show_page(now: View) -> None:
    group = group_of(now)
    st.caption(
        for_page(f"Scope {now.scope}, group {group}: {reading.GROUP_NOTE.get(group, 'as the study names them')}.")
    )
    show_recovery(now, group)
    show_cost(now, group)
    show_flips(now, group)  # late: its intervals are computed for this page
    with closed("What each setting still answers, got back and was taught anew", "account_open") as part:
        if part.open:
            show_account(now)
    with closed("What a repair does where it was not tuned", "transfer_open") as part:
        if part.open:
            show_transfer(now, group)
    for other in groups_of(now)[:AHEAD]:  # while the page is read: the first choice of a group waits for no drawing
        recovery_chart(now, other)


def closed(label: str, key: str) -> Any:
    """A part that is not drawn before it is asked for: every chart delays the ones above it."""
    return st.expander(label, key=key, on_change="rerun", bind="query-params")


now = view()
st.title("What comes back, and on whom")
show_page(now)
