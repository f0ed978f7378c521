"""Make one repair and keep it: tuned on the facts of tune people and on running text, with its loss curve.

The one that is computed from the dense weights reads nothing, and nor does one that was made elsewhere.
"""

import json
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter
from transformers import PreTrainedModel

from analysis.opening import dense, facts_of, tuned_over, tuning_blocks
from analysis.study import Tuning
from data.errors import InputError
from data.facts import FactSet
from probes.models import OpenedModel
from probes.repairs.bank import planted_rows, tuning_clusters
from probes.repairs.base import Making, Size, TuningData
from probes.repairs.registry import work_of
from probes.specs.repairs.base import NamedRepair, Repair
from probes.tuning import Step, TuningRow, statement_rows, text_rows, tokens_by_step


def work(fields: dict[str, Any], needs: dict[str, Path], folder: Path) -> None:
    """Write the tuned parameters, the training table and a count of what was read."""
    opened = tuned_over(fields, needs)
    spec = TypeAdapter(NamedRepair).validate_json(json.dumps(fields["repair"]))
    if "seed" not in fields:
        _make(opened.model, spec, fields, needs, folder)
        return
    budget = Tuning(**fields["tuning"])
    rows = _rows(opened, spec, fields)
    windows: list[list[int]] = []
    dropped = 0
    if budget.text_batch:
        most = budget.text_batch * budget.steps
        windows, dropped = tuning_blocks(opened.tokenizer, fields, budget.text_length, fields["seed"], most)
    settings = budget.model_dump(exclude={"text_length"})
    if "tokens_of" in fields:
        everything = statement_rows(opened.tokenizer, _statements(facts_of(fields), spec, fields))
        settings["steps"] = _steps_for(fields["tokens_of"], everything, rows, text_rows(windows), settings, fields)
    data = TuningData(rows, text_rows(windows), fields["seed"], settings)
    log, size = work_of(spec).tune(opened.model, spec, data, folder)
    _write_log(folder, log, size, len(rows), len(windows), dropped)


def _make(model: PreTrainedModel, spec: Repair, fields: dict[str, Any], needs: dict[str, Path], folder: Path) -> None:
    """What is not tuned here: computed from weights, made elsewhere, or made from what was tuned.

    The last counts the steps and tokens of what it was made from, since it costs them too.

    Raises:
        InputError: what was made elsewhere changed since the study was planned.
    """
    work = work_of(spec)
    size = work.make(spec, Making(model, fields["model"], needs, lambda: dense(fields).model), folder)
    # Asked after it was read: it is what was planned, or nothing of it is kept.
    if "folder_sha" in fields and work.sha(spec) != fields["folder_sha"]:
        raise InputError(
            f"'{spec.paths[0]}', which a repair is brought from, changed while the study ran: start it again"
        )
    if "whole" not in needs:
        _write_log(folder, [], size, rows=0, windows=0, dropped=0)
        return
    told = json.loads((needs["whole"] / "summary.json").read_text())
    size = replace(size, parameters_tuned=told["parameters_tuned"])
    _write_log(folder, [], size, told["fact_rows"], told["text_windows"], told["windows_stating_facts_dropped"])
    summary = json.loads((folder / "summary.json").read_text())
    spent = {name: told[name] for name in ("steps", "tokens_seen")}
    (folder / "summary.json").write_text(json.dumps(summary | spent, indent=1) + "\n")


def _statements(facts: FactSet, spec: Repair, fields: dict[str, Any]) -> list[tuple[str, str]]:
    """The facts that a repair reads, as statements."""
    read = fields.get("read", "all")
    if read == "text":
        return []
    people = facts.select(fields["groups"], "tune")
    if read != "all":
        people = tuple(fact for fact in people if fact.relation in read)
    if spec.told == "shuffled":
        return list(facts.shuffled_statements(people, fields["seed"]))
    return list(facts.statements(people))


def _rows(opened: OpenedModel, spec: Repair, fields: dict[str, Any]) -> list[TuningRow]:
    """The facts that a repair reads, as rows: all of them, or a prompt's share of its bank's."""
    facts = facts_of(fields)
    if "share" in fields:
        return _share_of(opened, facts, fields)
    return statement_rows(opened.tokenizer, _statements(facts, spec, fields), masked=spec.told == "masked")


def _steps_for(
    wanted: dict[str, int],
    everything: list[TuningRow],
    rows: list[TuningRow],
    windows: list[TuningRow],
    settings: dict[str, Any],
    fields: dict[str, Any],
) -> int:
    """For how many steps one part reads no more than its part of what a single prompt of the replicate reads.

    Raises:
        InputError: it would not read one batch.
    """
    drawn = {"batch": settings["batch"], "text_batch": settings["text_batch"]}
    whole = sum(islice(tokens_by_step(everything, windows, seed=wanted["seed"], **drawn), settings["steps"]))
    spent, steps = 0, 0
    for tokens in tokens_by_step(rows, windows, seed=fields["seed"], **drawn):
        if spent + tokens > whole / wanted["parts"]:
            break
        spent, steps = spent + tokens, steps + 1
    if not steps:
        raise InputError(
            f"budget: {whole} tokens divided among {wanted['parts']} parts of a repair are less than one batch: "
            "raise tuning.steps"
        )
    return steps


def _share_of(opened: OpenedModel, facts: FactSet, fields: dict[str, Any]) -> list[TuningRow]:
    """The rows of one prompt of a bank that divides the tuning text, or is told otherwise by relation."""
    share = fields["share"]
    if share["bank"] == "planted":
        return planted_rows(opened, facts, fields["groups"], share["place"])
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
