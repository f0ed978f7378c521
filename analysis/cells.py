"""Expand a study into cells: the units that are computed once, cached by content and independent of order.

    compressed   one compression of the model, baked and proved
    tuned        one tuned thing: a soft prompt (single, of a bank, or one that read no fact), a prefix or an adapter
    scored       one variant's answers to the facts of its scope
    drift        all variants of one parent compared with it and with the dense model, in one reference pass
    lens, probed, intervened, examples           what a study reads inside: see `analysis/cells_inside.py`
    tasks        one variant on one standard task or text: see `analysis/cells_tasks.py`

Which variants there are stands in `analysis/arms.py`, what decides the key of a cell in `analysis/cell.py`.
"""

from functools import cache, partial
from typing import Any

from analysis.arms import arms_around, compressions_of, is_readable, replicates_of
from analysis.brought import brought_sha
from analysis.cell import KINDS, Cell, Plan
from analysis.cells_inside import add_inside
from analysis.cells_tasks import add_tasks
from analysis.metrics.registry import measured_in
from analysis.scopes import ABLATIONS, MAIN
from analysis.study import Study, groups_of
from analysis.study_blocks import BANK_SEEDS
from data.errors import InputError
from data.facts import FactSet
from data.text import pinned, stated, text_sha
from probes.models import TWIN, locate
from probes.specs.banks import DIVIDING, BankSpec
from probes.specs.compression import AnyCompression, CheckpointSpec
from probes.specs.controls import KeySpec, TwinSpec
from probes.specs.repairs import (
    FolderSpec,
    LoraSpec,
    PrefixSpec,
    PromptSpec,
    PTuningSpec,
    QuantisedSpec,
    ReinjectionSpec,
    SmallSpec,
    SparseSpec,
    TextSpec,
)
from probes.specs.spec import Spec
from probes.specs.variants import TransferredSpec, VariantSpec


