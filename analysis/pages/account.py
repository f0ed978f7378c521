"""The four-way account of the chosen settings: one picture that two pages show."""

import pandas as pd
import streamlit as st

from analysis import saying
from analysis.figures.account import account_figure
from analysis.figures.figure import Figure
from analysis.pages.drawing import drawn, show
from analysis.pages.shared import View, panel


def account_of(now: View) -> pd.DataFrame:
    """The account of the settings that the shared choices keep."""
    verdict = now.verdict()
    settings = verdict["settings"] if now.scope == "main" else verdict["controls"]
    account = saying.account_table([one for one in settings if one["scope"] == now.scope])
    if now.compressions:
        account = account[account["compression"].isin(now.compressions)]
    if now.repairs:
        account = account[account["repair"].isin(now.repairs)]
    return account


@drawn
def account_chart(now: View) -> Figure:
    return account_figure(account_of(now))


@panel
def show_account(now: View) -> None:
    """What each setting still answers, got back, was taught anew, and does not reach."""
    if account_of(now).empty:
        st.caption("None of the settings chosen at the side has a verdict: verdicts are given for reported repairs.")
        return
    show(
        account_chart(now),
        "account",
        "Read across: what the compressed model still answers, what the repair returned on subjects it never read "
        "beyond every comparison, what it gave only to subjects it had read, and what the repaired dense model "
        "answers but the repaired compressed one does not. A bar that crosses the line may be nothing.",
    )
