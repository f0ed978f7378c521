"""Repairs that were computed from the dense weights: reported by their own name, never among what is decided.

What such a repair returns was put there, so no test can make of it evidence that the compressed model still held it.
It is told how much came back, as a measure of the room that a repair of that size has.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from analysis.evidence import Evidence
from analysis.hypothesis import Quantity

DECISION = "re-injected"
REASON = "computed from the dense weights: what it returns was put back, and says nothing of what was still there"


def reinjections(
    evidence: Evidence, scope: str, compressions: Sequence[str], repairs: Sequence[str]
) -> list[dict[str, Any]]:
    """For each compression and repair the bits per fact that came back on test people; no test, no decision."""
    return [_entry(evidence, scope, compression, repair) for compression in compressions for repair in repairs]


def _entry(evidence: Evidence, scope: str, compression: str, repair: str) -> dict[str, Any]:
    wanted = {
        "compressed": (compression, "", "the compressed model"),
        "repaired": (compression, repair, f"the control {repair}"),
    }
    arms = evidence.arms(wanted, scope, "test")
    gain = arms.measure(lambda arm: arm["repaired"] - arm["compressed"])
    return {
        "model": evidence.model,
        "scope": scope,
        "compression": compression,
        "repair": repair,
        "decision": DECISION,
        "gain_bits": asdict(Quantity.of(gain)),
        "reasons": [REASON],
    }
