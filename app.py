"""The workbench in a browser: the frame around the pages, and the choices that all of them share."""

import streamlit as st

from analysis.pages import shared

st.set_page_config(page_title="Palimpsest", page_icon=":material/history_edu:", layout="wide")
page = st.navigation(shared.PAGES)
shared.choose()
page.run()
