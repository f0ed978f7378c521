"""What a prediction is: its words as written down, what it is measured from, and how what was found is said.

A prediction that is not tested says so: what was not tested supports nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml

from analysis.evidence import Evidence
from analysis.intervals import Sample
from analysis.reading import p_words
from analysis.study import Study

RECORD = Path(__file__).with_name("predictions.yaml")
"""The words of the first predictions, dated; its hash stands in manifests, so that a byte of it is never changed."""
LEVEL = 0.05
Entry = dict[str, Any]
"""What a verdict holds of one prediction."""
Tables = Mapping[str, pd.DataFrame]
Setting = Mapping[str, Any]
"""One compression and repair, as the verdict holds them."""


@dataclass(frozen=True, kw_only=True)
class Words:
    """A prediction as it was written down before the run that tests it."""

    name: str
    about: Literal["knowledge", "mechanism"]
    """Whether it asks if the knowledge is there, or how it comes back."""
    decides: bool
    """Whether the verdict rests on it; the others stand beside."""
    direction: Literal["above", "none"]
    """Whether it is tested, one-sided, or described only."""
    H0: str
    H1: str
    statistic: str
    control: str
    source: str

    def entry(self, **found: Any) -> Entry:
        """What is said of the prediction, with the figures that were found."""
        blank = dict.fromkeys(("estimate", "lower", "upper", "p", "p_corrected", "n"))
        told = {"name": self.name, "about": self.about, "statistic": self.statistic}
        return {**told, **blank, "supports": "neither", **found}

    def not_run(self, why: str) -> Entry:
        """A prediction of which nothing is said; tables may still describe what it is about."""
        return self.entry(sentence=f"{self.name}: {why}")

    def measured(self, found: Mapping[str, float], p: float, n: int, *, above: str = "H1") -> Entry:
        """The prediction with its figure; `above` is the hypothesis that a value above 0 supports."""
        figure = f"{found['estimate']:+.2f} [{found['lower']:+.2f}, {found['upper']:+.2f}], p {p_words(p)}, n {n}"
        supports = above if p < LEVEL else "neither"
        return self.entry(**found, p=p, n=n, supports=supports, sentence=f"{self.name}: {figure} ({self.statistic})")

    def sampled(self, found: Sample, n: int) -> Entry:
        """With a figure that was drawn by the bootstrap: its 95 % interval and one-sided p above 0."""
        lower, upper = found.interval()
        return self.measured({"estimate": found.point, "lower": lower, "upper": upper}, found.p_above_zero, n)

    def stored(self) -> dict[str, Any]:
        """As the hash of what was predicted reads it."""
        return asdict(self)


@cache
def record() -> dict[str, Words]:
    """The predictions of the record, by name, in its order."""
    return {one["name"]: Words(**one) for one in yaml.safe_load(RECORD.read_text(encoding="utf-8"))}


def recorded(name: str) -> Words:
    """The words of a prediction of the record."""
    return record()[name]


@dataclass(frozen=True)
class Asked:
    """One setting of a run, and all that its predictions may be measured from."""

    evidence: Evidence
    tables: Tables
    setting: Setting
    study: Study

    @property
    def scope(self) -> str:
        """Of the setting."""
        return str(self.setting["scope"])

    @property
    def compression(self) -> str:
        """Of the setting."""
        return str(self.setting["compression"])

    @property
    def repair(self) -> str:
        """Of the setting."""
        return str(self.setting["repair"])

    @property
    def placebo(self) -> str:
        """The untrained prompts that the study's prompt is compared with."""
        return f"placebo-{self.study.prompt.length}"

    @property
    def lora(self) -> str | None:
        """The study's first LoRA."""
        return next((one.name for one in self.study.repairs if one.kind == "lora"), None)

    @property
    def shuffled(self) -> str | None:
        """The prompt tuned on answers dealt to the wrong subjects."""
        return next((one.name for one in self.study.factless_prompts if one.answers == "shuffled"), None)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A prediction and how it is measured."""

    words: Words
    measure: Callable[[Asked], Entry] | None = None
    """None for what decides: the verdict itself compares those arms (`analysis/hypothesis.py`)."""
    tables: tuple[str, ...] = ()
    """Tables that it is measured from, beside the answers and what each variant is."""

    @property
    def name(self) -> str:
        """As verdicts have it."""
        return self.words.name

    @property
    def decides(self) -> bool:
        """Whether the verdict rests on it."""
        return self.words.decides


def rows_of(tables: Tables, name: str, setting: Setting) -> pd.DataFrame | None:
    """The rows of a table that lie in the setting's scope, with what each variant is; None where there is no table."""
    if name not in tables or tables[name].empty:
        return None
    known = tables["variants"].set_index("variant_id")[["scope", "compression", "repair", "replicate"]]
    table = tables[name]
    joined = table.drop(columns=[one for one in known.columns if one in table]).join(known, on="variant_id")
    return joined[joined["scope"] == setting["scope"]]


def pick(table: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """The rows that have all the wanted values."""
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table
