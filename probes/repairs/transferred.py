"""A repair that was tuned elsewhere, opened as what it is."""

from pathlib import Path

from probes.repairs.base import Opening, RepairWork
from probes.repairs.registry import work_of
from probes.specs.repairs.transferred import TransferredSpec
from probes.variants import Variant


class TransferredWork(RepairWork[TransferredSpec]):
    """What was tuned elsewhere, over this copy."""

    def open(self, spec: TransferredSpec, opening: Opening) -> Variant:
        """As where it was tuned."""
        return work_of(spec.of).open(spec.of, opening)

    def write(self, spec: TransferredSpec, opening: Opening, to: Path) -> None:
        """As where it was tuned."""
        work_of(spec.of).write(spec.of, opening, to)


REPAIR = TransferredWork()
