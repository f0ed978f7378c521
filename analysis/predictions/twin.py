"""The twin of a repair: tuned for as long on as many facts whose answers were dealt anew within their relation.

Bits are calibrated by relation, so that habits of answering (base rates) give none.
"""

from analysis.predictions.prediction import Entry, Setting, Words

FEWEST = 3
"""Replicates below which nothing is said of their mean."""


def has_twin(setting: Setting, shuffled: str | None) -> bool:
    """Whether the setting's repair has a twin that was tuned on answers dealt anew."""
    return shuffled is not None and shuffled == f"{setting['repair']}-shuffled"


def no_twin(words: Words, setting: Setting) -> Entry:
    """That the setting's repair has none."""
    return words.not_run(f"not run: {setting['repair']} has no twin tuned on answers dealt anew")
