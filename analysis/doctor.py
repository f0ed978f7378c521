"""What can be read of a model, how exactly, and what it costs: asked before a run, on one small batch."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from transformers import PreTrainedModel

from analysis.amounts import spoken_bytes
from analysis.drift import DRIFT_KINDS
from analysis.dry_run import accepted, look_at_model
from analysis.memory import PROCESS, comparison_bytes
from analysis.shapes import Shape
from data.errors import InputError
from probes.backends import BACKENDS, HOSTED
from probes.capture import Parity, Recorder
from probes.families import family_of
from probes.inputs import Inputs, build_inputs
from probes.models import OpenedModel, open_model
from probes.sites import Kind, Site, kinds_of, module_name, sites_of, sizes_of
from probes.tokens import encode

WORDS = "the quick brown fox"
"""What is read of a model on trial."""


@dataclass(frozen=True)
class _Backend:
    """One backend made for the model: how far it is from Hugging Face, and seconds of a pass with drift's sites."""

    floor: Parity
    seconds: float


def show_model(
    console: Console,
    name: str,
    dtype: str,
    device: str,
    *,
    length: int = 64,
    batch: int = 8,
    memory: int | None = None,
    hosted: bool = False,
) -> None:
    """Print a model's sites with shapes and modules, each backend's parity floor, and what capture costs.

    Backends that ask another machine are tried only where `hosted` says so.

    Raises:
        InputError: the model cannot be read, its positions end before `length`, or comparing a batch of this size
            is foretold to take more than `memory` bytes; nothing is run then. Or a host did not run a pass.
    """
    told = accepted(look_at_model(name, dtype))
    opened = open_model(name, dtype=dtype, device=device)
    model = opened.model
    row = _first_tokens(name, opened)
    timed = build_inputs(model, [[row[-1]] * length] * batch)
    shape = Shape.of(model)
    beyond = comparison_bytes(shape, batch, length)
    needed = PROCESS + 2 * shape.weights + beyond
    if memory is not None and needed > memory:
        raise InputError(
            f"comparing {batch} x {length} tokens of '{name}' needs about {spoken_bytes(needed)} and the budget is "
            f"{spoken_bytes(memory)}: allow more, or lower --batch or --length"
        )
    names = [*BACKENDS, *(HOSTED if hosted else ())]
    found, refused = _backends(names, model, build_inputs(model, [row, row[:2]]), timed)
    console.print(_sites(name, model, batch, length, found))
    for backend, reason in refused.items():
        console.print(f"{backend}: {reason}", markup=False)
    for backend, one in found.items():
        passed = "passed" if one.floor.passed else f"FAILED at {one.floor.worst[0]}"
        console.print(
            f"{backend}: parity {passed}, logits differ from Hugging Face by at most {one.floor.max_abs_logits:.1e}",
            markup=False,
        )
    _show_cost(console, model, shape, timed, beyond, needed, found)
    for line in told.lines:
        console.print(line, markup=False)


def _first_tokens(name: str, opened: OpenedModel) -> list[int]:
    """Some tokens of a text."""
    row = encode(opened.tokenizer, WORDS)
    if not row:
        raise InputError(
            f"model '{name}': its tokenizer makes no token of '{WORDS}': it is not the model's own, or its files are "
            "damaged"
        )
    return row


def _backends(
    names: Iterable[str], model: PreTrainedModel, small: Inputs, timed: Inputs
) -> tuple[dict[str, _Backend], dict[str, InputError]]:
    """Every backend of these that can read the model, and why the others cannot."""
    found: dict[str, _Backend] = {}
    refused: dict[str, InputError] = {}
    for name in names:
        try:
            recorder = Recorder(model, backend=name)
        except InputError as error:
            if name == "hooks":  # the referee: what it cannot read, nothing can
                raise
            refused[name] = error
            continue
        floor = recorder.parity(small, sites_of(model, Kind))
        sites = sites_of(model, DRIFT_KINDS)
        start = time.perf_counter()
        recorder.stream(timed, sites, lambda site, tensor: None, logits_at=torch.empty(0, dtype=torch.long))
        found[name] = _Backend(floor, time.perf_counter() - start)
    return found, refused


def _sites(name: str, model: PreTrainedModel, batch: int, length: int, found: dict[str, _Backend]) -> Table:
    """One row per kind of site."""
    family = family_of(model)
    layers = len(family.blocks_of(model))
    table = Table(title=escape(f"{name}: {family.model_type}, {layers} layers; largest difference from plain hooks"))
    for column in ("site", "axes", "shape", "module", *found):
        table.add_column(column, overflow="fold")
    sizes = sizes_of(model, batch, length)
    for kind in Kind:
        if kind not in kinds_of(model):
            table.add_row(kind.value, "none: attention and MLP of a block read the same stream")
            continue
        module = module_name(model, Site(0 if kind.in_block else layers, kind)).replace(".0", ".N", 1)
        shape = " x ".join(str(sizes[axis]) for axis in kind.axes.split())
        floors = [_worst(one.floor, kind) for one in found.values()]
        table.add_row(kind.value, kind.axes, shape, f"{module} {kind.reads}", *floors)
    return table


def _worst(floor: Parity, kind: Kind) -> str:
    """The largest gap at sites of a kind; the referee's own is that from Hugging Face's report, where there is one."""
    gaps = floor.referee if floor.backend == "hooks" else floor.sites
    at = [gap.max_abs for site, gap in gaps.items() if site.kind is kind]
    return f"{max(at):.1e}" if at else "referee"


@torch.no_grad()
def _show_cost(
    console: Console,
    model: PreTrainedModel,
    shape: Shape,
    timed: Inputs,
    beyond: int,
    needed: int,
    found: dict[str, _Backend],
) -> None:
    batch, length = timed.attention_mask.shape
    start = time.perf_counter()
    model(**timed.forward_arguments(), use_cache=False)
    plain = time.perf_counter() - start
    captures = ", ".join(f"{name} {one.seconds:.2f} s" for name, one in found.items())
    console.print(
        f"{shape.parameters:,} parameters, {shape.weights / 1e6:,.0f} MB; {batch} x {length} tokens: one plain pass "
        f"{plain:.2f} s, one pass with drift's sites streamed, no head: {captures}",
        markup=False,
    )
    console.print(
        f"comparing such a batch with two references: about {spoken_bytes(beyond)} beyond the weights, "
        f"{spoken_bytes(needed)} for the process (to a factor of two)",
        markup=False,
    )
