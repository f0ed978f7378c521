"""The form of what a run stores: every table with its columns, and `verdict.json`; written and read through it."""
