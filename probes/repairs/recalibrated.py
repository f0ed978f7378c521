"""The parent, whose answers are re-weighted elsewhere: the model is untouched."""

from probes.repairs.base import RepairWork
from probes.specs.repairs.recalibrated import RecalibrationSpec

REPAIR: RepairWork[RecalibrationSpec] = RepairWork()
