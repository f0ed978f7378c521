"""All figures of a run for a paper: one function per figure, and the question that each answers.

A figure whose table a run has not, or has empty, is left out with its reason; none is ever drawn without data.
"""

import hashlib
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import reading, saying
from analysis.figures.account import account_figure
from analysis.figures.doses import dose_figure
from analysis.figures.drift import layerwise_drift_figure
from analysis.figures.evidence import calibration_figure, claim_rows, claims_figure, forest_figure, with_latency
from analysis.figures.figure import Figure
from analysis.figures.heads import attention_drift_figure
from analysis.figures.inside import heads_figure, interventions_figure, lens_figure, probes_figure
from analysis.figures.maps import maps_figure
from analysis.figures.prompts import latency_figure, selectors_figure
from analysis.figures.recovery import parameters_figure, recovery_figure
from analysis.figures.tasks import perplexity_figure, task_scores, tasks_figure
from analysis.figures.transfer import transfer_figure
from analysis.look import looks_of, reading_words
from analysis.repair_report import latency_of
from analysis.scopes import ABLATIONS, MAIN
from analysis.selecting import at_home
from analysis.task_scores import ALL, compare_tasks, perplexities
from data.errors import InputError
from data.naming import nearest

READING = "candidates"
LONGEST = 200
"""Bytes of a file's name, less what is put before and behind it."""
SHOWN_KINDS = ("", "placebo", "prompt", "prefix", "ptuning", "idp", "lora", "idp+lora")
"""Kinds of variants whose layers are drawn: every arm at once would cover one another."""
Drawn = Iterator[tuple[str, Figure]]


@dataclass(frozen=True)
class Source:
    """The tables of one run, each read once."""

    run: Path
    read: Callable[[str], pd.DataFrame] | None = None
    """Another reader of the run's tables, such as one that keeps them between pages."""
    held: dict[str, pd.DataFrame] = field(default_factory=dict)

    def table(self, name: str) -> pd.DataFrame:
        """One table of the run.

        Raises:
            InputError: it is missing, damaged or empty.
        """
        if name not in self.held:
            self.held[name] = (self.read or (lambda name: reading.read_table(self.run, name)))(name)
        if self.held[name].empty:
            raise InputError(f"table '{name}' is empty: the study asks for nothing that fills it")
        return self.held[name]

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
        return reading.chances_of(reading.read_table(self.run, "answers", columns))

    @cached_property
    def compared_tasks(self) -> pd.DataFrame:
        """Every variant on every task against its references, as the results table has it."""
        return compare_tasks(self.table("tasks"), self.table("variants"))

    @cached_property
    def perplexities(self) -> pd.DataFrame:
        """Perplexity of every variant on every text; no rows where the study names none."""
        held = reading.read_table(self.run, "perplexity")
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


@dataclass(frozen=True)
class PaperFigure:
    """A figure by name: a run may have several of it, each with a suffix."""

    name: str
    question: str
    draw: Callable[[Source], Drawn]
    narrow: bool = False
    """Whether one of its figures fits a single column of text where it has one column of panels."""


def _recovery(source: Source) -> Drawn:
    recovery = source.own_recovery
    for scope in source.scopes():
        for group in source.groups(scope):
            chance = source.chances.get(group)
            yield f"{scope}-{group}", recovery_figure(recovery, scope, group, READING, chance=chance)


def _tasks(source: Source) -> Drawn:
    yield "", tasks_figure(task_scores(source.compared_tasks))


def _perplexity(source: Source) -> Drawn:
    source.table("perplexity")  # which says why where there is none
    scores = task_scores(source.compared_tasks)
    whole = scores[scores["task"] == ALL] if ALL in set(scores["task"]) else scores
    yield "", perplexity_figure(source.perplexities, whole, "all tasks")


def _dose(name: str) -> Callable[[Source], Drawn]:
    """Facts by group, of the ablations where the study has them, and where the run has them all tasks together."""

    def draw(source: Source) -> Drawn:
        recovery, steps, groups = source.own_recovery, source.steps, source.groups()
        # Ablations are of one compression: how much damage there is stands among the study's own.
        scope = ABLATIONS if ABLATIONS in source.scopes() and name != "damage" else MAIN
        part = recovery[(recovery["scope"] == scope) & (recovery["reading"] == READING) & (recovery["split"] == "test")]
        part = (
            part[part["measure"] == "accuracy"]
            .rename(columns={"entities": "n"})
            .assign(steps=part["variant"].map(steps))
        )
        asked = {group: (part[part["group"] == group], f"group {group}, {reading_words(READING)}") for group in groups}
        if reading.read_manifest(source.run)["study"].get("tasks") is not None:
            scores = task_scores(source.compared_tasks).rename(columns={"items": "n"})
            scores = scores[scores["task"] == scores["task"].iloc[-1]]
            asked["tasks"] = (scores.assign(steps=scores["variant"].map(steps)), "standard tasks")
        yield from _of_several(asked, name)

    return draw


