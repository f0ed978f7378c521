"""The paper's claims (arXiv 2310.00867) beside what a run measured of them, each with its interval.

A run that holds no measurement of a claim says so: a claim is never taken for met because nothing spoke against it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from analysis.claims_tasks import FEWEST, perplexity_tells, task_difference
from analysis.evidence import Evidence
from analysis.intervals import crossed_estimate
from analysis.predictions.lengths import lengths_of
from analysis.recovery import arms_of, item_counts
from analysis.scopes import ABLATIONS, MAIN
from analysis.study import Study

GAIN, FEWER = 0.0124, 21.0
"""The paper's figures: mean accuracy gained over nine tasks (abstract of its first version), and how many times fewer
parameters (of its third)."""
NOT_MEASURED = "not measured in this run"
FASTER = "IDP is faster than LoRA"
Measured = dict[str, Any]
Claim = dict[str, Any]
Against = Callable[[str | None, str | None], list[Measured | None]]
"""Compares two repairs by name, on facts and on tasks, under every compression."""


def _difference(evidence: Evidence, compression: str, first: str, second: str, scope: str = MAIN) -> Measured | None:
    """Accuracy of one repair less another's on the same test facts, over replicates and subjects."""
    masks = {name: evidence.rows(scope, compression, name, "test") for name in (first, second)}
    if not all(mask.any() for mask in masks.values()):
        return None
    tables = arms_of(evidence.joined, masks, "correct")
    rows = evidence.joined[masks[first]]
    found = crossed_estimate(
        tables,
        lambda arm: arm[first] - arm[second],
        weights=item_counts(rows, pd.Index(sorted(rows["entity"].unique()))),
        seed=0,
    )
    said = f"{first} less {second}, accuracy on test facts under {compression}: {found} ({found.clusters} subjects)"
    return _measured(f"{compression}, facts", first, found.estimate, found.lower, found.upper) | {
        "unit": f"accuracy less that of {second}",
        "n": found.clusters,
        "sentence": said,
    }


def _on_tasks(tables: Mapping[str, pd.DataFrame], compression: str, first: str, second: str) -> Measured | None:
    """Accuracy of one repair less another's over every item of the study's standard tasks."""
    if tables["tasks"].empty:
        return None
    names = [f"{compression} + {repair}" for repair in (first, second)]
    found = task_difference(tables["tasks"], tables["variants"], *names)
    if found is None:
        return None
    said = f"{first} less {second}, accuracy on standard tasks under {compression}: {found} ({found.clusters} items)"
    return _measured(f"{compression}, tasks", first, found.estimate, found.lower, found.upper) | {
        "unit": f"accuracy less that of {second}",
        "n": found.clusters,
        "sentence": said,
    }


def _perplexity(tables: Mapping[str, pd.DataFrame]) -> list[Measured | None]:
    """How well perplexity orders variants as their answers do."""
    if tables["tasks"].empty or tables["perplexity"].empty:
        return []
    return [
        _measured(f"perplexity of {text}", "", found.estimate, found.lower, found.upper)
        | {"unit": "Spearman's correlation with accuracy; -1: hides nothing", "n": found.n}
        | {
            "sentence": f"over {found.n} variants, perplexity of {text} and accuracy on standard tasks correlate by "
            f"{found} (Spearman; -1 would hide nothing)"
        }
        for text, found in perplexity_tells(tables).items()
    ]


def _measured(setting: str, repair: str, value: float, lower: float | None, upper: float | None) -> Measured:
    return {"setting": setting, "repair": repair, "value": value, "lower": lower, "upper": upper}


def _parameters(variants: pd.DataFrame, idp: str, lora: str) -> Measured | None:
    added = variants[variants["scope"] == MAIN].groupby("repair")["parameters_added"].max()
    if idp not in added or lora not in added or not added[idp]:
        return None
    ratio = float(added[lora] / added[idp])
    said = f"{lora} adds {ratio:.1f} times the parameters of {idp} (a count, no interval)"
    return _measured(f"{lora} / {idp}", idp, ratio, None, None) | {
        "unit": "times the parameters",
        "n": None,
        "sentence": said,
    }


