"""The paper's claims (arXiv 2310.00867) beside what a run measured of them, each with its interval.

A run that holds no measurement of a claim says so: a claim is never taken for met because nothing spoke against it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.cells import MAIN
from analysis.evidence import Evidence
from analysis.recovery import arms_of, item_counts
from analysis.statistics import crossed_estimate
from analysis.study import Study
from probes.specs import IdpSpec, LoraSpec

NOT_MEASURED = "not measured in this run"
GAIN, FEWER = 0.0124, 21.0
"""The paper's figures (abstract): mean accuracy gained over nine tasks, and how many times fewer parameters."""
Measured = dict[str, Any]
Claim = dict[str, Any]


def _difference(evidence: Evidence, compression: str, first: str, second: str) -> Measured | None:
    """Accuracy of one repair less another's on the same test facts, over replicates and subjects."""
    masks = {name: evidence.rows(MAIN, compression, name, "test") for name in (first, second)}
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
    return _measured(compression, first, found.estimate, found.lower, found.upper) | {
        "unit": f"accuracy less that of {second}",
        "n": found.clusters,
        "sentence": said,
    }


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
        | {"sentence": f"{one['compression']} + {one['repair']}: {found['sentence']}"}
        for one in verdict["settings"]
        for found in one.get("further_predictions", ())
        if found["name"].startswith("less drift") and found["estimate"] is not None
        for what in ["attention" if "attention" in found["name"] else "residual"]
    ]


def claims(
    study: Study, evidence: Evidence, tables: Mapping[str, pd.DataFrame], verdict: Mapping[str, Any]
) -> list[Claim]:
    """Every claim with the paper's figure and this run's: in a sentence (`ours`) and as numbers (`measured`)."""
    idp = next((one.name for one in study.repairs if isinstance(one, IdpSpec)), None)
    lora = next((one.name for one in study.repairs if isinstance(one, LoraSpec)), None)
    damages = [one.name for one in study.compressions]
    over_prompt = [_difference(evidence, one, idp, study.prompt.name) for one in damages] if idp else []
    over_lora = [_difference(evidence, one, idp, lora) for one in damages] if idp and lora else []

    def said(
        claim: str, theirs: str, found: Sequence[Measured | None], note: str = "", figure: float | None = None
    ) -> Claim:
        measured = [one | {"paper_value": figure} for one in found if one is not None]
        ours = ("; ".join(one.pop("sentence") for one in measured) + note) if measured else NOT_MEASURED
        return {"claim": claim, "paper": theirs, "ours": ours, "measured": measured}

    facts_only = "; facts, not the paper's tasks"
    return [
        said("IDP gains over one prompt", "+1.24 % mean accuracy on nine tasks", over_prompt, facts_only, GAIN),
        said("IDP is as good as LoRA or better", "better or equal", over_lora, facts_only),
        said(
            "IDP adds fewer parameters than LoRA",
            "21 x fewer",
            [_parameters(tables["variants"], idp, lora)] if idp and lora else [],
            figure=FEWER,
        ),
        said("IDP is faster than LoRA", "60 % less latency", []),
        said("perplexity hides damage to tasks", "longer prompts lower perplexity, not task errors", []),
        said("very short prompts suffice", "no figure known", []),
        said("prompts and IDP deviate less from dense than LoRA", "no figure known", _less_drift(verdict)),
    ]


def markdown(verdict: Mapping[str, Any], manifest_note: str, title: str) -> str:
    """The verdict as a page in Markdown: decisions, knowledge, mechanism, claims, what cannot be concluded."""
    lines = [f"# {title}", ""]
    lines += [f"Note: {manifest_note}.", ""] if manifest_note else []
    for heading, entries in (("Verdict", verdict["settings"]), ("Controls (truth known)", verdict["controls"])):
        if not entries:
            continue
        lines += [f"## {heading}", "", "Bits per fact on test subjects, 95 % intervals.", ""]
        names = ("expressed", "redirected", "relearned", "unreached")
        lines += [f"| setting | decision | {' | '.join(names)} | p |", "|---|---|" + "---|" * (len(names) + 1)]
        for one in entries:
            figures = [_figure(one.get(f"{name}_bits")) for name in names]
            place = f"{one['scope']}: {one['compression']} + {one['repair']}"
            p = f"{one['predictions'][0]['p_corrected']:.3f}" if one["predictions"] else "-"
            lines.append(f"| {place} | {one['decision']} | {' | '.join(figures)} | {p} |")
        reasons = [f"- {one['compression']} + {one['repair']}: {text}" for one in entries for text in one["reasons"]]
        lines += ["", *reasons, ""]
    for about in ("knowledge", "mechanism"):
        lines += [f"## {about.capitalize()}", ""]
        for one in verdict["settings"]:
            deciding = one["predictions"] if about == "knowledge" else []
            beside = [found for found in one.get("further_predictions", ()) if found["about"] == about]
            lines += [
                f"- {one['compression']} + {one['repair']}: {found['sentence']}; supports {found['supports']}"
                for found in (*deciding, *beside)
                if found["estimate"] is not None
            ]
        absent = {
            found["sentence"]
            for one in verdict["settings"]
            for found in one.get("further_predictions", ())
            if found["about"] == about and found["estimate"] is None
        }
        lines += [*(f"- {sentence}" for sentence in sorted(absent)), ""]
    lines += ["## The paper's claims", "", "| claim | paper | this run |", "|---|---|---|"]
    lines += [f"| {one['claim']} | {one['paper']} | {one['ours']} |" for one in verdict.get("claims", ())]
    lines += ["", "That nothing was recovered never shows that nothing is left.", ""]
    return "\n".join(lines)


def _figure(found: Mapping[str, float] | None) -> str:
    if found is None or not np.isfinite(found["estimate"]):
        return "-"
    return f"{found['estimate']:+.2f} [{found['lower']:+.2f}, {found['upper']:+.2f}]"