class _Expansion:
    """Builds the cells of one study, each once."""

    def __init__(self, study: Study, facts: FactSet, model_sha: str | None = None) -> None:
        self.study = study
        self.facts = facts
        self.by_key: dict[str, Cell] = {}
        # Every variant's cells are asked for by its own answers, its repairs' and what reads inside: built once.
        self.compressed, self.parts, self.scored = cache(self._compressed), cache(self._parts), cache(self._scored)
        self.variants = cache(partial(arms_around, study))
        self.base = {
            "model": study.model,
            "model_sha": locate(study.model).sha if model_sha is None else model_sha,
            "dtype": study.dtype,
            "device": study.device,
            "threads": study.threads,
            "facts": study.facts,
            "fact_seed": study.fact_seed,
            "candidates": study.candidates,
            "relations": study.relations,
            "template": study.template or "none",
            "facts_sha": facts.sha,
            "text": pinned(study.text),
            "text_sha": text_sha(study.text),
        }

    def add(self, cell: Cell) -> Cell:
        """The cell, or its equal that is already there."""
        return self.by_key.setdefault(cell.key, cell)

    def _compressed(self, compression: AnyCompression, seed: int) -> Cell:
        fields = self.base | {"compression": compression.model_dump(mode="json"), "seed": seed}
        if isinstance(compression, CheckpointSpec):
            fields["checkpoint_sha"] = locate(compression.path).sha
        return self.add(Cell("compressed", f"{compression.name} seed {seed}", fields))

    def parent(self, compression: AnyCompression | None, seed: int) -> dict[str, Cell]:
        return {} if compression is None else {"compressed": self.compressed(compression, seed)}

    def tuned(
        self,
        scope: str,
        compression: AnyCompression | None,
        replicate: int,
        spec: Spec,
        seed: int,
        share: dict[str, Any] | None = None,
        adapter: Cell | None = None,
        parts: int = 1,
        read: str | tuple[str, ...] = "all",
    ) -> Cell:
        """One tuned thing: a whole repair or one of its `parts`, which then share what the study's budget makes equal.

        `read` is "all" (what the study's repairs read), "text", or the relations whose facts alone are read.
        """
        name = "dense" if compression is None else compression.name
        fields: dict[str, Any] = self.base | {
            "groups": groups_of(self.study)[scope],
            "repair": spec.model_dump(mode="json"),
            "seed": seed,
            "tuning": self.study.tuning.model_dump(mode="json") | steps_of(self.study, spec, parts),
        }
        label = f"{name} + {spec.name} seed {seed} ({scope})"  # type: ignore[attr-defined]
        if parts > 1 and self.study.budget is not None and "tokens" in self.study.budget.equal:
            fields["tokens_of"] = {"seed": replicate, "parts": parts}
        if read != "all":
            fields["read"] = read
            label += f", read {read if isinstance(read, str) else ', '.join(read)}"
        if read == "text":
            assert self.study.transfer is not None
            assert self.study.transfer.text is not None
            windows = self.study.transfer.text
            fields["tuning"] |= {"text_batch": windows.batch, "text_length": windows.length}
        if share is not None:
            fields["share"] = share
            label += f", {share['bank']} {share['place'] + 1} of {share['count']}"
        elif parts > 1:
            label += f", one of {parts}"
        needs = self.parent(compression, replicate)
        if adapter is not None:
            needs["adapter"] = adapter
            label += f", over {adapter.label}"
        return self.add(Cell("tuned", label, fields, needs))

    def reinjected(self, compression: AnyCompression, replicate: int, repair: ReinjectionSpec) -> Cell:
        """Computed from two sets of weights: no text, no facts and no seed shape it."""
        fields = self.base | {
            "repair": repair.model_dump(mode="json"),
            "tuning": self.study.tuning.model_dump(mode="json"),
        }
        label = f"{compression.name} seed {replicate} + {repair.name}"
        return self.add(Cell("tuned", label, fields, self.parent(compression, replicate)))

    def small(self, whole: Cell, repair: SmallSpec) -> Cell:
        """Made from a tuned prompt or prefix, which is the same cell as where it stands by itself."""
        fields = self.base | {
            "repair": repair.model_dump(mode="json"),
            "tuning": self.study.tuning.model_dump(mode="json"),
        }
        return self.add(Cell("tuned", f"{whole.label}, as {repair.name}", fields, {"whole": whole}))

    def brought(self, compression: AnyCompression | None, replicate: int, repair: FolderSpec | BankSpec) -> Cell:
        """Made elsewhere: the bytes of its files are all that shapes it."""
        fields = self.base | {
            "repair": repair.model_dump(mode="json"),
            "folder_sha": brought_sha(repair),
            "tuning": self.study.tuning.model_dump(mode="json"),
        }
        name = "dense" if compression is None else f"{compression.name} seed {replicate}"
        label = f"{name} + {repair.name}"  # type: ignore[union-attr]
        return self.add(Cell("tuned", label, fields, self.parent(compression, replicate)))

    def _parts(self, variant: VariantSpec, replicate: int) -> dict[str, Cell]:
        """What has to be made before a variant can be opened."""
        needs = self.parent(variant.compression, replicate)
        repair, seed = variant.repair, variant.repair_seed
        if isinstance(repair, TextSpec):
            self.refuse_answers(variant.name, repair.text)
        if isinstance(repair, PromptSpec | PrefixSpec | PTuningSpec | LoraSpec):
            assert seed is not None
            needs["tuned0"] = self.tuned(variant.scope, variant.compression, replicate, repair, seed)
        if isinstance(repair, QuantisedSpec | SparseSpec):
            assert seed is not None
            whole = self.tuned(variant.scope, variant.compression, replicate, repair.of, seed)
            needs["tuned0"] = self.small(whole, repair)
        if isinstance(repair, TransferredSpec):
            assert seed is not None
            needs["tuned0"] = self.tuned(variant.scope, repair.source, replicate, repair.of, seed, read=repair.read)
        if isinstance(repair, ReinjectionSpec):
            assert variant.compression is not None
            needs["tuned0"] = self.reinjected(variant.compression, replicate, repair)
        if isinstance(repair, FolderSpec):
            needs["tuned0"] = self.brought(variant.compression, replicate, repair)
        if isinstance(repair, BankSpec):
            assert seed is not None
            needs |= self.bank(variant, replicate, repair, seed)
        return needs

    def refuse_answers(self, name: str, text: str) -> None:
        """A text that tells what is asked would be scored for reading it out."""
        asked = [fact for fact in self.facts.facts if fact.split != "tune"]
        if told := stated(text, asked):
            raise InputError(
                f"{name}: the text states '{told[0].subject}' and '{told[0].answer}', which is asked of a "
                f"{told[0].split} subject: leave that out"
            )

    def bank(self, variant: VariantSpec, replicate: int, repair: BankSpec, seed: int) -> dict[str, Cell]:
        """The prompts of a bank, each with its seed and, where they divide the tuning text, its share of it.

        An adapter under the bank is the one that stands in the study by itself, if it does: made once.
        """
        for text in repair.texts:
            self.refuse_answers(variant.name, text)
        needs = {}
        adapter = None
        if repair.adapter is not None:
            adapter = self.tuned(
                variant.scope, variant.compression, replicate, repair.adapter, seed, parts=repair.parts
            )
            needs["adapter"] = adapter
        relations = len({fact.relation for fact in self.facts.select(groups_of(self.study)[variant.scope], "tune")})
        if repair.bank == "files":
            return needs | {"tuned0": self.brought(variant.compression, replicate, repair)}
        if repair.bank in ("relations", "planted") and len(repair.lengths) != relations:
            raise InputError(
                f"{variant.name}: scope {variant.scope} has {relations} relations and the bank {len(repair.lengths)} "
                "lengths: give one length per relation"
            )
        for place, length in enumerate(repair.made):
            assert repair.learning_rate is not None
            member = PromptSpec(length=length, learning_rate=repair.learning_rate)
            share = {"bank": repair.bank, "place": place, "count": len(repair.lengths), "seed": seed}
            needs[f"tuned{place}"] = self.tuned(
                variant.scope,
                variant.compression,
                replicate,
                member,
                seed + BANK_SEEDS * place,
                share if repair.bank in DIVIDING else None,
                adapter,
                parts=repair.parts,
            )
        return needs

    def _scored(self, variant: VariantSpec, replicate: int) -> Cell:
        fields = self.base | {
            "variant": variant.model_dump(mode="json"),
            "groups": groups_of(self.study)[variant.scope],
            "score_batch": self.study.score_batch,
        }
        if isinstance(variant.repair, TwinSpec):
            fields["twin_sha"] = locate(TWIN).sha
        needs = dict(self.parts(variant, replicate))
        if variant.repair is not None:
            parent = variant.parent
            assert parent is not None
            needs["parent"] = self.scored(parent, replicate)
        return self.add(Cell("scored", f"{variant.name} ({variant.scope})", fields, needs))

    def drift(self, scope: str, compression: AnyCompression | None, replicate: int) -> Cell:
        """Every unplaceboed variant of one parent, and one placebo, against the parent and dense."""
        variants = [
            variant
            for variant in self.readable(scope, compression, replicate)
            if not isinstance(variant.repair, KeySpec | TwinSpec)
        ]
        needs: dict[str, Cell] = {}
        for place, variant in enumerate(variants):
            needs |= {f"{place}.{role}": cell for role, cell in self.parts(variant, replicate).items()}
        floors = self.floors(compression, replicate)
        if compression is not None and "calibration_draw" in floors:
            following = self.study.seeds[self.study.seeds.index(replicate) + 1]
            needs["draw.compressed"] = self.compressed(compression, following)
        settings = self.study.drift.in_replicate(self.study.seeds.index(replicate))
        fields = self.base | {
            "floors": floors,
            "variants": [variant.model_dump(mode="json") for variant in variants],
            "groups": groups_of(self.study)[scope],
            # Which cells there are shapes none of them; of the groups of metrics, what they stand for does.
            "drift": settings.model_dump(mode="json", exclude={"around", "metrics"}),
            "metrics": [metric.stored() for metric in measured_in(settings.metrics)],
        }
        name = "dense" if compression is None else compression.name
        return self.add(Cell("drift", f"drift around {name} seed {replicate} ({scope})", fields, needs))

    def readable(self, scope: str, compression: AnyCompression | None, replicate: int) -> list[VariantSpec]:
        """Variants around one parent whose inside can be read, and of the placebos one."""
        return [one for one in self.variants(scope, compression, replicate) if is_readable(one)]

    def floors(self, compression: AnyCompression | None, replicate: int) -> list[str]:
        """Sources of noise one drift cell tables: dense's own in one cell of a scope, a draw's where one follows."""
        asked, seeds = self.study.drift.floors, self.study.seeds
        if compression is None:
            return [name for name in asked if name != "calibration_draw" and replicate == seeds[0]]
        # A ready checkpoint has no draw, and after the last replicate none follows.
        drawn = replicate != seeds[-1] and not isinstance(compression, CheckpointSpec)
        return [name for name in asked if name == "calibration_draw" and drawn]