def _of_several(asked: dict[str, tuple[pd.DataFrame, str]], name: str) -> Drawn:
    """A figure of whatever was asked of several amounts.

    Raises:
        InputError: nothing was.
    """
    reasons = []
    for suffix, (scores, of) in asked.items():
        try:
            yield suffix, dose_figure(scores, name, of)
        except InputError as error:
            reasons.append(error)
    if len(reasons) == len(asked):
        raise reasons[0]


def _drift(site: str, metric: str = "relative_l2") -> Callable[[Source], Drawn]:
    def draw(source: Source) -> Drawn:
        drift = source.table("drift")
        groups = list(dict.fromkeys(drift["group"]))
        for group in groups:
            yield group, layerwise_drift_figure(drift, source.shown_variants(), metric, site, group, "dense")

    return draw


def _attention(source: Source) -> Drawn:
    attention = source.table("attention")
    for group in dict.fromkeys(attention["group"]):
        yield group, attention_drift_figure(attention, source.shown_variants(), "jensen_shannon", group, "dense")


def _maps(source: Source) -> Drawn:
    examples, variants = source.table("examples"), source.shown_variants()
    names = dict(zip(variants["variant_id"], variants["variant"], strict=True))
    placebos = set(variants.loc[variants["kind"] == "placebo", "variant_id"])
    for file, rows in examples[examples["variant_id"].isin(names)].groupby("file", sort=False):
        own = {one: names[one] for one in rows["variant_id"] if one not in placebos}
        yield str(file).removesuffix(".npz"), maps_figure(reading.read_example(source.run, str(file)), own)


def _selectors(source: Source) -> Drawn:
    selectors, variants = source.table("selectors"), source.variants()
    group = source.groups()[0]
    for repair in dict.fromkeys(variants.loc[variants["variant_id"].isin(selectors["variant_id"]), "repair"]):
        yield repair, selectors_figure(selectors, variants, repair, group)


def _parameters(source: Source) -> Drawn:
    for group in source.groups():
        yield group, parameters_figure(source.own_recovery, MAIN, group, READING)


def _latency(source: Source) -> Drawn:
    latency = reading.read_latency(source.run)
    if latency is None:
        raise InputError(f"nothing was timed: `python -m analysis repairs {source.run.name} --latency` does it")
    ratios = latency_of(latency)
    for group in source.groups():
        yield group, latency_figure(source.table("recovery"), ratios, MAIN, group, READING)


def _account(source: Source) -> Drawn:
    for name in ("settings", "controls"):
        account = saying.account_table(source.verdict[name])
        if len(account):
            yield name, account_figure(account)


def _evidence(source: Source) -> Drawn:
    predictions = saying.prediction_table([*source.verdict["settings"], *source.verdict["controls"]])
    if predictions.empty:
        raise InputError("the verdict holds no comparison: name repairs under `reported` in the study")
    yield "", forest_figure(predictions)


def _calibration(source: Source) -> Drawn:
    found = reading.read_calibration()
    yield "", calibration_figure(found.summary, found.organisms)


def _claims(source: Source) -> Drawn:
    measured = claim_rows(with_latency(source.verdict["claims"], reading.read_latency(source.run)))
    if measured.empty:
        raise InputError("no claim of the paper was measured in this run")
    yield "", claims_figure(measured)


def _lens(source: Source) -> Drawn:
    lens = source.table("lens")
    for metric in ("lens_log_prob", "lens_divergence"):
        for group in [group for group in source.groups() if group in set(lens["group"])]:
            yield f"{metric.removeprefix('lens_')}-{group}", lens_figure(lens, source.shown_variants(), metric, group)


def _probes(source: Source) -> Drawn:
    probes = source.table("probes")
    for group in [group for group in source.groups() if group in set(probes["group"])]:
        for way in dict.fromkeys(probes["way"]):
            yield f"{group}-{way}", probes_figure(probes, source.variants(), group, str(way))


def _interventions(source: Source) -> Drawn:
    table, variants = source.table("interventions"), source.variants()
    for row in variants[variants["variant_id"].isin(table["variant_id"])].itertuples():
        own = table[table["variant_id"] == row.variant_id]
        for kind, setting in (("patching", "last"), ("knockout", "zeroed")):
            rows = own[own["intervention"] == kind]
            for heads, draw in ((False, interventions_figure), (True, heads_figure)):
                if len(rows[(rows["head"] >= 0) == heads]):
                    suffix = f"{kind}{'-heads' if heads else ''}-{row.variant}"
                    yield suffix, draw(rows, variants, row.variant_id, setting)


def _transfer(source: Source) -> Drawn:
    transfer = source.table("transfer")
    for group in dict.fromkeys(transfer["group"]):
        yield str(group), transfer_figure(transfer, str(group), READING)


