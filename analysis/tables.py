"""Gather a run's cells into its tables, each as `analysis/schema` declares it: the one place where they are joined."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from analysis.budgets import with_budget
from analysis.cells import Cell, Plan
from analysis.inside_tables import inside_tables
from analysis.recovery import recovery_table
from analysis.schema.registry import TABLES
from analysis.store import Store
from analysis.transfer import transfer_table
from analysis.worker import COST
from probes.specs.repairs.base import Repair
from probes.specs.variants import VariantSpec, spec_of


def replicate_of(spec: VariantSpec) -> int:
    """Which replicate a variant belongs to: its repair's seed or its compression's."""
    seed = spec.repair_seed if spec.repair_seed is not None else spec.compression_seed
    return 0 if seed is None else seed


def draw_of(spec: VariantSpec) -> int:
    """Which of its replicate's draws an untrained prompt is, from 0; 0 for what is drawn once."""
    return 0 if spec.repair is None else spec.repair.draw_number


def gather(plan: Plan, store: Store) -> dict[str, pd.DataFrame]:
    """All tables of a finished plan.

    Raises:
        TableError: what a cell wrote, or what is made of it, is not as the table is declared.
    """
    scored = [(cell, spec_of(cell.fields["variant"])) for cell in plan.of("scored")]
    parity = _parity(plan, store)
    rows = pd.DataFrame([_variant_row(cell, spec, store, parity, plan) for cell, spec in scored])
    variants = _typed("variants", with_budget(rows, plan.study))
    answers = _joined("answers", store, _by_variant(scored))
    specs = {spec.identity: spec for _, spec in scored}
    costs = [{"kind": cell.kind, "label": cell.label, **_cost_of(cell, store)} for cell in plan.cells]
    return {
        "variants": variants,
        "answers": answers,
        "dealt": _joined("dealt", store, _by_variant(_dealt(scored))),
        "recovery": _typed("recovery", recovery_table(answers, variants)),
        "transfer": _typed("transfer", transfer_table(plan.study, specs, answers, variants)),
        **inside_tables(plan, store),
        **{name: _joined(name, store, _by_variant(_banked(scored))) for name in ("selections", "banks", "selectors")},
        "tasks": _joined("tasks", store, _asking(plan, "task")),
        "perplexity": _joined("perplexity", store, _asking(plan, "perplexity")),
        "training": _joined("training", store, _tuned_parts(scored)),
        "timings": _typed("timings", pd.DataFrame(costs)),
    }


Share = tuple[Cell, dict[str, str]]
"""A cell that holds a share of a table, and the columns by name that are the same in all its rows."""


def _typed(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    return TABLES.of(name).frame(frame)


def _joined(name: str, store: Store, shares: Iterable[Share]) -> pd.DataFrame:
    """A table of the shares that cells hold."""
    table = TABLES.of(name)
    return table.joined((store.folder(cell.key) / table.file, constant) for cell, constant in shares)


def _by_variant(scored: Iterable[tuple[Cell, VariantSpec]]) -> Iterator[Share]:
    """A share of every variant, marked with it."""
    for cell, spec in scored:
        yield cell, {"variant_id": spec.identity}


def _dealt(scored: Iterable[tuple[Cell, VariantSpec]]) -> Iterator[tuple[Cell, VariantSpec]]:
    """The variants that were told dealt answers, and so are asked for those too."""
    return ((cell, spec) for cell, spec in scored if spec.repair is not None and spec.repair.told == "shuffled")


def _banked(scored: Iterable[tuple[Cell, VariantSpec]]) -> Iterator[tuple[Cell, VariantSpec]]:
    """The variants that have a bank of prompts."""
    return ((cell, spec) for cell, spec in scored if spec.repair is not None and spec.repair.asked == "bank")


def _asking(plan: Plan, what: str) -> Iterator[Share]:
    """Cells of standard tasks that ask a `task`, or a text for its `perplexity`."""
    return ((cell, {}) for cell in plan.of("tasks") if what in cell.fields)


def _tuned_parts(scored: Iterable[tuple[Cell, VariantSpec]]) -> Iterator[Share]:
    """What every variant had tuned, part by part."""
    for cell, spec in scored:
        for role, need in cell.needs.items():
            if need.kind == "tuned":
                yield need, {"part": role, "variant_id": spec.identity}


def _cost_of(cell: Cell, store: Store) -> dict[str, Any]:
    """How long a finished cell took, in seconds, and the most memory its worker held meanwhile, in bytes."""
    cost = json.loads((store.folder(cell.key) / COST).read_text())
    return {"seconds_to_make": cost["seconds"], "peak_bytes": cost["peak_bytes"]}


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
    width = repair.untuned_length if repair else 0
    if repair and repair.texts_said and repair.asked != "alone":
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


def _tuned_on(groups: list[str], repair: Repair | None) -> str:
    """Whose facts were read, or what else was."""
    read = repair.tuned_on if repair else "all"
    if read == "text":
        return "text alone"
    return ", ".join(groups) + ("" if read == "all" else f": {', '.join(read)}")


def _summary(store: Store, cell: Cell) -> dict[str, Any]:
    """Sizes and budget of one tuned part."""
    return json.loads((store.folder(cell.key) / "summary.json").read_text())


def _added(repair: Repair | None, summaries: dict[str, dict[str, Any]], what: str) -> int:
    """The size of what a variant carries: of all that was made for it, less the prompts of a bank that were dropped."""
    kept, made = repair.kept_of_made if repair else (1, 1)
    prompts = sum(one[what] for role, one in summaries.items() if role != "adapter")
    others = sum(one[what] for role, one in summaries.items() if role == "adapter")
    return prompts * kept // made + others
