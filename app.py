"""The workbench in a browser: the frame around the pages, and the choices that all of them share."""

import streamlit as st

from analysis.pages import shared

st.set_page_config(page_title="Palimpsest", page_icon=":material/history_edu:", layout="wide")
page = st.navigation(
    {
        "Evidence": [
            st.Page("analysis/pages/overview.py", title="First comparison", icon=":material/compare:", default=True)
        ]
    }
)
shared.choose()
page.run()
