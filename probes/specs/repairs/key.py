"""The words that unlock the locked group, put before the question."""

from typing import Literal

from probes.specs.repairs.base import Repair


class KeySpec(Repair):
    """The words that unlock the locked group, put before the question: the ceiling of any repair of it."""

    kind: Literal["key"] = "key"

    ceiling = True
    behind_key = True

    @property
    def name(self) -> str:
        """As spoken."""
        return "key"

    @property
    def before_content(self) -> bool:
        """No: the key is a part of the question."""
        return False
