"""Prompt-length scaling: slope of the gain on the logarithm of the prompt's length. Described, not tested."""

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.evidence import Arms, Evidence
from analysis.predictions.prediction import Asked, Entry, Prediction, Setting, recorded
from analysis.scopes import ABLATIONS, MAIN
from probes.specs.repairs.base import Repair

SCALING = recorded("prompt-length scaling")
FEWEST = 3
"""Prompt lengths below which a trend over them is none."""


def lengths_of(repairs: Sequence[Repair]) -> dict[str, int]:
    """Soft tokens of the prompts that read true answers for the study's own steps, by name, the shortest first."""
    prompts = [one for one in repairs if one.kind == "prompt" and one.told == "true" and one.own_steps is None]
    return dict(sorted(((one.name, one.prompt_lengths[0]) for one in prompts), key=lambda named: named[1]))


def length_scaling(evidence: Evidence, setting: Setting, lengths: Mapping[str, int]) -> Entry:
    """Slope of the gain on test and on tune facts over the binary logarithm of the prompt's length.

    `lengths` holds the length of every plain prompt that the setting's scope asks, by its repair's name.
    """
    scope, compression = setting["scope"], setting["compression"]
    if setting["repair"] not in lengths or len(lengths) < FEWEST:
        return SCALING.not_run(f"not run: it takes prompts of {FEWEST} lengths")
    where = np.log2(list(lengths.values()))
    weights = (where - where.mean()) / np.square(where - where.mean()).sum()
    wanted = {name: (compression, name, name) for name in lengths}
    slopes = {}
    for split in ("test", "tune"):
        if absent := evidence.absent(wanted, scope, split):
            return SCALING.not_run(f"cannot be said: no answers of {', '.join(absent)} on {split}")
        slopes[split] = _slope(evidence.arms(wanted, scope, split), dict(zip(lengths, weights, strict=True)))
    (estimate, lower, upper), (tune, *_) = slopes["test"], slopes["tune"]
    sentence = (
        f"{SCALING.name}: {estimate:+.2f} [{lower:+.2f}, {upper:+.2f}] bits per fact on test for each doubling, "
        f"{tune:+.2f} on tune ({', '.join(map(str, sorted(lengths.values())))} tokens); described, not tested"
    )
    return SCALING.entry(estimate=estimate, lower=lower, upper=upper, sentence=sentence)


def _slope(arms: Arms, weights: Mapping[str, float]) -> tuple[float, float, float]:
    """A weighted sum of arms with its interval; weights that sum to zero make what is common to all drop out."""
    found = arms.measure(lambda arm: np.sum([weight * arm[name] for name, weight in weights.items()], axis=0))
    return found.point, *found.interval()


def _measure(asked: Asked) -> Entry:
    """Over the study's own prompts; of the compression that ablations are of, over theirs where they have more."""
    study, setting, evidence = asked.study, asked.setting, asked.evidence
    own, more = lengths_of(study.repairs), lengths_of(study.ablated_repairs)
    ablated = study.ablated_compression
    if setting["scope"] != MAIN or ablated is None or ablated.name != setting["compression"] or len(more) <= len(own):
        return length_scaling(evidence, setting, own)
    return length_scaling(evidence, {**setting, "scope": ABLATIONS}, more)


PREDICTION = Prediction(words=SCALING, measure=_measure)
