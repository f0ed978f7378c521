"""The cells of a study's tasks: one variant on one task, or on one text for perplexity, so that each is resumed alone.

Every arm of the main scope that one model reads row by row is scored: dense, each compression, each repair, and of the
placebos one. Dense is scored once more in another batch plan, which says how many choices flip by rounding alone.
"""

import importlib.metadata
from functools import cache
from typing import TYPE_CHECKING, Any

from analysis.cell import Cell
from analysis.cells_inside import Around
from analysis.scopes import MAIN
from analysis.study import groups_of
from analysis.study_blocks import OWN_TEXT, Perplexity, Tasks
from data.errors import InputError
from data.task_names import TEXTS
from data.tasks import TaskSource, find_tasks, hub_task
from probes.specs.compression import AnyCompression
from probes.specs.variants import VariantSpec

if TYPE_CHECKING:
    from analysis.cells import _Expansion


@cache
def _lm_eval() -> str:
    """The version of the library that scores tasks; its package's file takes as long to read as a cell to plan."""
    return importlib.metadata.version("lm_eval")


def add_tasks(expansion: "_Expansion", compression: AnyCompression | None, replicate: int) -> None:
    """Add what the study asks around one parent, in the replicates that it names."""
    study, block = expansion.study, expansion.study.tasks
    if block is None or replicate not in study.seeds[: block.replicates]:
        return
    sources = find_tasks(block.names, block.files)
    _refuse_unreadable(expansion, compression, replicate, block)
    arms = Around(expansion, MAIN, compression, replicate, block.batch).arms(block.repairs)
    for variant in arms:
        for source in sources:
            add_task(expansion, variant, replicate, source, block)
        if block.perplexity is not None:
            for text in block.perplexity.texts:
                add_text(expansion, variant, replicate, text, block.perplexity, block.batch)
    if compression is None and block.other_batch is not None:
        for source in sources:
            add_task(expansion, arms[0], replicate, source, block, plan="other")


def _refuse_unreadable(
    expansion: "_Expansion", compression: AnyCompression | None, replicate: int, block: Tasks
) -> None:
    """Refuse to name an arm that keeps no single prompt, rather than leave it out without a word."""
    made = {one.repair.name for one in expansion.variants(MAIN, compression, replicate) if one.repair is not None}
    read = {one.repair.name for one in expansion.readable(MAIN, compression, replicate) if one.repair is not None}
    if lost := sorted(set(block.repairs or ()) & (made - read)):
        raise InputError(
            f"tasks.repairs: {', '.join(lost)} cannot read a text by itself (it keeps several prompts, or was tuned "
            "for facts alone): leave it out"
        )


def add_task(
    expansion: "_Expansion", variant: VariantSpec, replicate: int, source: TaskSource, block: Tasks, plan: str = "main"
) -> None:
    """Add one variant's answers to one task."""
    asked = {
        "name": source.name,
        "file": source.file,
        "sha": source.sha,
        "items": block.items,
        "seed": block.seed,
        "plan": plan,
        "batch": block.batch if plan == "main" else block.other_batch,
    }
    ending = "" if plan == "main" else ", in another batch plan"
    _add(expansion, variant, replicate, {"task": asked}, f"{variant.name} on {source.name}{ending}")


def add_text(
    expansion: "_Expansion", variant: VariantSpec, replicate: int, text: str, settings: Perplexity, batch: int
) -> None:
    """Add one variant's perplexity on one text."""
    asked = {
        "text": text,
        "source": expansion.base["text"] if text == OWN_TEXT else TEXTS[text],
        "sha": expansion.base["text_sha"] if text == OWN_TEXT else hub_task(TEXTS[text]).sha,
        "window": settings.window,
        "documents": settings.documents,
        "batch": batch,
    }
    _add(expansion, variant, replicate, {"perplexity": asked}, f"{variant.name}, perplexity of {text}")


def _add(
    expansion: "_Expansion", variant: VariantSpec, replicate: int, asked: dict[str, dict[str, Any]], label: str
) -> None:
    fields = expansion.base | {
        "variant": variant.model_dump(mode="json"),
        "groups": groups_of(expansion.study)[MAIN],
        "lm_eval": _lm_eval(),
        **asked,
    }
    expansion.add(Cell("tasks", label, fields, expansion.parts(variant, replicate)))