def _less_drift(verdict: Mapping[str, Any]) -> list[Measured]:
    """By how much less than LoRA each reported repair drifts from dense, in every compression."""
    return [
        _measured(
            f"{one['compression']} + {one['repair']}, {what}",
            one["repair"],
            found["estimate"],
            found["lower"],
            found["upper"],
        )
        | {"unit": "drift of LoRA less that of the repair", "n": found["n"]}
        | {
            "sentence": f"{one['compression']}, {what}, {one['repair']}: {found['estimate']:+.2f} "
            f"[{found['lower']:+.2f}, {found['upper']:+.2f}] ({found['n']} replicates)"
        }
        for one in verdict["settings"]
        for found in one["further_predictions"]
        if found["name"].startswith("less drift") and found["estimate"] is not None
        for what in ["attention" if "attention" in found["name"] else "residual"]
    ]


def _short(study: Study, evidence: Evidence, against: Against) -> list[Measured | None]:
    """The shortest prompt less the longest: of the study's repairs, and of its ablations where they have others."""
    own = list(lengths_of(study.repairs))
    found = against(own[0], own[-1]) if own else []
    every = list(lengths_of(study.ablated_repairs))
    if len(every) > len(own):
        assert study.ablated_compression is not None
        found.append(_difference(evidence, study.ablated_compression.name, every[0], every[-1], ABLATIONS))
    return found


def claims(
    study: Study, evidence: Evidence, tables: Mapping[str, pd.DataFrame], verdict: Mapping[str, Any]
) -> list[Claim]:
    """Every claim with the paper's figure and this run's: in a sentence (`ours`) and as numbers (`measured`)."""
    idp = next((one.name for one in study.reportable if one.kind == "idp"), None)
    lora = next((one.name for one in study.reportable if one.kind == "lora"), None)
    damages = [one.name for one in study.compressions]

    def against(first: str | None, second: str | None) -> list[Measured | None]:
        if first is None or second is None or first == second:
            return []
        return [
            measure(damage, first, second)
            for damage in damages
            for measure in (partial(_difference, evidence), partial(_on_tasks, tables))
        ]

    def said(
        claim: str, theirs: str, found: Sequence[Measured | None], needs: str, figure: float | None = None
    ) -> Claim:
        measured = [one | {"paper_value": figure} for one in found if one is not None]
        ours = "; ".join(one.pop("sentence") for one in measured) or f"{NOT_MEASURED}: {needs}"
        return {"claim": claim, "paper": theirs, "ours": ours, "measured": measured}

    both = "it needs IDP and LoRA among its repairs"
    return [
        said(
            "IDP gains over one prompt",
            "+1.24 % mean accuracy on nine tasks",
            against(idp, study.prompt.name),
            "it needs IDP among its repairs",
            GAIN,
        ),
        said("IDP is as good as LoRA or better", "better or equal", against(idp, lora), both),
        said(
            "IDP adds fewer parameters than LoRA",
            "21 x fewer",
            [_parameters(tables["variants"], idp, lora)] if idp and lora else [],
            both,
            FEWER,
        ),
        said(FASTER, "60 % less latency", [], "`python -m analysis repairs RUN --latency` times its repairs"),
        said(
            "perplexity hides damage to tasks",
            "longer prompts lower perplexity, not task errors",
            _perplexity(tables),
            f"it needs tasks with a perplexity, and at least {FEWEST} variants scored on both",
        ),
        said(
            "very short prompts suffice",
            "no figure known",
            _short(study, evidence, against),
            "it needs prompts of several lengths among its repairs",
        ),
        said(
            "prompts and IDP deviate less from dense than LoRA",
            "no figure known",
            _less_drift(verdict),
            "it needs LoRA, and three replicates that were looked into",
        ),
    ]
