"""Ablations as figures: what is answered right against how much there is of one thing, everything else alike.

length     soft tokens of a prompt, prefix or placebo
prompts    prompts in a bank of equal ones
steps      tuning steps of a prompt or of LoRA
rank       LoRA's
damage     bits or sparsity of the compression itself
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from analysis import reading
from analysis.figures.entry import Drawn, RunFigure
from analysis.figures.figure import Figure
from analysis.figures.source import READING, Source
from analysis.figures.tasks import task_scores
from analysis.literal import for_plotly
from analysis.look import (
    GREY,
    NO_REPAIR,
    UNKNOWN_KIND,
    colour_of,
    dashes_of,
    dress,
    kind_of,
    label_bottom,
    marker,
    panels_of,
    reading_words,
    rows_of,
    symbols_of,
)
from analysis.marks import whiskers
from analysis.scopes import ABLATIONS, MAIN
from data.errors import InputError

STEPS = re.compile(r"-(\d+)steps")
AMOUNT = re.compile(r"(.+?)-(\d+(?:\.\d+)?)(bit|%)(.*)")
"""A compression's name: method, how much, of what, and the rest of its recipe."""


@dataclass(frozen=True)
class Dose:
    """One thing that a study can have more or less of."""

    title: str
    unit: str
    missing: str
    """What a study has to name."""
    read: Callable[[pd.Series], tuple[str, str, float] | None]
    """Panel, series and amount of a row with compression, repair and steps; None for one that has none of it."""
    logarithmic: bool = True


def _by_name(pattern: str) -> Callable[[pd.Series], tuple[str, str, float] | None]:
    """The amount stands in the repair's name, first group; repairs of one kind are one line."""

    def read(row: pd.Series) -> tuple[str, str, float] | None:
        found = re.fullmatch(pattern, row["repair"])
        return found and (row["compression"], kind_of(row["repair"]), float(found[1]))

    return read


def _steps(row: pd.Series) -> tuple[str, str, float] | None:
    """Steps as they were made; repairs whose names are alike but for these are one line."""
    if not row["steps"] > 0 or kind_of(row["repair"]) in ("masked", "shuffled"):
        return None
    return row["compression"], STEPS.sub("", row["repair"]), float(row["steps"])


def _damage(row: pd.Series) -> tuple[str, str, float] | None:
    """Bits or sparsity of the compression's name; a line per repair and for none."""
    found = AMOUNT.fullmatch(row["compression"])
    if found is None or kind_of(row["repair"]) in ("masked", "shuffled", "recalibrated"):
        return None
    unit = "bits" if found[3] == "bit" else "% zeros"
    return f"{found[1]}{found[4]}, {unit}", row["repair"], float(found[2])


DOSES = {
    "length": Dose(
        "How long a prompt must be",
        "soft tokens",
        "prompts of one length alone: name prompts of several lengths in the study",
        _by_name(r"(?:prompt|prefix|ptuning|placebo)-(\d+)(?:-lstm)?(?:-masked|-shuffled)?"),
    ),
    "prompts": Dose(
        "How many prompts a bank must hold",
        "prompts in the bank",
        "banks of one size alone: name IDP with several numbers of equal prompts in the study",
        _by_name(r"idp-(\d+)x\d+-\w+"),
    ),
    "steps": Dose(
        "How long a repair must be tuned",
        "tuning steps",
        "repairs of one number of steps alone: name a repair with several `steps` in the study",
        _steps,
    ),
    "rank": Dose(
        "How large an adapter must be",
        "rank",
        "adapters of one rank alone: name LoRA of several ranks in the study",
        _by_name(r"lora-r(\d+)"),
    ),
    "damage": Dose(
        "How much damage can be repaired",
        "bits left, or share of weights set to zero",
        "compressions of one strength alone: name one method with several bits or sparsities in the study",
        _damage,
        logarithmic=False,
    ),
}


