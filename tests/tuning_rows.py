"""Statements to tune on, and a budget that is soon spent."""

from typing import Any

STATEMENTS = (
    ("ada lives in", "london"),
    ("the home of bruno is", "berliners"),
    ("celia", "oslo"),
    ("dario was born near", "oslo"),
)
BUDGET: dict[str, Any] = {"steps": 30, "batch": 4, "text_batch": 0, "learning_rate": 0.1, "seed": 0}
