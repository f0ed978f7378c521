"""Ask every prompt of a bank and take the mean of their log-probabilities."""

from collections.abc import Sequence
from pathlib import Path

from analysis.choices import bank_table
from data.facts import Item
from probes.outcomes import outcomes
from probes.repairs.bank import Fitting
from probes.scoring import Score
from probes.selection.mixture import score_mixture
from probes.variants import Variant


def asked_ensemble(found: Fitting, items: Sequence[Item], batch: int, folder: Path) -> tuple[Variant, list[Score]]:
    """The ensemble's answers, and the bank's first prompt as a variant that can be asked any row."""
    bank_table(found).to_parquet(folder / "banks.parquet", index=False)
    asked = outcomes(found.opened.model, found.opened.tokenizer, found.prompts, items, batch=batch)
    return asked.members[0], score_mixture(asked.members, asked.singles, items, batch=batch, mean="log_probabilities")
