"""The frame around the pages, run anew at every choice: their list, and the choices that all of them share."""

import streamlit as st

from analysis.pages import catalogue, shared

# Drawn here: a named icon would be fetched from a host on the internet.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><rect x="4" y="2" width="16" height="20" rx="2" '
    'fill="#0072B2"/><path d="M8 8h8M8 16h8" stroke="#fff" stroke-width="2"/><path d="M8 12h8" stroke="#fff" '
    'stroke-width="2" opacity=".35"/></svg>'
)
FIRST = catalogue.pages()[0].name
PAGES = {
    section: [
        st.Page(one.file, title=one.title, icon=f":material/{one.icon}:", default=one.name == FIRST) for one in listed
    ]
    for section, listed in catalogue.sections().items()
}


def tell_unread(shown: catalogue.Page) -> None:
    """Say at the side which of its boxes change nothing on this page."""
    if st.session_state["view"] is not None and shown.unread:
        st.sidebar.caption(f"Not used on this page: {', '.join(shown.unread)}.")


st.set_page_config(page_title="Palimpsest", page_icon=ICON, layout="wide", initial_sidebar_state=270)
page = st.navigation(PAGES, expanded=True)
shared.choose()
tell_unread(catalogue.page_of(page.url_path or FIRST))
page.run()
