"""How much memory a cell takes, foretold from shapes before a run.

In numbers of the model's dtype unless said, T tokens a row, L layers:
    every cell     the process, and the dense weights and one copy of them
    compressed     a third copy while it is proved; the inputs of one block for all samples, twice; one Hessian (fp32)
    tuned          what the backward pass keeps of every layer: about 16 widths and 4 inner widths a token, 3 patterns
    scored         keys and values, the tensors of one layer, logits of one batch three times (fp32)
    drift          two references: four states and a pattern per layer; a variant's layer beside them; as much again as
                   one reference where a host sends the tensors
    lens, probed   the tensors of one layer, logits of one batch three times (fp32); examples: of one question
    tasks          keys and values of a context for four answers, one layer's tensors, logits of 1,024 positions (fp32)
    intervened     states of both models at every site and layer, the tensors of one layer, logits of one batch (fp32)
Good to a factor of two.
"""

from typing import Any

from analysis.amounts import spoken_bytes
from analysis.cells import Cell
from analysis.shapes import Shape
from data.errors import InputError

PROCESS = 900_000_000
"""Bytes of a worker with its libraries and no model, as measured."""
QUESTION = 24
"""Tokens of an ordinary question with its prompt."""
TASK_ITEM = 64
"""Tokens of an ordinary item of a task with its answers."""
HELD_LOGITS = 1024
"""Positions of answers whose logits `probes/continuations.py` holds at once."""


def bytes_for(cell: Cell, shape: Shape) -> int:
    """Foretell the peak memory of the process that computes a cell."""
    return PROCESS + 2 * shape.weights + _WORK[cell.kind](cell.fields, shape)


def _compressed(fields: dict[str, Any], shape: Shape) -> int:
    settings = fields["compression"]
    samples, length = settings.get("samples", 1), settings.get("block_length", 1)
    inputs = 2 * samples * length * shape.width * shape.number
    hessian = 2 * 4 * shape.inner**2
    return shape.weights + inputs + hessian + shape.layer(1, length) + 4 * length * shape.vocabulary


def _tuned(fields: dict[str, Any], shape: Shape) -> int:
    tuning = fields["tuning"]
    prompt = fields["repair"].get("length", 0)

    def kept(rows: int, length: int) -> int:
        each = 16 * shape.width + 4 * shape.inner + 3 * shape.heads * length
        return shape.number * rows * length * shape.layers * each

    facts = kept(tuning["batch"], QUESTION + prompt)
    text = kept(tuning["text_batch"], tuning["text_length"] + prompt)
    logits = 3 * 4 * shape.vocabulary * max(tuning["batch"] * 4, tuning["text_batch"] * tuning["text_length"])
    return max(facts, text) + logits


def _scored(fields: dict[str, Any], shape: Shape) -> int:
    rows = fields["score_batch"]
    cache = 2 * shape.number * rows * QUESTION * shape.layers * shape.width
    return cache + shape.layer(rows, QUESTION) + 3 * 4 * rows * shape.vocabulary


def _drift(fields: dict[str, Any], shape: Shape) -> int:
    drift = fields["drift"]
    rows, length = drift["batch"], max(drift["length"], QUESTION)
    sent = _reference(shape, rows, length) if drift["backend"] == "nnsight_remote" else 0
    return comparison_bytes(shape, rows, length) + sent


def comparison_bytes(shape: Shape, rows: int, length: int) -> int:
    """What comparing one batch takes beyond the weights: two references, and a variant's layer beside them."""
    return 2 * _reference(shape, rows, length) + 2 * shape.layer(rows, length)


def _reference(shape: Shape, rows: int, length: int) -> int:
    return shape.number * shape.layers * rows * length * (4 * shape.width + shape.heads * length)


def _read(fields: dict[str, Any], shape: Shape) -> int:
    return _states_read(fields["inside"]["batch"], shape)


def _states_read(rows: int, shape: Shape) -> int:
    return shape.layer(rows, QUESTION) + 3 * 4 * rows * shape.vocabulary


def _intervened(fields: dict[str, Any], shape: Shape) -> int:
    settings = fields["inside"]
    rows, sites = settings["items"], len(settings["sites"])
    held = 2 * shape.number * rows * QUESTION * shape.width * shape.layers * sites
    return held + shape.layer(rows, QUESTION) + 3 * 4 * rows * shape.vocabulary


def _examples(fields: dict[str, Any], shape: Shape) -> int:
    patterns = shape.number * shape.layers * shape.heads * QUESTION**2
    return patterns + _states_read(1, shape) + 3 * 4 * QUESTION * shape.vocabulary


def _tasks(fields: dict[str, Any], shape: Shape) -> int:
    asked = fields["task"] if "task" in fields else fields["perplexity"]
    length = asked.get("window", TASK_ITEM)
    rows = asked["batch"] if "task" in fields else 1
    cache = 2 * 4 * shape.number * rows * length * shape.layers * shape.width
    return cache + shape.layer(rows, length) + 3 * 4 * HELD_LOGITS * shape.vocabulary


_WORK = {
    **{"compressed": _compressed, "tuned": _tuned, "scored": _scored, "drift": _drift},
    **{"lens": _read, "probed": _read, "intervened": _intervened, "examples": _examples},
    "tasks": _tasks,
}


def workers_within(budget: int, cells: list[Cell], shape: Shape, most: int) -> int:
    """How many workers fit into the budget, each with the largest of these cells.

    Raises:
        InputError: not even one does; names the cell and what to make smaller.
    """
    largest = max(cells, key=lambda cell: bytes_for(cell, shape), default=None)
    if largest is None:
        return most
    needed = bytes_for(largest, shape)
    if needed > budget:
        smaller = {
            "compressed": "compressions: samples or block_length",
            "tuned": "tuning: batch, text_batch or text_length",
            "scored": "score_batch",
            "drift": "drift: batch or length",
            "lens": "inside.batch",
            "probed": "inside.batch",
            "intervened": "inside.interventions: items or sites",
            "examples": "inside.examples, by leaving them out (null)",
            "tasks": "tasks.batch or tasks.perplexity.window",
        }[largest.kind]
        raise InputError(
            f"'{largest.label}' needs about {spoken_bytes(needed)} and the budget is {spoken_bytes(budget)}: "
            f"allow more, or lower {smaller}"
        )
    return min(most, budget // needed)
