"""Tune one prompt or adapter on the facts of tune people and on running text, and keep it with its loss curve."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pydantic import TypeAdapter

from analysis.banks import tuning_clusters
from analysis.opening import ADAPTER, PROMPT, clean_blocks, facts_of, parent_model
from analysis.study import Tuning
from data.facts import FactSet
from probes.lora import adapted, add_lora
from probes.models import OpenedModel
from probes.prompts import draw_prompt, save_prompts
from probes.specs import LoraSpec, PromptSpec, TunedSpec
from probes.tuning import Step, TuningRow, statement_rows, text_rows, tune


def work(fields: dict[str, Any], needs: dict[str, Path], folder: Path) -> None:
    """Write the tuned parameters, the training table and a count of what was read."""
    opened = parent_model(fields, needs)
    spec = TypeAdapter(TunedSpec).validate_json(json.dumps(fields["repair"]))
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
    common = {
        "steps": budget.steps,
        "batch": budget.batch,
        "text_batch": budget.text_batch,
        "learning_rate": spec.learning_rate,
        "seed": fields["seed"],
    }
    if isinstance(spec, PromptSpec):
        prompt = torch.nn.Parameter(draw_prompt(opened.model, spec.length, fields["seed"]))
        log = tune(opened.model, [prompt], rows, text_rows(windows), prompt=prompt, **common)
        save_prompts([prompt.detach()], folder / PROMPT)
        added = prompt.numel()
    else:
        assert isinstance(spec, LoraSpec)
        lora = add_lora(opened.model, rank=spec.rank, targets=spec.targets, seed=fields["seed"])
        parameters = [one for one in lora.parameters() if one.requires_grad]
        log = tune(adapted(lora), parameters, rows, text_rows(windows), prompt=None, **common)
        lora.save_pretrained(str(folder / ADAPTER))
        added = sum(one.numel() for one in parameters)
    _write_log(folder, log, added, len(rows), len(windows), dropped)


def _share_of(opened: OpenedModel, facts: FactSet, fields: dict[str, Any]) -> list[TuningRow]:
    """The rows of one prompt of a bank that divides the tuning text."""
    share = fields["share"]
    rows, clusters = tuning_clusters(opened, facts, fields["groups"], share["bank"], share["count"], share["seed"])
    return [row for row, label in zip(rows, clusters.label, strict=True) if label == share["place"]]


def _write_log(folder: Path, log: list[Step], added: int, rows: int, windows: int, dropped: int) -> None:
    """The loss curve and the size of what was read."""
    pd.DataFrame([vars(step) for step in log]).to_parquet(folder / "training.parquet", index=False)
    summary = {
        "parameters_added": added,
        "steps": len(log),
        "tokens_seen": sum(step.tokens for step in log),
        "fact_rows": rows,
        "text_windows": windows,
        "windows_stating_facts_dropped": dropped,
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
