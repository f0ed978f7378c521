"""Predictions that the four-way account of a setting measures already: what came back, and what was only learned."""

from analysis.predictions.prediction import Asked, Entry, Prediction, Setting, Words, recorded


def accounted(words: Words, setting: Setting, quantity: str, p: str, above: str) -> Entry:
    """What the setting's own account measures: its quantity, its p, and what a value above 0 supports."""
    if setting[quantity] is None:
        return words.not_run("cannot be said: an arm was not run")
    return words.measured(setting[quantity], setting[p], setting["entities"], above=above)


def _gained(asked: Asked) -> Entry:
    return accounted(GAINED.words, asked.setting, "gain_bits", "gain_p", "H1")


def _relearned(asked: Asked) -> Entry:
    return accounted(RELEARNED.words, asked.setting, "relearned_bits", "relearned_p", "H0")


GAINED = Prediction(words=recorded("test facts come back"), measure=_gained)
RELEARNED = Prediction(words=recorded("tune facts come back beyond test facts"), measure=_relearned)