def steps_of(study: Study, spec: Spec, parts: int) -> dict[str, int]:
    """How many steps a repair, or one of its several parts, is tuned for, where that is not `tuning.steps`.

    Raises:
        InputError: equal steps that cannot be divided, or steps of its own beside equal ones.
    """
    own = getattr(spec, "steps", None)
    if own is not None:
        rules = set(study.budget.equal) if study.budget is not None and spec in study.repairs else set()
        if {"steps", "tokens"} & rules:
            raise InputError(
                f"repair '{spec.name}' has steps of its own, and the study's budget makes steps or tokens alike: "  # type: ignore[attr-defined]
                "leave one of the two out"
            )
        return {"steps": own}
    if parts == 1 or study.budget is None or "steps" not in study.budget.equal:
        return {}
    if study.tuning.steps % parts:
        raise InputError(
            f"budget: {study.tuning.steps} steps cannot be divided among {parts} parts of a repair: set tuning.steps "
            f"to a multiple of {parts}, or match tokens"
        )
    return {"steps": study.tuning.steps // parts}


def expand(study: Study, facts: FactSet, model_sha: str | None = None) -> Plan:
    """All cells of a study; equal work between settings and replicates appears once.

    `model_sha` stands for the hash of the model's files where they are not on this machine and nothing will be run.
    """
    if study.transfer is not None:
        facts.only(study.transfer.relations or list(facts.relations))  # refuses relations that are not asked
    expansion = _Expansion(study, facts, model_sha)
    for scope in groups_of(study):
        for compression in compressions_of(study, scope):
            for replicate in replicates_of(study, scope):
                for variant in expansion.variants(scope, compression, replicate):
                    expansion.scored(variant, replicate)
                if scope == ABLATIONS:
                    continue
                if compression is None or study.drift.around == "all":
                    expansion.drift(scope, compression, replicate)
                add_inside(expansion, scope, compression, replicate)
                if scope == MAIN:
                    add_tasks(expansion, compression, replicate)
    ordered = sorted(expansion.by_key.values(), key=lambda cell: KINDS.index(cell.kind))
    return Plan(study, tuple(_parents_first(ordered)))


def _parents_first(cells: list[Cell]) -> list[Cell]:
    """Stable order in which every cell follows what it needs."""
    placed: dict[str, Cell] = {}

    def place(cell: Cell) -> None:
        if cell.key not in placed:
            for need in cell.needs.values():
                place(need)
            placed[cell.key] = cell

    for cell in cells:
        place(cell)
    return list(placed.values())
