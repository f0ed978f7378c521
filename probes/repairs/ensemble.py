"""A bank of prompts that are all asked."""

from probes.repairs.bank import BankWork
from probes.specs.repairs.ensemble import EnsembleSpec
from probes.specs.repairs.idp import IdpSpec


class EnsembleWork(BankWork[EnsembleSpec]):
    """The same bank as one that keeps every prompt."""

    def idp(self, spec: EnsembleSpec) -> IdpSpec:
        """The same bank as one that keeps every prompt."""
        return spec.idp


REPAIR = EnsembleWork()
