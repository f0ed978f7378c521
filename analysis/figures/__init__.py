"""Figures of a run: one file a question, each figure with the rows that it draws; the list is `registry.py`."""
