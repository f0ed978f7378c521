"""Before a run: which cells, about how long, and the smallest effect that the study could detect."""

import numpy as np

from analysis.cells import KINDS, Cell, Plan
from analysis.memory import TASK_ITEM, bytes_for, spoken_bytes
from analysis.pool import workers_for
from analysis.scopes import ABLATIONS
from analysis.shapes import Shape
from analysis.significance import smallest_detectable
from analysis.sizes import check_budget, check_fits
from analysis.study import groups_of
from data.facts import FactSet
from probes.models import outline
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


def estimate(plan: Plan, facts: FactSet, todo: list[Cell], *, here: bool = True) -> str:
    """What a dry run prints: cells by kind with an estimate, each cell's label, and what could be seen.

    Sizes come from the configuration of the model's files, or from the study's `shape` where they are not `here`.

    Raises:
        InputError: a repair that does not fit the model or the study's budget.
    """
    study = plan.study
    model = outline(study.model, None if here else study.shape)
    check_fits(study, model)
    check_budget(study, model)
    shape = Shape.of(model, study.dtype)
    workers = workers_for(study.threads, study.device)
    lines = [f"{study.name}: {len(plan.cells)} cells, {len(plan.cells) - len(todo)} of them cached"]
    where = "its configuration" if here else "the study's shape, as its files are not on this machine"
    lines.append(f"{study.model}: {shape.parameters:,} parameters in {study.dtype}, by {where}")
    total = 0.0
    for kind in KINDS:
        seconds = sum(seconds_for(cell, shape, facts) for cell in todo if cell.kind == kind)
        total += seconds
        most = max((bytes_for(cell, shape) for cell in plan.of(kind)), default=0)
        lines.append(
            f"  {kind:<11} {len(plan.of(kind)):>4}   about {seconds / workers:>6.0f} s left on {workers} workers, "
            f"{spoken_bytes(most)} each"
        )
    lines.append(f"about {total / workers / 60:.1f} minutes in all (to a factor of three; memory to a factor of two)")
    for scope, groups in groups_of(study).items():
        if scope == ABLATIONS:  # asks the same people, and decides nothing
            continue
        people = len({fact.subject for fact in facts.select(groups, "test")})
        smallest = smallest_detectable(people, PAIRED_DEVIATION / np.sqrt(2))
        lines.append(
            f"{scope}: {people} test people; a paired accuracy difference of {smallest:.3f} is found with power .8"
        )
    left = {cell.key for cell in todo}
    lines += ["", *(f"  {'todo' if cell.key in left else 'done'}  {cell.kind:<11} {cell.label}" for cell in plan.cells)]
    return "\n".join(lines)
