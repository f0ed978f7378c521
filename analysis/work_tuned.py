"""Make one repair and keep it: tuned on the facts of tune people and on running text, with its loss curve.

The one that is computed from the dense weights reads nothing, and nor does one that was made elsewhere.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter

from analysis.banks import tuning_clusters
from analysis.opening import clean_blocks, dense, facts_of, tuned_over
from analysis.study import Tuning
from analysis.tuners import Size, TuningData, bring, put_back, tune_repair
from data.facts import FactSet
from probes.models import OpenedModel
from probes.specs import FolderSpec, NamedSpec, PromptSpec, ReinjectionSpec
from probes.tuning import Step, TuningRow, statement_rows, text_rows


def work(fields: dict[str, Any], needs: dict[str, Path], folder: Path) -> None:
    """Write the tuned parameters, the training table and a count of what was read."""
    opened = tuned_over(fields, needs)
    spec = TypeAdapter(NamedSpec).validate_json(json.dumps(fields["repair"]))
    if isinstance(spec, ReinjectionSpec | FolderSpec):
        size = (
            put_back(dense(fields).model, opened.model, spec, folder)
            if isinstance(spec, ReinjectionSpec)
            else bring(opened.model, fields["model"], spec, folder)
        )
        _write_log(folder, [], size, rows=0, windows=0, dropped=0)
        return
    budget = Tuning(**fields["tuning"])
    facts = facts_of(fields)
    people = facts.select(fields["groups"], "tune")
    answers = spec.answers if isinstance(spec, PromptSpec) else "true"
    shuffled = answers == "shuffled"
    statements = facts.shuffled_statements(people, fields["seed"]) if shuffled else facts.statements(people)
    rows = statement_rows(opened.tokenizer, statements, masked=answers == "masked")
    if "share" in fields:
        rows = _share_of(opened, facts, fields)
    windows: list[list[int]] = []
    dropped = 0
    if budget.text_batch:
        most = budget.text_batch * budget.steps
        windows, dropped = clean_blocks(fields, "tuning", budget.text_length, fields["seed"], most)
    data = TuningData(rows, text_rows(windows), fields["seed"], budget.model_dump(exclude={"text_length"}))
    log, size = tune_repair(opened.model, spec, data, folder)
    _write_log(folder, log, size, len(rows), len(windows), dropped)


def _share_of(opened: OpenedModel, facts: FactSet, fields: dict[str, Any]) -> list[TuningRow]:
    """The rows of one prompt of a bank that divides the tuning text."""
    share = fields["share"]
    rows, clusters = tuning_clusters(opened, facts, fields["groups"], share["bank"], share["count"], share["seed"])
    return [row for row, label in zip(rows, clusters.label, strict=True) if label == share["place"]]


def _write_log(folder: Path, log: list[Step], size: Size, rows: int, windows: int, dropped: int) -> None:
    """The loss curve, the size of the repair and that of what was read."""
    columns = {"step": int, "loss": float, "tokens": int}
    training = pd.DataFrame([vars(step) for step in log], columns=list(columns)).astype(columns)
    training.to_parquet(folder / "training.parquet", index=False)
    summary = {
        **asdict(size),
        "steps": len(log),
        "tokens_seen": sum(step.tokens for step in log),
        "fact_rows": rows,
        "text_windows": windows,
        "windows_stating_facts_dropped": dropped,
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
