"""Gather a run's cells into its tidy tables: the one place where they are joined, and the one where they are read."""

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.budgets import with_budget
from analysis.cells import Cell, Plan
from analysis.inside_tables import inside_tables
from analysis.opening import spec_of
from analysis.recovery import recovery_table
from analysis.store import Store
from analysis.task_columns import TASK_COLUMNS, TEXT_COLUMNS
from analysis.transfer import transfer_table
from analysis.work_scored import was_dealt
from analysis.worker import COST
from probes.specs.banks import BankSpec, IdpSpec
from probes.specs.controls import PlaceboSpec
from probes.specs.spec import Spec
from probes.specs.variants import TransferredSpec, VariantSpec


def replicate_of(spec: VariantSpec) -> int:
    """Which replicate a variant belongs to: its repair's seed or its compression's."""
    seed = spec.repair_seed if spec.repair_seed is not None else spec.compression_seed
    return 0 if seed is None else seed


def draw_of(spec: VariantSpec) -> int:
    """Which of its replicate's draws an untrained prompt is, from 0; 0 for what is drawn once."""
    return spec.repair.number if isinstance(spec.repair, PlaceboSpec) else 0


def gather(plan: Plan, store: Store) -> dict[str, pd.DataFrame]:
    """All tables of a finished plan."""
    scored = [(cell, spec_of(cell.fields["variant"])) for cell in plan.of("scored")]
    parity = _parity(plan, store)
    variants = pd.DataFrame([_variant_row(cell, spec, store, parity, plan) for cell, spec in scored])
    variants = with_budget(variants, plan.study)
    answers = _concatenate(
        (pd.read_parquet(store.folder(cell.key) / "answers.parquet"), spec.identity) for cell, spec in scored
    )
    tables = {
        "variants": variants,
        "answers": answers,
        "dealt": _concatenate(
            (pd.read_parquet(store.folder(cell.key) / "dealt.parquet"), spec.identity)
            for cell, spec in scored
            if was_dealt(spec.repair)
        ),
        "recovery": recovery_table(answers, variants),
        "transfer": transfer_table(plan.study, {spec.identity: spec for _, spec in scored}, answers, variants),
        "drift": _joined(plan.of("drift"), store, "drift.parquet"),
        "attention": _joined(plan.of("drift"), store, "attention.parquet"),
        "floors": _joined(plan.of("drift"), store, "floors.parquet"),
        **inside_tables(plan, store),
        "selections": _concatenate(_of_banks(scored, store, "selections")),
        "banks": _concatenate(_of_banks(scored, store, "banks")),
        "selectors": _concatenate(_of_banks(scored, store, "selectors")),
        "tasks": _tasks(plan, store, "task", TASK_COLUMNS),
        "perplexity": _tasks(plan, store, "perplexity", TEXT_COLUMNS),
        "training": _concatenate(
            (pd.read_parquet(store.folder(need.key) / "training.parquet").assign(part=role), spec.identity)
            for cell, spec in scored
            for role, need in cell.needs.items()
            if need.kind == "tuned"
        ),
        "timings": pd.DataFrame(
            [{"kind": cell.kind, "label": cell.label, **_cost_of(cell, store)} for cell in plan.cells]
        ),
    }
    return tables


def _tasks(plan: Plan, store: Store, what: str, columns: tuple[str, ...]) -> pd.DataFrame:
    """Items of tasks, or documents of texts; with their columns and no rows where the study asks for none."""
    name = "tasks" if what == "task" else what
    cells = [cell for cell in plan.of("tasks") if what in cell.fields]
    parts = [pd.read_parquet(store.folder(cell.key) / f"{name}.parquet") for cell in cells]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(columns))


def _of_banks(scored: list[tuple[Cell, VariantSpec]], store: Store, name: str) -> Iterator[tuple[pd.DataFrame, str]]:
    """A table of every variant that has a bank of prompts."""
    for cell, spec in scored:
        if isinstance(spec.repair, IdpSpec):
            yield pd.read_parquet(store.folder(cell.key) / f"{name}.parquet"), spec.identity


def _cost_of(cell: Cell, store: Store) -> dict[str, Any]:
    """How long a finished cell took, in seconds, and the most memory its worker held meanwhile, in bytes."""
    cost = json.loads((store.folder(cell.key) / COST).read_text())
    return {"seconds_to_make": cost["seconds"], "peak_bytes": cost["peak_bytes"]}


