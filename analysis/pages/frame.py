"""The frame around the pages, run anew at every choice: their list, and the choices that all of them share."""

import streamlit as st

from analysis.pages import shared

# Drawn here: a named icon would be fetched from a host on the internet.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><rect x="4" y="2" width="16" height="20" rx="2" '
    'fill="#0072B2"/><path d="M8 8h8M8 16h8" stroke="#fff" stroke-width="2"/><path d="M8 12h8" stroke="#fff" '
    'stroke-width="2" opacity=".35"/></svg>'
)
PAGES = {
    "The answer": [
        st.Page("question.py", title="Question", icon=":material/help:", default=True),
        st.Page("recovery.py", title="Recovery", icon=":material/healing:"),
        st.Page("evidence.py", title="Evidence", icon=":material/balance:"),
        st.Page("claims.py", title="Claims", icon=":material/fact_check:"),
    ],
    "The inside": [
        st.Page("drift.py", title="Drift", icon=":material/moving:"),
        st.Page("attention.py", title="Attention", icon=":material/grid_on:"),
        st.Page("choices.py", title="IDP", icon=":material/alt_route:"),
        st.Page("facts.py", title="Facts", icon=":material/search:"),
        st.Page("causal.py", title="Causal", icon=":material/account_tree:"),
        st.Page("live.py", title="Live", icon=":material/bolt:"),
    ],
    "Runs": [
        st.Page("new_study.py", title="New study", icon=":material/add_circle:"),
        st.Page("compare.py", title="Compare", icon=":material/compare:"),
        st.Page("figures.py", title="Figures", icon=":material/imagesmode:"),
    ],
}

st.set_page_config(page_title="Palimpsest", page_icon=ICON, layout="wide", initial_sidebar_state=270)
page = st.navigation(PAGES, expanded=True)
shared.choose()
page.run()
