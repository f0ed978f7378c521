"""Which budgets a repair shares with the one it is measured against: said of every variant, whatever a study asked."""

import pandas as pd

from analysis.study import Study
from analysis.study_blocks import Budget, Rule

COLUMNS: dict[Rule, str] = {"parameters": "parameters_added", "tokens": "tokens_seen", "steps": "steps"}


def with_budget(variants: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The table of variants with `budget`: what each tuned one has equal, such as `parameters, steps`.

    Compared is the repair that the study's budget names (the first prompt unless told) over the same parent in the
    same replicate, as measured: steps exactly, parameters and tokens within the budget's tolerance. Missing for what
    was not tuned.

    Raises:
        RuntimeError: the study asked for a budget and a repair has it not.
    """
    rules = study.budget or Budget(equal=("parameters",))
    reference = rules.to or study.prompt.name
    by = ["scope", "compression", "replicate"]
    told = variants[variants["repair"] == reference].set_index(by)[list(COLUMNS.values())]
    found: list[str | None] = []
    for row in variants.itertuples():
        if not row.steps:
            found.append(None)
            continue
        wanted = told.loc[(row.scope, row.compression, row.replicate)]
        equal = [
            rule
            for rule, column in COLUMNS.items()
            if abs(getattr(row, column) - wanted[column]) <= _margin(rule, rules, float(wanted[column]))
        ]
        found.append(", ".join(equal))
    table = variants.assign(budget=found)
    if study.budget is not None:
        _require(table, study, study.budget)
    return table


def _margin(rule: Rule, budget: Budget, wanted: float) -> float:
    """Largest difference that counts as equal."""
    return 0.0 if rule == "steps" else budget.tolerance * wanted


def _require(table: pd.DataFrame, study: Study, budget: Budget) -> None:
    """The repairs that the study names have what it asks for; arms, transferred and small ones are said, not held."""
    named = {repair.name for repair in study.repairs if repair.tuned}
    for row in table[table["repair"].isin(named) & table["budget"].notna()].itertuples():
        if missed := set(budget.equal) - set(str(row.budget).split(", ")):
            raise RuntimeError(
                f"'{row.variant}' ({row.scope}) has not the budget asked for: {', '.join(missed)} differ"
            )
