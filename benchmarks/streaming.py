"""What streaming drift costs: residual and attention drift of five variants, in units of the passes it needs.

Time: the six plain forward passes (dense and the five variants; eager attention, language-model head included).
Memory: the most the process holds beyond what it held with all models open, in units of one plain pass.
Beside ours, the same numbers from tensors kept whole: TransformerLens' `run_with_cache` with a filter of names, and
nnsight's saved tensors. Rows are read a few at a time, so that no pass holds more than TOKENS tokens.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from analysis.drift import DRIFT_KINDS, Comparison, Reference
from benchmarks.measure import Ratio, peak_bytes, time_ratio, times
from benchmarks.models import open_benchmark_model, rows_of, variants_of
from probes.capture import Recorder
from probes.inputs import Inputs
from probes.sites import Site, sites_of
from probes.variants import Variant

SHAPES = ((4, 256), (1, 1024))
TIME_TARGET, MEMORY_TARGET = 1.25, 1.5
