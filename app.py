"""The workbench in a browser: the frame around the pages, and the choices that all of them share."""

import streamlit as st

from analysis.pages import shared

# Drawn here: a named icon would be fetched from a host on the internet.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><rect x="4" y="2" width="16" height="20" rx="2" '
    'fill="#0072B2"/><path d="M8 8h8M8 16h8" stroke="#fff" stroke-width="2"/><path d="M8 12h8" stroke="#fff" '
    'stroke-width="2" opacity=".35"/></svg>'
)

st.set_page_config(page_title="Palimpsest", page_icon=ICON, layout="wide")
page = st.navigation(shared.PAGES, expanded=True)
shared.choose()
page.run()