FIGURES = (
    PaperFigure("recovery", "is what compression damaged answered again, and by subjects never read?", _recovery),
    PaperFigure("tasks", "on which task does a repair bring back what compression took?", _tasks),
    PaperFigure("perplexity", "does perplexity tell what happened to the answers?", _perplexity),
    PaperFigure("prompt-length", "how long must a prompt be?", _dose("length"), narrow=True),
    PaperFigure("bank-size", "how many prompts must a bank hold?", _dose("prompts"), narrow=True),
    PaperFigure("tuning-steps", "how long must a repair be tuned?", _dose("steps"), narrow=True),
    PaperFigure("lora-rank", "how large must an adapter be?", _dose("rank"), narrow=True),
    PaperFigure("damage", "how much damage can be repaired?", _dose("damage"), narrow=True),
    PaperFigure(
        "drift-residual", "at which layer does the residual stream part from dense?", _drift("resid_post"), narrow=True
    ),
    PaperFigure("drift-mlp", "at which layer do MLP activations part from dense?", _drift("mlp_out"), narrow=True),
    PaperFigure("drift-attention", "at which layer does attention part from dense?", _attention, narrow=True),
    PaperFigure("attention-maps", "to what does each token attend, variant by variant?", _maps),
    PaperFigure("selectors", "is it worth choosing among the prompts of a bank?", _selectors),
    PaperFigure("parameters", "what does an answer that comes back cost in parameters?", _parameters, narrow=True),
    PaperFigure("latency", "what does an answer that comes back cost in time?", _latency, narrow=True),
    PaperFigure("account", "where has what was known gone?", _account),
    PaperFigure("evidence", "does any repair return more than arms that hold no knowledge?", _evidence),
    PaperFigure("calibration", "is the verdict right where the truth is known?", _calibration),
    PaperFigure("claims", "what did this run find of each claim of the paper?", _claims),
    PaperFigure("lens", "at which layer does a variant begin to say the right answer?", _lens, narrow=True),
    PaperFigure("probes", "can a linear map read the answer off a layer?", _probes, narrow=True),
    PaperFigure("interventions", "where does a state bring the answer back?", _interventions, narrow=True),
    PaperFigure("transfer", "does a repair help where it was not tuned?", _transfer),
)


def figure_names(text: str) -> tuple[str, ...]:
    """Names of figures from a list with commas.

    Raises:
        InputError: there is no figure of that name.
    """
    names = [one.name for one in FIGURES]
    asked = tuple(one.strip() for one in text.split(",") if one.strip())
    if unknown := [one for one in asked if one not in names]:
        raise InputError(f"no figure '{unknown[0]}'; {nearest(unknown[0], names)}")
    return asked


@dataclass(frozen=True)
class Named:
    """One figure of a run, ready to be written."""

    name: str
    figure: Figure
    wide: bool
    """Whether it takes the whole width of the text, not a single column."""


def _columns(figure: Figure) -> int:
    """How many panels stand side by side."""
    return len({axis.domain for axis in figure.figure.select_xaxes()})


def drawn(source: Source, names: Sequence[str] = ()) -> tuple[list[Named], dict[str, str]]:
    """Every figure that the run has the tables for, and why the others are left out; looks are those of the run."""
    with looks_of(source.every_variant()):
        return _drawn(source, names)


def _drawn(source: Source, names: Sequence[str]) -> tuple[list[Named], dict[str, str]]:
    found: list[Named] = []
    left_out: dict[str, str] = {}
    for one in FIGURES:
        if names and one.name not in names:
            continue
        before = len(found)
        try:
            for suffix, figure in one.draw(source):
                wide = not (one.narrow and _columns(figure) == 1)
                name = untaken(file_name(one.name, suffix), {other.name for other in found})
                found.append(Named(name, figure, wide))
        except InputError as error:
            left_out[one.name] = str(error).removeprefix(f"run '{source.run.name}': ")
        else:
            if len(found) == before:
                left_out[one.name] = "its table has nothing of this run's own groups and variants"
    return found, left_out


def file_name(name: str, suffix: str) -> str:
    """A name that is safe in every file system and in LaTeX: letters, figures, hyphens, and not too many of them."""
    whole = f"{name}-{suffix}" if suffix else name
    kept = "".join(letter if letter.isalnum() else "-" for letter in whole.lower())
    joined = "-".join(part for part in kept.split("-") if part)
    if len(joined.encode()) <= LONGEST:
        return joined
    digits = hashlib.sha256(whole.encode()).hexdigest()[:6]
    return f"{joined.encode()[: LONGEST - 7].decode(errors='ignore')}-{digits}"


def untaken(name: str, taken: Collection[str]) -> str:
    """A name for a file, with a number where another has it: what tells two suffixes apart may be no letter."""
    numbers = (f"{name}-{number}" for number in itertools.count(2))
    return name if name not in taken else next(one for one in numbers if one not in taken)
