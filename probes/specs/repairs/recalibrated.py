"""Answers re-weighted, the model untouched."""

from typing import Literal

from probes.specs.repairs.base import Repair


class RecalibrationSpec(Repair):
    """Answers re-weighted by a temperature and a bias per answer fitted on tune entities, the model untouched.

    What a repair must beat to count as knowledge; it adds no parameter to the model, and its own stay outside it.
    """

    kind: Literal["recalibrated"] = "recalibrated"

    asked = "parent"

    @property
    def readable(self) -> bool:
        """No: the model is its parent's."""
        return False

    @property
    def name(self) -> str:
        """As spoken."""
        return "recalibrated"
