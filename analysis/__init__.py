"""Numbers to verdicts. Imports `data` and `probes`."""
