"""The metrics of drift and attention. One more is a file here with a `REDUCER`, and its entry in `registry.METRICS`.

metric.py      what an entry says of a metric; no torch
registry.py    the list of entries: names, words, units and groups are read from nowhere else; no torch
seen.py        what a reducer is handed: one site of one batch
the others     a reducer each: one metric, or several that share a computation
"""
