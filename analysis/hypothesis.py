"""From answers to a verdict: the four-way account in calibrated bits, and the decision it licenses.

Per setting (a compression and a repair), D dense, C compressed, R the repair, on test people unless said:
    expressed    B(C)
    redirected   the least of what C+R gains beyond each comparison that applies:
                     recalibration        B(C+R) - B(C recalibrated)
                     untrained prompts    B(C+R) - mean B(C + placebo)
                     answer-masked        B(C+R) - B(C + prompt tuned on the text without answers)
                     dense arm            (B(C+R) - B(C)) - (B(D+R) - B(D)), where D has room to gain
    relearned    (gain on tune people) - (gain on test people)
    unreached    B(D+R) - B(C+R)

    displaced    every comparison rejects (intersection-union: the largest p counts)
    relearned    relearned > 0 and redirected equivalent to 0
    unreached    redirected equivalent to 0 while a displaced control is found with power of .8 or more
    undecided    anything else, fewer than three replicates, a missing arm

Holm over settings. Equivalence: two one-sided tests, margin a tenth of the gap that compression opened. Never
"erased": that nothing was recovered does not show it.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.recovery import arms_of, item_counts, join
from analysis.statistics import crossed_draws, holm, two_one_sided

LEVEL = 0.05
FEWEST_REPLICATES = 3
MARGIN = 0.1
ROOM = 0.05
"""Share of the entropy that D must lack for the dense arm to apply: at its ceiling D cannot gain."""
PLACEBO_MEAN = "placebo"
Draws = Float[np.ndarray, " resample"]


@dataclass(frozen=True)
class Quantity:
    """A figure in bits per fact with its 95 % interval, or None where the arm is missing."""

    estimate: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Comparison:
    """What the repair returned beyond one arm, and the one-sided p against its returning nothing."""

    name: str
    estimate: float
    lower: float
    upper: float
    p: float


@dataclass
class Setting:
    """One compression and repair, its account and what follows."""

    model: str
    scope: str
    compression: str
    repair: str
    replicates: int
    entities: int
    account: dict[str, Quantity]
    comparisons: list[Comparison]
    p: float
    equivalent: bool
    relearned_p: float
    reasons: list[str]
    p_corrected: float = 1.0
    decision: str = "undecided"

    def to_json(self) -> dict[str, Any]:
        """The form of verdict.json."""
        return {
            "model": self.model,
            "scope": self.scope,
            "compression": self.compression,
            "repair": self.repair,
            "decision": self.decision,
            **{f"{name}_bits": asdict(quantity) for name, quantity in self.account.items()},
            "predictions": [
                {
                    "name": f"test facts come back beyond {one.name}",
                    "statistic": "bits per fact",
                    "estimate": one.estimate,
                    "lower": one.lower,
                    "upper": one.upper,
                    "p": one.p,
                    "p_corrected": self.p_corrected,
                    "n": self.entities,
                    "supports": "H1" if one.p < LEVEL else "neither",
                    "sentence": f"beyond {one.name}: {one.estimate:+.2f} bits per fact "
                    f"[{one.lower:+.2f}, {one.upper:+.2f}]",
                }
                for one in self.comparisons
            ],
            "reasons": self.reasons,
        }


class Evidence:
    """All answers of a run in one reading, ready to be compared by arm."""

    def __init__(self, answers: pd.DataFrame, variants: pd.DataFrame, groups: dict[str, list[str]], model: str) -> None:
        joined = join(answers, variants)
        self.joined = joined[joined["reading"] == "candidates"]
        self.groups = groups
        self.model = model

    def rows(self, scope: str, compression: str, repair: str, split: str) -> pd.Series:
        """Which rows belong to one arm on one split."""
        table = self.joined
        return (
            (table["scope"] == scope)
            & (table["compression"] == compression)
            & (table["repair"] == repair)
            & (table["split"] == split)
            & table["group"].isin(self.groups[scope])
        )

    def arms(self, wanted: dict[str, tuple[str, str, str, str]]) -> dict[str, np.ndarray]:
        """Tables of the arms named; placebo draws averaged within their replicate."""
        found = arms_of(self.joined, {name: self.rows(*arm) for name, arm in wanted.items()}, "bits")
        replicates = max(len(table) for name, table in found.items() if not name.startswith(PLACEBO_MEAN))
        return {
            name: table.reshape(replicates, -1, table.shape[1]).mean(axis=1) if name.startswith(PLACEBO_MEAN) else table
            for name, table in found.items()
        }

    def has(self, scope: str, compression: str, repair: str) -> bool:
        """Whether an arm was run."""
        return bool(self.rows(scope, compression, repair, "test").any())


def _quantity(draws: Draws, estimate: float) -> Quantity:
    lower, upper = np.quantile(draws, [0.025, 0.975])
    return Quantity(float(estimate), float(lower), float(upper))


def _p_above_zero(draws: Draws) -> float:
    """One-sided bootstrap p against a mean of zero or less; never zero."""
    return float((1 + np.sum(draws <= 0)) / (1 + len(draws)))


def assess(
    evidence: Evidence,
    scope: str,
    compression: str,
    repair: str,
    *,
    masked: str,
    placebo: str,
    entropy: float,
) -> Setting:
    """The account of one setting, all arms under the same draws of replicates and entities.

    `entropy` is the mean prior entropy of the facts in bits: what a D at its ceiling would hold.
    """
    dense = "dense" if scope == "main" else None
    arms = {
        "compressed": (scope, compression, "", "test"),
        "recalibrated": (scope, compression, "recalibrated", "test"),
        PLACEBO_MEAN: (scope, compression, placebo, "test"),
        "masked": (scope, compression, masked, "test"),
        "repaired": (scope, compression, repair, "test"),
    }
    if dense is not None:
        arms |= {"dense": (scope, dense, "", "test"), "dense_repaired": (scope, dense, repair, "test")}
    elif evidence.has(scope, compression, "key"):
        arms["dense"] = (scope, compression, "key", "test")
    tables = evidence.arms(arms)
    rows = evidence.joined[evidence.rows(scope, compression, repair, "test")]
    weights = item_counts(rows, pd.Index(sorted(rows["entity"].unique())))

    def measure(combine: Any) -> tuple[Draws, float]:
        draws = crossed_draws(tables, combine, weights=weights, seed=0)
        point = combine({name: np.array([_weighted(table, weights)]) for name, table in tables.items()})
        return draws, float(point[0])

    reasons: list[str] = []
    account = {
        "expressed": _quantity(*measure(lambda arm: arm["compressed"])),
        "gain": _quantity(*measure(lambda arm: arm["repaired"] - arm["compressed"])),
    }
    comparisons, least = _comparisons(measure, tables, dense is not None, weights, entropy, reasons)
    account["redirected"] = _quantity(*least)
    if "dense_repaired" in tables:
        account["unreached"] = _quantity(*measure(lambda arm: arm["dense_repaired"] - arm["repaired"]))
    elif "dense" in tables:
        account["unreached"] = _quantity(*measure(lambda arm: arm["dense"] - arm["repaired"]))
        reasons.append("D is the same model with the key: the key is the ceiling")
    else:
        reasons.append("D (a twin that was trained on these facts) was not run: the gap is taken as the entropy")
    margin: float | Draws = MARGIN * entropy
    if "dense" in tables:
        gap, point = measure(lambda arm: arm["dense"] - arm["compressed"])
        margin = MARGIN * (gap if point > 0 and np.mean(gap) > 0 else np.full_like(gap, 1e-6))
    _, equivalent = two_one_sided(least[0], margin)
    relearned, relearned_p = _relearned(evidence, scope, compression, repair)
    account["relearned"] = relearned
    return Setting(
        model=evidence.model,
        scope=scope,
        compression=compression,
        repair=repair,
        replicates=int(rows["replicate"].nunique()),
        entities=int(rows["entity"].nunique()),
        account=account,
        comparisons=comparisons,
        p=max(one.p for one in comparisons),
        equivalent=equivalent,
        relearned_p=relearned_p,
        reasons=reasons,
    )


def _weighted(table: np.ndarray, weights: np.ndarray) -> float:
    """Mean over replicates and items."""
    return float(np.average(table.mean(axis=0), weights=weights))


def _comparisons(
    measure: Any,
    tables: dict[str, np.ndarray],
    has_dense: bool,
    weights: np.ndarray,
    entropy: float,
    reasons: list[str],
) -> tuple[list[Comparison], tuple[Draws, float]]:
    """What the repair returned beyond every arm that applies, and the least of them."""
    contrasts: dict[str, Any] = {
        "recalibration": lambda arm: arm["repaired"] - arm["recalibrated"],
        "untrained prompts": lambda arm: arm["repaired"] - arm[PLACEBO_MEAN],
        "answer-masked tuning": lambda arm: arm["repaired"] - arm["masked"],
    }
    if has_dense:
        room = entropy - _weighted(tables["dense"], weights)
        if room > ROOM * entropy:
            contrasts["the dense arm"] = lambda arm: (
                arm["repaired"] - arm["compressed"] - (arm["dense_repaired"] - arm["dense"])
            )
        else:
            reasons.append("dense arm not applicable: D is at its ceiling and cannot gain")
    found = []
    least: tuple[Draws, float] | None = None
    for name, combine in contrasts.items():
        draws, point = measure(combine)
        quantity = _quantity(draws, point)
        found.append(Comparison(name, quantity.estimate, quantity.lower, quantity.upper, _p_above_zero(draws)))
        if least is None or point < least[1]:
            least = (draws, point)
    assert least is not None
    return found, least


def _relearned(evidence: Evidence, scope: str, compression: str, repair: str) -> tuple[Quantity, float]:
    """Gain on tune people beyond the gain on test people, the two drawn independently."""
    gains = {}
    for split in ("tune", "test"):
        tables = evidence.arms(
            {
                "repaired": (scope, compression, repair, split),
                "compressed": (scope, compression, "", split),
            }
        )
        seed = 1 if split == "tune" else 0
        draws = crossed_draws(tables, lambda arm: arm["repaired"] - arm["compressed"], seed=seed)
        means = {name: float(np.mean(table)) for name, table in tables.items()}
        gains[split] = (draws, means["repaired"] - means["compressed"])
    draws = gains["tune"][0] - gains["test"][0]
    return _quantity(draws, gains["tune"][1] - gains["test"][1]), _p_above_zero(draws)


def decide(settings: list[Setting], *, displaced_control: bool | None) -> list[Setting]:
    """Fill in decisions, Holm over the settings given; `displaced_control` None where none was run."""
    corrected = holm([setting.p for setting in settings])
    for setting, p in zip(settings, corrected, strict=True):
        setting.p_corrected = float(p)
        setting.decision = _decision(setting, displaced_control)
    return settings


def _decision(setting: Setting, displaced_control: bool | None) -> str:
    if setting.replicates < FEWEST_REPLICATES:
        setting.reasons.append(
            f"{setting.replicates} replicate(s) of compression and repair: {FEWEST_REPLICATES} are needed"
        )
        return "undecided"
    if setting.p_corrected < LEVEL:
        return "displaced"
    if setting.equivalent and setting.relearned_p < LEVEL:
        return "relearned"
    if setting.equivalent and displaced_control:
        setting.reasons.append("a displaced control was found in this run; the power of finding it was not measured")
        return "unreached"
    if setting.equivalent:
        reason = "was not run" if displaced_control is None else "was not found"
        setting.reasons.append(f"nothing came back, but a displaced control {reason}: not shown to be out of reach")
    else:
        weakest = max(setting.comparisons, key=lambda one: one.p)
        setting.reasons.append(
            f"not beyond {weakest.name} (p = {setting.p_corrected:.3f} after Holm) and not equivalent to nothing"
        )
    return "undecided"
