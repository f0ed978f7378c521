"""Before a run: which cells, about how long, and the smallest effect that the study could detect."""

from collections.abc import Iterator

import numpy as np
from transformers import PreTrainedModel

from analysis.cells import Cell
from analysis.memory import TASK_ITEM, bytes_for
from analysis.pool import workers_for
from analysis.resolution import CellFound, Detectable, Left, ModelFound, Resolution
from analysis.resolve import Resolved
from analysis.scopes import ABLATIONS
from analysis.shapes import Shape
from analysis.significance import smallest_detectable
from analysis.study import Study, groups_of
from data.facts import FactSet
from probes.families import family_of
from probes.spreading import SPREAD

SECONDS_PER_FLOP = {"cpu": 1 / 5e10, "cuda": 1 / 5e13, SPREAD: 1 / 5e13}
"""One core of an ordinary machine, measured at 3 to 9 x 10^10 a second over the cells of SmolLM2-135M; and of a
data-centre GPU a tenth of the 5 x 10^14 at which an H200 ran OPT-6.7B's plain pass in bfloat16: cells do much else."""
CELL_SECONDS = 1.0
"""What opening a model and writing results takes beside that: most of a cell of a tiny model."""
PAIRED_DEVIATION = 0.5
"""Standard deviation of a person's paired accuracy difference: the most that a share of right answers allows."""


def seconds_for(cell: Cell, shape: Shape, facts: FactSet) -> float:
    """A rough cost of one cell from the tokens it reads; good to a factor of two or three."""
    return CELL_SECONDS + _computing(cell, shape, facts)


def _computing(cell: Cell, shape: Shape, facts: FactSet) -> float:
    """What the passes of a cell take."""
    parameters = shape.parameters
    one = SECONDS_PER_FLOP[cell.fields["device"].split(":")[0]]
    if cell.kind == "compressed":
        settings = cell.fields["compression"]
        return 6 * parameters * settings.get("samples", 1) * settings.get("block_length", 1) * one
    if cell.kind == "tuned":
        if "seed" not in cell.fields:  # computed from weights, brought, or made from what was tuned
            return 0.0
        tuning = cell.fields["tuning"]
        tokens = tuning["batch"] * 24 + tuning["text_batch"] * tuning["text_length"]
        return 5 * parameters * tuning["steps"] * tokens * one
    if cell.kind == "scored":
        items = len(facts.select(cell.fields["groups"]))
        return 2 * parameters * items * 24 * one
    if cell.kind == "tasks":
        return 2 * parameters * _task_tokens(cell) * one
    if "inside" in cell.fields:
        return 2 * parameters * _questions_inside(cell, shape, facts) * 24 * one
    drift = cell.fields["drift"]
    tokens = drift["questions"] * 12 + drift["windows"] * drift["length"]
    return 2 * parameters * tokens * (len(cell.fields["variants"]) + 3) * one


def _task_tokens(cell: Cell) -> int:
    """Tokens read by a cell that scores a task; a task without a limit of items is taken for a thousand."""
    if "perplexity" in cell.fields:
        return cell.fields["perplexity"]["documents"] * TASK_ITEM * 2
    return (cell.fields["task"]["items"] or 1000) * TASK_ITEM


def _questions_inside(cell: Cell, shape: Shape, facts: FactSet) -> int:
    """How often a question is read by a cell that looks inside, all passes together."""
    settings, variants, groups = cell.fields["inside"], len(cell.fields["variants"]), cell.fields["groups"]
    if cell.kind == "lens":
        return settings["items"] * len(groups) * (variants + 1)
    if cell.kind == "probed":
        return len(facts.select(groups)) * (variants + 1)
    if cell.kind == "examples":
        return settings["items"] * variants
    # Three arms at every place that is patched; two forms of every knockout and of its placebo, for every prompt.
    layers, prompts = -(-shape.layers // settings["step"]), variants - 1
    patches = 3 * layers * len(settings["sites"]) * len(settings["positions"])
    heads = layers * shape.heads * (3 + 4 * prompts) if settings["heads"] else 0
    return settings["items"] * (patches + heads + 4 * (layers + 1) * prompts)


def resolution_of(resolved: Resolved, todo: list[Cell] | None = None) -> Resolution:
    """What was found of a study, with what each cell takes; `todo` are the cells that are not computed yet."""
    plan, found = resolved.plan, resolved.found
    shape = Shape.of(resolved.model, plan.study.dtype)
    left = None
    if todo is not None:
        keys = {cell.key for cell in todo}
        places = tuple(place for place, cell in enumerate(plan.cells) if cell.key in keys)
        left = Left(cells=places, workers=workers_for(plan.study.threads, plan.study.device))
    return Resolution(
        study=plan.study.name,
        model=model_found(plan.study.model, resolved.model, plan.study.dtype, here=found is not None),
        read_beside=() if found is None else found.read_beside,
        notes=resolved.notes,
        cells=tuple(_found(cell, shape, resolved.facts) for cell in plan.cells),
        detectable=tuple(_detectable(plan.study, resolved.facts)),
        left=left,
    )


def model_found(name: str, model: PreTrainedModel, dtype: str, *, here: bool) -> ModelFound:
    """A model's family and size."""
    return ModelFound(
        name=name,
        family=family_of(model).model_type,
        parameters=Shape.of(model, dtype).parameters,
        dtype=dtype,
        source="configuration" if here else "shape",
    )


def _found(cell: Cell, shape: Shape, facts: FactSet) -> CellFound:
    """A cell with what it takes."""
    seconds = round(seconds_for(cell, shape, facts), 3)
    return CellFound(kind=cell.kind, label=cell.label, seconds=seconds, bytes=bytes_for(cell, shape))


def _detectable(study: Study, facts: FactSet) -> Iterator[Detectable]:
    """The smallest effect that each scope could show; ablations ask the same subjects, and decide nothing."""
    for scope, groups in groups_of(study).items():
        if scope != ABLATIONS:
            subjects = len({fact.subject for fact in facts.select(groups, "test")})
            smallest = float(smallest_detectable(subjects, PAIRED_DEVIATION / np.sqrt(2)))
            yield Detectable(scope=scope, subjects=subjects, difference=smallest)
