"""From the list of repairs to how each is made and opened."""

import importlib
from typing import Any

from probes.repairs.base import RepairWork
from probes.specs.repairs.base import Repair
from probes.specs.repairs.registry import kind_of


def work_of(repair: Repair) -> RepairWork[Any]:
    """How repairs of this one's kind are made and opened."""
    work: RepairWork[Any] = importlib.import_module(kind_of(repair.kind).made_in).REPAIR
    return work
