"""The atlas's twin, which stands in the parent's place when it is opened."""

from probes.repairs.base import RepairWork
from probes.specs.repairs.twin import TwinSpec

REPAIR: RepairWork[TwinSpec] = RepairWork()
