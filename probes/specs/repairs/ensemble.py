"""A bank of prompts that are all asked."""

from typing import Literal

from probes.specs.repairs.bank import BankSpec
from probes.specs.repairs.idp import IdpSpec


class EnsembleSpec(BankSpec):
    """A bank of prompts that are all asked, and the mean of their log-probabilities taken: no prompt is chosen.

    It carries what its bank carries, and every answer costs one pass per prompt.
    """

    kind: Literal["ensemble"] = "ensemble"

    asked = "every prompt"

    @property
    def name(self) -> str:
        """As spoken: `ensemble-3x8`, `ensemble-2-texts`."""
        return self.spoken("ensemble")

    @property
    def readable(self) -> bool:
        """No: every prompt answers."""
        return False

    @property
    def idp(self) -> IdpSpec:
        """The same bank as an IDP that keeps every prompt: its prompts are the same cells."""
        return IdpSpec(
            **{name: getattr(self, name) for name in BankSpec.model_fields if name != "kind"}, selector="mixture"
        )
