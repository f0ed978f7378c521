"""From answers to a verdict: the four-way account in calibrated bits, and the decision it licenses.

Per setting (a compression and a repair), D dense, C compressed, R the repair, on test people unless said:
    expressed    B(C)
    redirected   the least of what C+R gains beyond each comparison that applies:
                     recalibration        B(C+R) - B(C recalibrated)
                     untrained prompts    B(C+R) - mean B(C + placebo)
                     answers masked       B(C+R) - B(C + prompt tuned on the text without answers)
                     answers shuffled     B(C+R) - B(C + prompt tuned on answers dealt to other people)
                     dense arm            (B(C+R) - B(C)) - (B(D+R) - B(D)), on the items where D has room to gain
    relearned    (gain on tune people) - (gain on test people)
    unreached    B(D+R) - B(C+R)

    displaced    every comparison rejects (intersection-union: the largest p counts)
    relearned    relearned > 0 and redirected equivalent to 0
    unreached    redirected equivalent to 0 while a displaced control at the same damage is found with power >= .8
    undecided    anything else, fewer than three replicates, a missing arm (which it names)

A repair computed from the dense weights is none of these: it is re-injected (`analysis/reinjected.py`).

Holm over settings. Equivalence: two one-sided tests, margin a tenth of the gap that compression opened. Never
"erased": that nothing was recovered does not show it.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from analysis.evidence import PLACEBO, ArmName, Arms, Draws, Evidence
from analysis.intervals import Combine, Sample
from analysis.reading import p_words
from analysis.scopes import MAIN
from analysis.significance import holm, two_one_sided

LEVEL = 0.05
FEWEST_REPLICATES = 3
MARGIN = 0.1
POWER = 0.8
"""With which a displaced control must be found before that nothing came back says anything."""
FEWEST_WITH_ROOM = 10
"""Entities on which D has room, below which the dense arm is not applicable: a bootstrap over fewer is no interval."""
WHO_KNOWS = {
    "key": "D is the same model with the key: the key is the ceiling",
    "twin": "D is the twin that was trained on these facts too",
    None: "no D of these facts was run: the gap is taken as the entropy",
}
"""What stands for D in a control, by the repair of the arm that knows."""
ACCOUNT = ("expressed", "gain", "redirected", "unreached", "relearned")
"""The quantities of a setting, in the order in which its verdict holds them."""
Controls = dict[tuple[str, str], float]
"""Of displaced controls, by compression and repair: the power with which the repair is found to be displaced."""


@dataclass(frozen=True)
class Quantity:
    """A figure in bits per fact with its 95 % interval."""

    estimate: float
    lower: float
    upper: float

    @classmethod
    def of(cls, sample: Sample) -> "Quantity":
        """What was sampled, with the interval of its draws."""
        return cls(sample.point, *sample.interval())


@dataclass(frozen=True)
class Comparison:
    """What the repair returned beyond one arm, and the one-sided p against its returning nothing."""

    name: str
    estimate: float
    lower: float
    upper: float
    error: float
    """Standard deviation over draws of replicates and entities."""
    p: float
    entities: int

    def power(self, level: float) -> float:
        """Chance that a run like this one rejects, by the normal approximation."""
        if self.error == 0:
            return float(self.estimate > 0)
        return float(stats.norm.sf(stats.norm.isf(level) - self.estimate / self.error))


@dataclass
class Setting:
    """One compression and repair, its account and what follows."""

    model: str
    scope: str
    compression: str
    repair: str
    replicates: int
    account: dict[str, Quantity]
    comparisons: list[Comparison]
    equivalent: bool
    relearned_p: float
    reasons: list[str]
    share: Quantity | None = None
    """Of the gap in accuracy between C recalibrated and D, what the repair closed on test people; None without a gap.

    Right answers add up over people and bits do not: a prompt that opens some and invents for the rest is sure of
    both, and calibration takes from the first what the second owe. On an organism half of whose people are locked, the
    key closes .38 of the gap in accuracy, a prompt .33, and in bits .21.
    """
    gain_p: float = 1.0
    entities: int = 0
    p_corrected: float = 1.0
    decision: str = "undecided"

    @property
    def p(self) -> float:
        """Intersection-union: every comparison must reject, so the largest p counts; 1 where none could be made."""
        return max((one.p for one in self.comparisons), default=1.0)

    def power(self, level: float) -> float:
        """Least chance that a run like this one rejects in every comparison (Bonferroni's inequality)."""
        if not self.comparisons:
            return 0.0
        return max(0.0, 1 - sum(1 - one.power(level) for one in self.comparisons))

    def to_json(self) -> dict[str, Any]:
        """The form of verdict.json."""
        return {
            "model": self.model,
            "scope": self.scope,
            "compression": self.compression,
            "repair": self.repair,
            "decision": self.decision,
            **{f"{name}_bits": asdict(self.account[name]) if name in self.account else None for name in ACCOUNT},
            "gain_p": self.gain_p,
            "relearned_p": self.relearned_p,
            "entities": self.entities,
            "share_of_gap": None if self.share is None else asdict(self.share),
            "predictions": [
                {
                    "name": f"test facts come back beyond {one.name}",
                    "statistic": "bits per fact",
                    "estimate": one.estimate,
                    "lower": one.lower,
                    "upper": one.upper,
                    "p": one.p,
                    "p_corrected": self.p_corrected,
                    "n": one.entities,
                    "supports": "H1" if one.p < LEVEL else "neither",
                    "sentence": f"beyond {one.name}: {one.estimate:+.2f} bits per fact "
                    f"[{one.lower:+.2f}, {one.upper:+.2f}], p {p_words(one.p)}, n {one.entities}",
                }
                for one in self.comparisons
            ],
            "reasons": self.reasons,
        }


def assess(
    evidence: Evidence,
    scope: str,
    compression: str,
    repair: str,
    *,
    placebo: str,
    factless: dict[str, str],
    entropy: float,
) -> Setting:
    """The account of one setting, all arms under the same draws of replicates and entities.

    `placebo` and `factless` name the repairs that hold no fact: untrained prompts, and prompts tuned on text whose
    answers are {masked, shuffled}. `entropy` is the mean prior entropy of the facts in bits: what a D at its
    ceiling would hold. A setting of which an arm was not run has no account, and says what it cannot conclude.
    """
    wanted: dict[str, ArmName] = {
        "compressed": (compression, "", "the compressed model"),
        "recalibrated": (compression, "recalibrated", "the recalibrated model"),
        PLACEBO: (compression, placebo, "untrained prompts"),
        **{answers: (compression, name, f"the prompt with answers {answers}") for answers, name in factless.items()},
        "repaired": (compression, repair, f"the repair {repair}"),
    }
    reasons: list[str] = []
    knowing = evidence.dense_arm(scope, compression)
    if knowing is not None:
        wanted["dense"] = knowing
    if scope == MAIN:
        wanted["dense_repaired"] = ("dense", repair, f"dense + {repair}")
    else:
        reasons.append(WHO_KNOWS[None if knowing is None else knowing[1]])
    if absent := evidence.absent(wanted, scope, "test"):
        lack = "no test item was asked" if len(absent) == len(wanted) else f"no answers of {', '.join(absent)} on test"
        reasons.append(f"{lack}: whether {repair} returns what it was not tuned on cannot be concluded")
        return Setting(evidence.model, scope, compression, repair, 0, {}, [], False, 1.0, reasons)
    arms = evidence.arms(wanted, scope, "test")
    comparisons, least = _comparisons(arms, _contrasts(factless))
    if "dense_repaired" in arms:
        beyond = _beyond_dense(arms, evidence, reasons)
        comparisons += [] if beyond is None else [beyond[0]]
        least = least if beyond is None else min(least, beyond[1], key=lambda one: one.point)
    gain = arms.measure(lambda arm: arm["repaired"] - arm["compressed"])
    account = {
        "expressed": Quantity.of(arms.measure(lambda arm: arm["compressed"])),
        "gain": Quantity.of(gain),
        "redirected": Quantity.of(least),
    }
    if "dense" in arms:
        ceiling = "dense_repaired" if "dense_repaired" in arms else "dense"
        account["unreached"] = Quantity.of(arms.measure(lambda arm: arm[ceiling] - arm["repaired"]))
    relearned = _relearned(evidence, scope, compression, repair, reasons)
    account |= {} if relearned is None else {"relearned": relearned[0]}
    return Setting(
        model=evidence.model,
        scope=scope,
        compression=compression,
        repair=repair,
        replicates=arms.replicates,
        account=account,
        comparisons=comparisons,
        equivalent=two_one_sided(least.draws, _margin(arms, entropy))[1],
        relearned_p=1.0 if relearned is None else relearned[1],
        reasons=reasons,
        share=_share(evidence.arms(wanted, scope, "test", "correct")),
        gain_p=gain.p_above_zero,
        entities=arms.entities,
    )


def _share(arms: Arms) -> Quantity | None:
    """What part of the gap to D closed beyond recalibration, of these answers; None where there is no clear gap."""
    if "dense" not in arms:
        return None
    # The draws as they divide, not stretched: in accuracy a small gap is nothing at all in some draw.
    gap = arms.measure(lambda arm: arm["dense"] - arm["recalibrated"], stretch=False)
    if gap.draws.min() <= 0:
        return None
    return Quantity.of(
        arms.measure(
            lambda arm: (arm["repaired"] - arm["recalibrated"]) / (arm["dense"] - arm["recalibrated"]),
        )
    )


def _contrasts(factless: dict[str, str]) -> dict[str, Combine]:
    """Against what the repaired copy is measured where D plays no part."""

    def beyond(other: str) -> Combine:
        return lambda arm: arm["repaired"] - arm[other]

    return {
        "recalibration": beyond("recalibrated"),
        "untrained prompts": beyond(PLACEBO),
        **{f"tuning with answers {answers}": beyond(answers) for answers in factless},
    }


def _compare(arms: Arms, name: str, combine: Combine) -> tuple[Comparison, Sample]:
    found = arms.measure(combine)
    error = float(found.draws.std())
    return Comparison(name, found.point, *found.interval(), error, found.p_above_zero, arms.entities), found


def _comparisons(arms: Arms, contrasts: dict[str, Combine]) -> tuple[list[Comparison], Sample]:
    """What the repair returned beyond every arm, and the least of them."""
    found = [_compare(arms, name, combine) for name, combine in contrasts.items()]
    return [one for one, _ in found], min((drawn for _, drawn in found), key=lambda one: one.point)


def _beyond_dense(arms: Arms, evidence: Evidence, reasons: list[str]) -> tuple[Comparison, Sample] | None:
    """What C gained beyond what D gained, on the items where D has room; None where they are too few."""
    matched = arms.only(evidence.with_room)
    if matched is None or matched.entities < FEWEST_WITH_ROOM:
        count = 0 if matched is None else matched.entities
        reasons.append(f"dense arm not applicable: D has room to gain on {count} test entities")
        return None
    return _compare(
        matched,
        "the dense arm",
        lambda arm: arm["repaired"] - arm["compressed"] - (arm["dense_repaired"] - arm["dense"]),
    )


def _margin(arms: Arms, entropy: float) -> float | Draws:
    """A tenth of the gap that compression opened; of the entropy where no D was run."""
    if "dense" not in arms:
        return MARGIN * entropy
    gap = arms.measure(lambda arm: arm["dense"] - arm["compressed"])
    # Without a gap nothing is equivalent to nothing.
    return MARGIN * (gap.draws if gap.point > 0 and gap.draws.mean() > 0 else np.full_like(gap.draws, 1e-6))


def _relearned(
    evidence: Evidence, scope: str, compression: str, repair: str, reasons: list[str]
) -> tuple[Quantity, float] | None:
    """Gain on tune people beyond the gain on test people, the two drawn independently; None if none was asked."""
    wanted = {"repaired": (compression, repair, repair), "compressed": (compression, "", "the compressed model")}
    if absent := evidence.absent(wanted, scope, "tune"):
        reasons.append(f"no answers of {', '.join(absent)} on tune: whether {repair} relearned cannot be concluded")
        return None
    test, tune = (
        evidence.arms(wanted, scope, split).measure(lambda arm: arm["repaired"] - arm["compressed"], seed=seed)
        for seed, split in enumerate(("test", "tune"))
    )
    more = tune.less(test)
    return Quantity.of(more), more.p_above_zero


def decide(settings: list[Setting], controls: Controls) -> list[Setting]:
    """Fill in decisions, Holm over the settings given."""
    corrected = holm([setting.p for setting in settings])
    for setting, p in zip(settings, corrected, strict=True):
        setting.p_corrected = float(p)
        setting.decision = _decision(setting, controls.get((setting.compression, setting.repair)))
    return settings


def powers_of(settings: list[Setting], judged: int) -> Controls:
    """Of displaced controls that were found to be displaced: with what power. Zero for one that was not found.

    `judged`: of how many settings this speaks; one of them would have to stand a correction over as many.
    """
    level = LEVEL / max(1, len(settings), judged)  # Holm's first step, the strictest
    return {(one.compression, one.repair): one.power(level) if one.decision == "displaced" else 0.0 for one in settings}


def _decision(setting: Setting, power: float | None) -> str:
    """The decision of one setting; `power` is that of its displaced control, None where none was run."""
    if not setting.comparisons:
        return "undecided"  # for the reason already given: an arm is missing
    if setting.replicates < FEWEST_REPLICATES:
        setting.reasons.append(
            f"{setting.replicates} replicate(s) of compression and repair: {FEWEST_REPLICATES} are needed"
        )
        return "undecided"
    if setting.p_corrected < LEVEL:
        return "displaced"
    if setting.equivalent and setting.relearned_p < LEVEL:
        return "relearned"
    if setting.equivalent and power is not None and power >= POWER:
        setting.reasons.append(f"a displaced control at the same damage is found with a power of {power:.2f}")
        return "unreached"
    if setting.equivalent:
        lack = (
            "was not run (compress_controls runs it)"
            if power is None
            else f"is found with a power of {power:.2f} only, {POWER:.1f} needed"
        )
        setting.reasons.append(f"nothing came back, but a displaced control at the same damage {lack}")
    else:
        weakest = max(setting.comparisons, key=lambda one: one.p)
        setting.reasons.append(
            f"not beyond {weakest.name} (p {p_words(setting.p_corrected)} after Holm) and not equivalent to nothing"
        )
    return "undecided"