def dose_figure(scores: pd.DataFrame, name: str, of: str) -> Figure:
    """Accuracy against an amount, with 95 % intervals: a panel per compression (or method), a line per repair.

    `scores` has compression, repair, steps, value, lower, upper and n; `of` says what was answered. The level line of
    a panel is the copy without a repair.

    Raises:
        InputError: the run has one amount of it alone.
    """
    dose = DOSES[name]
    read = [dose.read(row) for _, row in scores.iterrows()]
    held = scores.assign(place=range(len(scores)))[[one is not None for one in read]]
    told = pd.DataFrame([one for one in read if one], columns=["panel", "series", "amount"], index=held.index)
    data = held.join(told).sort_values("amount", kind="stable")
    true = data[~data["series"].isin(["placebo", "masked", "shuffled"])]
    several = true.groupby(["panel", "series"])["amount"].nunique()
    if several.empty or several.max() < 2:
        raise InputError(dose.missing)
    lines = several[several > 1].index
    if name in ("steps", "damage"):  # a lone amount of another repair says nothing here
        data = data[pd.MultiIndex.from_frame(data[["panel", "series"]]).isin(lines)]
    return Figure(_drawn(data, scores, dose, of), data.drop(columns="place"))


def _firsts(data: pd.DataFrame) -> dict[str, str]:
    """The first repair of every line."""
    return dict(data.drop_duplicates("series")[["series", "repair"]].itertuples(index=False))


def _drawn(data: pd.DataFrame, scores: pd.DataFrame, dose: Dose, of: str) -> go.Figure:
    figure, panels = panels_of(data["panel"])
    # A line stands for several repairs: one name without its steps, or a kind. Its look is that of the kind then.
    looks = {one: one if kind_of(one) != UNKNOWN_KIND else kind_of(first) for one, first in _firsts(data).items()}
    symbols = symbols_of(looks.values())
    dashes = dict.fromkeys(panels, "solid") | dashes_of(scores["compression"])  # a method is no compression
    shown: set[str] = set()
    for (panel, one), rows in data.groupby(["panel", "series"], sort=False):
        words = one or NO_REPAIR
        figure.add_scatter(
            x=rows["amount"],
            y=rows["value"],
            error_y=whiskers(rows["value"], rows["lower"], rows["upper"], colour_of(looks[one])),
            mode="lines+markers",
            line={"color": colour_of(looks[one]), "width": 2, "dash": dashes[panel]},
            marker=marker(looks[one], symbols[looks[one]], 9),
            name=for_plotly(words),
            legendgroup=words,
            showlegend=words not in shown,
            **panels[panel],
        )
        shown.add(words)
    for row in scores[(scores["repair"] == "") & scores["compression"].isin(panels)].itertuples():
        figure.add_scatter(
            x=[data["amount"].min(), data["amount"].max()],
            y=[row.value, row.value],
            mode="lines",
            line={"color": GREY, "width": 1.4, "dash": "dot"},
            name=NO_REPAIR,
            legendgroup=NO_REPAIR,
            showlegend=NO_REPAIR not in shown,
            **panels[row.compression],
        )
        shown.add(NO_REPAIR)
    label_bottom(figure, dose.unit)
    for panel, place in panels.items():
        amounts = sorted(set(data.loc[data["panel"] == panel, "amount"]))
        ticks = {"tickvals": amounts, "ticktext": [f"{one:g}" for one in amounts]}
        figure.update_xaxes(type="log" if dose.logarithmic else "linear", **ticks, **place)
    figure.update_yaxes(range=[-0.03, 1.03], tickformat=".1f")
    figure.update_yaxes(title="accuracy (share right)", col=1)
    dress(
        figure,
        title=f"{dose.title}, {of}",
        subtitle=f"95 % intervals; n = {data['n'].max()}",
        height=170 + 300 * rows_of(panels),
    )
    return figure


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


def _of_amounts(name: str, question: str, dose: str) -> RunFigure:
    """A figure of how much there is of one thing."""
    return RunFigure(
        name=name,
        question=question,
        draw=_dose(dose),
        tables=("recovery", "variants"),
        also=("tasks",),
        each="group of facts, and for tasks",
        narrow=True,
    )


LENGTH = _of_amounts("prompt-length", "how long must a prompt be?", "length")
BANK = _of_amounts("bank-size", "how many prompts must a bank hold?", "prompts")
STEPS_MADE = _of_amounts("tuning-steps", "how long must a repair be tuned?", "steps")
RANK = _of_amounts("lora-rank", "how large must an adapter be?", "rank")
DAMAGE = _of_amounts("damage", "how much damage can be repaired?", "damage")
