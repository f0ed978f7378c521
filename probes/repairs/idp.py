"""A bank of prompts of which one is kept per question (arXiv 2310.00867)."""

from probes.repairs.bank import BankWork
from probes.specs.repairs.idp import IdpSpec


class IdpWork(BankWork[IdpSpec]):
    """The bank itself."""

    def idp(self, spec: IdpSpec) -> IdpSpec:
        """The bank itself."""
        return spec


REPAIR = IdpWork()
