"""What the server does before anyone comes: it loads what pages draw with, which the first page would wait for."""

import contextlib
import importlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import streamlit as st

ANALYSIS = Path(__file__).parent.parent
NEEDED = ("causal", "paper_files", "repair_report", "saying")
"""What pages read besides figures."""


def warm() -> None:
    """Load every module of figures and of tables, and what plotly loads no sooner than it draws; no model library."""
    import plotly.graph_objects as go

    from analysis import look
    from analysis.pages import drawing, shared  # noqa: F401

    for name in (*sorted(f"figures.{file.stem}" for file in (ANALYSIS / "figures").glob("[!_]*.py")), *NEEDED):
        importlib.import_module(f"analysis.{name}")
    figure = go.Figure().add_scatter(x=[0], y=[0], error_x={"array": [1]}, mode="markers", marker={"symbol": "circle"})
    look.dress(figure, title="", subtitle="", height=300)
    figure.to_json()


@contextlib.asynccontextmanager
async def warmed(app: st.App) -> AsyncIterator[dict[str, Any]]:
    """Before the server answers: beside it, the first page would wait for its own modules and for all others."""
    warm()
    yield {}
