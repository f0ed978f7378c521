"""Small studies that several tests run, and what a cell of theirs needs."""

import json
import tempfile
from pathlib import Path
from typing import Any

from analysis.cell import Cell
from analysis.study import Study

STUDY = Study.model_validate(
    {
        "name": "small",
        "model": "atlas",
        "facts": "atlas",
        "relations": ["instrument"],
        "groups": ["open"],
        "controls": ["locked"],
        "text": "atlas",
        "compressions": [{"method": "magnitude", "sparsity": 0.6, "samples": 4, "block_length": 32}],
        "seeds": [0],
        "repairs": [
            {"kind": "prompt", "length": 2, "learning_rate": 0.03},
            {"kind": "idp", "lengths": [2, 4], "learning_rate": 0.03},
            {"kind": "lora", "rank": 1, "learning_rate": 0.01},
        ],
        "reported": ["prompt-2", "idp-2,4-attention", "lora-r1"],
        "tuning": {"steps": 3, "batch": 4},
        "drift": {"questions": 4, "windows": 2, "length": 16, "batch": 2},
    }
)
"""One compression, three repairs, one seed, a control: what a run of every kind of table takes."""

AS_WRITTEN = """
name: toy
model: atlas
facts: atlas
relations: [instrument]
groups: [open]
text: atlas
compressions: [{method: magnitude, sparsity: 0.6, samples: 4, block_length: 32}]
seeds: [0]
repairs: [{kind: prompt, length: 2, learning_rate: 0.03}]
reported: [prompt-2]
tuning: {steps: 3, batch: 4}
drift: {questions: 4, windows: 2, length: 16, batch: 2}
"""
"""The smallest of all, as a person writes it: one repair, no control."""


def with_needs(cell: Cell) -> list[Cell]:
    """A cell after all that it needs, at first and second hand."""
    return [*(one for need in cell.needs.values() for one in with_needs(need)), cell]


HELD = tempfile.TemporaryDirectory()
"""Two folders of tasks: one that the study names, and one with another task."""
for folder, name in (("one", "said"), ("one", "told"), ("other", "said")):
    (Path(HELD.name) / folder).mkdir(exist_ok=True)
    rows = [{"prompt": f"{folder} {place}", "answer": "x"} for place in range(3)]
    (Path(HELD.name) / folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
PROMPT = {"kind": "prompt", "length": 2, "learning_rate": 0.03}
LORA = {"kind": "lora", "rank": 1, "learning_rate": 0.01}
BASE: dict[str, Any] = {
    "name": "keys",
    "model": "atlas",
    "facts": "atlas",
    "relations": ["instrument", "birthplace"],
    "groups": ["open"],
    "controls": ["locked"],
    "text": "atlas",
    "compressions": [
        {"method": "magnitude", "sparsity": 0.6, "samples": 4, "block_length": 32},
        {"method": "magnitude", "sparsity": 0.7, "samples": 4, "block_length": 32},
    ],
    "seeds": [0, 1],
    "repairs": [PROMPT, LORA, {"kind": "idp", "lengths": [2, 4], "learning_rate": 0.03}],
    "reported": ["prompt-2"],
    "tuning": {"steps": 4, "batch": 4, "text_batch": 2, "text_length": 16},
    "drift": {"questions": 4, "windows": 2, "length": 16, "batch": 2},
    "transfer": {"repairs": ["prompt-2"], "relations": ["instrument"], "text": {"batch": 2, "length": 16}},
    "ablations": {"compression": "magnitude-60%", "repairs": [PROMPT | {"length": 4}]},
    "budget": {"equal": ["steps"], "to": "prompt-2"},
    "inside": {},
    "tasks": {"files": f"{HELD.name}/one", "items": 2},
}
"""A study that sets every block, as its file has it."""
