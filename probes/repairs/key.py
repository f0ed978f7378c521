"""The parent, which is asked behind the key."""

from probes.repairs.base import RepairWork
from probes.specs.repairs.key import KeySpec

REPAIR: RepairWork[KeySpec] = RepairWork()
