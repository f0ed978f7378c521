"""Predictions, written down before the runs that test them: a file each, and `registry.py` lists them."""