def _concatenate(parts: Iterator[tuple[pd.DataFrame, str]]) -> pd.DataFrame:
    """Tables one under the other, each marked with its variant."""
    held = [table.assign(variant_id=identity) for table, identity in parts]
    return pd.concat(held, ignore_index=True) if held else pd.DataFrame({"variant_id": []})


def _joined(cells: tuple[Cell, ...], store: Store, name: str) -> pd.DataFrame:
    """Tables that carry their variants already."""
    return pd.concat([pd.read_parquet(store.folder(cell.key) / name) for cell in cells], ignore_index=True)


def _parity(plan: Plan, store: Store) -> dict[str, float]:
    """Largest difference from Hugging Face for every variant whose inside was read."""
    found: dict[str, float] = {}
    for cell in plan.of("drift"):
        found |= json.loads((store.folder(cell.key) / "parity.json").read_text())
    return found


def _variant_row(cell: Cell, spec: VariantSpec, store: Store, parity: dict[str, float], plan: Plan) -> dict[str, Any]:
    """What one variant is, and what it cost."""
    tuned = {role: need for role, need in cell.needs.items() if need.kind == "tuned"}
    summaries = {role: _summary(store, need) for role, need in tuned.items()}
    repair = spec.repair
    width = repair.length if isinstance(repair, PlaceboSpec) else 0
    if isinstance(repair, BankSpec) and repair.bank == "texts":
        width = int(pd.read_parquet(store.folder(cell.key) / "banks.parquet")["length"].sum())
    checks = json.loads((store.folder(cell.key) / "checks.json").read_text())
    told = checks.get("prompt_tokens")
    weights = cell.needs["compressed"].key if "compressed" in cell.needs else cell.fields["model_sha"][:24]
    return {
        "variant_id": spec.identity,
        "variant": spec.name,
        "parent": spec.parent.identity if spec.parent else None,
        "model": spec.model,
        "scope": spec.scope,
        "compression": spec.compression.name if spec.compression else "dense",
        "repair": repair.name if repair else "",
        "kind": repair.kind if repair else "",
        "drawn_as": repair.drawn_as if repair else "",
        "compression_seed": spec.compression_seed,
        "repair_seed": spec.repair_seed,
        "replicate": replicate_of(spec),
        "draw": draw_of(spec),
        "tuned_on": _tuned_on(cell.fields["groups"], repair) if tuned else None,
        "text": plan.study.text,
        "tuning": plan.study.tuning.model_dump_json() if tuned else None,
        "parameters_added": _added(repair, summaries, "parameters_added"),
        "bytes_added": _added(repair, summaries, "bytes_added"),
        "parameters_tuned": sum(one["parameters_tuned"] for one in summaries.values()),
        "soft_tokens_untuned": width,
        "text_tokens": 0 if told is None else len(told),
        "prompt_tokens": None if told is None else json.dumps(told, ensure_ascii=False),
        "tokens_seen": sum(one["tokens_seen"] for one in summaries.values()),
        "steps": sum(one["steps"] for one in summaries.values()),
        "weights_sha": weights,
        "parity_max_abs": parity.get(spec.identity),
        "logit_difference": checks.get("logit_difference"),
    }


def _tuned_on(groups: list[str], repair: Spec | None) -> str:
    """Whose facts were read, or what else was."""
    read = repair.read if isinstance(repair, TransferredSpec) else "all"
    if read == "text":
        return "text alone"
    return ", ".join(groups) + ("" if read == "all" else f": {', '.join(read)}")


def _summary(store: Store, cell: Cell) -> dict[str, Any]:
    """Sizes and budget of one tuned part."""
    return json.loads((store.folder(cell.key) / "summary.json").read_text())


def _added(repair: Spec | None, summaries: dict[str, dict[str, Any]], what: str) -> int:
    """The size of what a variant carries: of all that was made for it, less the prompts of a bank that were dropped."""
    if not isinstance(repair, BankSpec) or repair.candidates is None:
        return sum(one[what] for one in summaries.values())
    prompts = sum(one[what] for role, one in summaries.items() if role != "adapter")
    others = sum(one[what] for role, one in summaries.items() if role == "adapter")
    return prompts * len(repair.lengths) // len(repair.made) + others
