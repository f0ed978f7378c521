"""What a run's tables license: every setting and control judged, the predictions beside them, the paper's claims."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.arms import compressions_of
from analysis.claims import claims
from analysis.evidence import Evidence
from analysis.hypothesis import Controls, Setting, assess, decide, powers_of
from analysis.predictions.registry import further, predictions_sha
from analysis.reinjected import reinjections
from analysis.scopes import MAIN
from analysis.study import Study, groups_of
from data.facts import FactSet


def judge(study: Study, facts: FactSet, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """The verdict of a study from its tables, as `verdict.json` holds it."""
    evidence = Evidence(tables["answers"], tables["variants"], groups_of(study), study.model)
    verdict = verdict_of(study, facts, evidence)
    add_further(verdict, study, evidence, tables)
    return verdict | {"claims": claims(study, evidence, tables, verdict)}


def verdict_of(study: Study, facts: FactSet, evidence: Evidence) -> dict[str, Any]:
    """Settings with Holm over them; apart from them controls, which calibrate, and what was put back from dense."""
    factless = {str(prompt.answers): prompt.name for prompt in study.factless_prompts}
    placebo = f"placebo-{study.prompt.length}"

    def settings(scope: str) -> list[Setting]:
        entropy = entropy_of(facts, groups_of(study)[scope])
        damages = ["dense" if one is None else one.name for one in compressions_of(study, scope)]
        return [
            assess(evidence, scope, damage, repair, placebo=placebo, factless=factless, entropy=entropy)
            for damage in damages
            if scope != MAIN or damage != "dense"
            for repair in study.reported
        ]

    unjudged = settings(MAIN)
    controls: list[Setting] = []
    powers: Controls = {}
    for control in sorted(study.controls):  # locked, by which never is judged, comes first
        found = decide(settings(control), powers)
        controls += found
        if control == "locked":
            powers = powers_of(found, len(unjudged))
    main = decide(unjudged, powers)
    return {
        "settings": [one.to_json() for one in main],
        "controls": [one.to_json() for one in controls],
        "reinjections": [
            entry
            for scope in (MAIN, *study.controls)
            for entry in reinjections(
                evidence,
                scope,
                [one.name for one in compressions_of(study, scope) if one is not None],
                [one.name for one in study.reinjections],
            )
        ],
    }


def add_further(verdict: dict[str, Any], study: Study, evidence: Evidence, tables: Mapping[str, pd.DataFrame]) -> None:
    """Put beside every setting the predictions that decide nothing, measured or said not to have been run."""
    verdict["predictions_sha"] = predictions_sha()
    for one in (*verdict["settings"], *verdict["controls"]):
        one["further_predictions"] = further(evidence, tables, one, study)


def entropy_of(facts: FactSet, groups: list[str]) -> float:
    """Mean prior entropy of the test facts of these groups, in bits; 0 where there are none."""
    by_list = {
        (one.relation, answer): float(-np.sum(np.array(one.prior) * np.log2(one.prior)))
        for one in facts.lists
        for answer in one.answers
    }
    tested = [by_list[fact.relation, fact.answer] for fact in facts.select(groups, "test")]
    return float(np.mean(tested)) if tested else 0.0
