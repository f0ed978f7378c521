"""The form of `verdict.json`: every key with what stands under it, checked where it is written and where it is read."""

from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import TypedDict

from analysis.schema.json_fault import json_fault
from data.errors import InputError

VERDICT = "verdict.json"
EXACT = ConfigDict(extra="forbid", strict=True)


@with_config(EXACT)
class Quantity(TypedDict):
    """A figure with its 95 % interval."""

    estimate: float
    lower: float
    upper: float


@with_config(EXACT)
class Prediction(TypedDict):
    """One comparison of a setting that decides."""

    name: str
    statistic: str
    estimate: float
    lower: float
    upper: float
    p: float
    p_corrected: float
    n: int
    supports: Literal["H1", "neither"]
    sentence: str


@with_config(EXACT)
class FurtherPrediction(TypedDict):
    """One prediction that decides nothing; without figures where it was not measured, which its sentence says."""

    name: str
    about: str
    statistic: str
    estimate: float | None
    lower: float | None
    upper: float | None
    p: float | None
    p_corrected: float | None
    n: int | None
    supports: str
    sentence: str


@with_config(EXACT)
class Setting(TypedDict):
    """A compression and a repair; a quantity is None where an arm that it needs was not run."""

    model: str
    scope: str
    compression: str
    repair: str
    decision: str
    expressed_bits: Quantity | None
    gain_bits: Quantity | None
    redirected_bits: Quantity | None
    unreached_bits: Quantity | None
    relearned_bits: Quantity | None
    gain_p: float
    relearned_p: float
    entities: int
    share_of_gap: Quantity | None
    predictions: list[Prediction]
    reasons: list[str]
    further_predictions: list[FurtherPrediction]


@with_config(EXACT)
class Reinjection(TypedDict):
    """What a repair computed from the dense model put back."""

    model: str
    scope: str
    compression: str
    repair: str
    decision: str
    gain_bits: Quantity
    reasons: list[str]


@with_config(EXACT)
class Measured(TypedDict):
    """One measurement of a claim; a count has no interval."""

    setting: str
    repair: str
    value: float
    lower: float | None
    upper: float | None
    unit: str
    n: int | None
    paper_value: float | None


@with_config(EXACT)
class Claim(TypedDict):
    """What the paper claims, and what the run says of it."""

    claim: str
    paper: str
    ours: str
    measured: list[Measured]


@with_config(EXACT)
class Verdict(TypedDict):
    """All of `verdict.json`."""

    settings: list[Setting]
    controls: list[Setting]
    reinjections: list[Reinjection]
    predictions_sha: str
    claims: list[Claim]


_FORM = TypeAdapter(Verdict)


def require_verdict(verdict: dict[str, Any]) -> None:
    """Refuse to write a verdict that no reader would take.

    Raises:
        InputError: it is not of this form; says where.
    """
    if fault := verdict_fault(verdict):
        raise InputError(f"{VERDICT}: {fault}")


def verdict_fault(verdict: dict[str, Any]) -> str | None:
    """The first place at which a verdict is not of this form, in words; None where it is."""
    return json_fault(_FORM, verdict)
