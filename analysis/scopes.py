"""Scopes: what is asked of whom within one study. Beside these every control is one, by its own name."""

MAIN = "main"
"""The study's own groups, of every compression and repair, in every replicate: the verdict speaks of these."""
ABLATIONS = "ablations"
"""The same groups, of repairs of which there is more or less, on one compression in the first replicate."""
