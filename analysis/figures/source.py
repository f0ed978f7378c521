"""What figures of a run are drawn from: its tables and its verdict, each read once."""

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import reading
from analysis.schema.registry import TABLES
from analysis.scopes import MAIN
from analysis.selecting import at_home
from analysis.task_scores import compare_tasks, perplexities
from data.errors import InputError

READING = "candidates"
EMPTY = "table '{}' is empty: the study asks for nothing that fills it"
SHOWN_KINDS = ("", "placebo", "prompt", "prefix", "ptuning", "idp", "lora", "idp+lora")
"""Kinds of variants whose layers are drawn: every arm at once would cover one another."""


@dataclass(frozen=True)
class Source:
    """The tables of one run, each read once."""

    run: Path
    held: dict[str, pd.DataFrame] = field(default_factory=dict)

    def table(self, name: str) -> pd.DataFrame:
        """One table of the run.

        Raises:
            InputError: it is missing, damaged or empty.
        """
        if name not in self.held:
            self.held[name] = self.rows(name)
        if self.held[name].empty:
            raise InputError(EMPTY.format(name))
        return self.held[name]

    def require(self, names: Collection[str]) -> None:
        """See that the run has these tables and that each has rows, by one column of each.

        Raises:
            InputError: one is missing, damaged or empty.
        """
        for name in names:
            held = self.held.get(name)
            if (self.rows(name, [TABLES.of(name).names[0]]) if held is None else held).empty:
                raise InputError(EMPTY.format(name))

    def rows(self, name: str, columns: list[str] | None = None) -> pd.DataFrame:
        """One table of the run, or these columns of it, which may have no rows.

        Raises:
            InputError: it is missing or damaged.
        """
        return reading.read_table(self.run, name, columns)

    @cached_property
    def verdict(self) -> dict[str, Any]:
        """What the run's evidence licenses."""
        return reading.read_verdict(self.run)

    @cached_property
    def own_recovery(self) -> pd.DataFrame:
        """Recovery where a repair was tuned: what is used elsewhere has a figure of its own."""
        recovery = self.table("recovery")
        return recovery[recovery["variant"].isin(at_home(self.table("variants"))["variant"])]

    @cached_property
    def chances(self) -> dict[str, float]:
        """Accuracy of a guess among the candidates, by group."""
        # Answers are the largest table: chance is read off the columns it needs.
        columns = ["item", "group", "split", "relation", "answer", "predicted", "reading"]
        return reading.chances_of(self.rows("answers", columns))

    @cached_property
    def compared_tasks(self) -> pd.DataFrame:
        """Every variant on every task against its references, as the results table has it."""
        return compare_tasks(self.table("tasks"), self.table("variants"))

    @cached_property
    def perplexities(self) -> pd.DataFrame:
        """Perplexity of every variant on every text; no rows where the study names none."""
        held = self.rows("perplexity")
        return perplexities(held, self.table("variants"))

    @cached_property
    def steps(self) -> dict[str, float]:
        """Tuning steps by variant; 0 where nothing was tuned."""
        variants = self.table("variants").drop_duplicates("variant")
        return dict(zip(variants["variant"], variants["steps"].fillna(0.0), strict=True))

    def every_variant(self) -> pd.DataFrame:
        """The variants of all scopes; none where there is no such table, which each figure that reads it says."""
        try:
            return self.table("variants")
        except InputError:
            return pd.DataFrame(columns=["compression", "repair", "drawn_as"])

    def variants(self, scope: str = MAIN) -> pd.DataFrame:
        """The variants of one scope."""
        table = self.table("variants")
        return table[table["scope"] == scope]

    def shown_variants(self) -> pd.DataFrame:
        """Variants of the study whose layers are drawn."""
        table = self.variants()
        return table[table["drawn_as"].isin(SHOWN_KINDS)]

    def groups(self, scope: str = MAIN) -> list[str]:
        """Groups of facts of one scope."""
        recovery = self.table("recovery")
        return list(dict.fromkeys(recovery.loc[recovery["scope"] == scope, "group"]))

    def scopes(self) -> list[str]:
        """Main first, then the controls."""
        return list(dict.fromkeys(self.table("recovery")["scope"]))
