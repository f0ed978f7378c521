"""The workbench in a browser: `streamlit run app.py` serves the frame and its pages from analysis/pages."""

import streamlit as st

from analysis.pages import serving

app = st.App("analysis/pages/frame.py", lifespan=serving.warmed)
