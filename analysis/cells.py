"""Expand a study into cells: the units that are computed once, cached by content and independent of order.

    compressed   one compression of the model, baked and proved
    tuned        one tuned thing: a soft prompt (single, of a bank, or one that read no fact), a prefix or an adapter
    scored       one variant's answers to the facts of its scope
    drift        all variants of one parent compared with it and with the dense model, in one reference pass
    lens, probed, intervened, examples           what a study reads inside: see `analysis/cells_inside.py`
    tasks        one variant on one standard task or text: see `analysis/cells_tasks.py`

Which variants there are stands in `analysis/arms.py`, what a repair is made in in
`analysis/cells_repairs.py`, what decides the key of a cell in `analysis/cell.py`.
"""

from functools import cache, partial

from analysis.arms import arms_around, compressions_of, is_readable, replicates_of
from analysis.cell import KINDS, Cell, Plan
from analysis.cells_inside import add_inside
from analysis.cells_repairs import RepairCells
from analysis.cells_tasks import add_tasks
from analysis.metrics.registry import measured_in
from analysis.scopes import ABLATIONS, MAIN
from analysis.study import Study, groups_of
from data.errors import InputError
from data.facts import FactSet
from data.text import pinned, stated, text_sha
from probes.models import TWIN, locate
from probes.specs.compression import AnyCompression
from probes.specs.variants import VariantSpec


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
        if compression.checkpoint is not None:
            fields["checkpoint_sha"] = locate(compression.checkpoint).sha
        return self.add(Cell("compressed", f"{compression.name} seed {seed}", fields))

    def parent(self, compression: AnyCompression | None, seed: int) -> dict[str, Cell]:
        return {} if compression is None else {"compressed": self.compressed(compression, seed)}

    def _parts(self, variant: VariantSpec, replicate: int) -> dict[str, Cell]:
        """What has to be made before a variant can be opened."""
        needs, repair = self.parent(variant.compression, replicate), variant.repair
        if repair is None:
            return needs
        for text in repair.texts_said:
            self.refuse_answers(variant.name, text)
        build = RepairCells(self, variant.scope, variant.compression, replicate, variant.repair_seed)
        return needs | repair.cells(build)

    def refuse_answers(self, name: str, text: str) -> None:
        """A text that tells what is asked would be scored for reading it out."""
        asked = [fact for fact in self.facts.facts if fact.split != "tune"]
        if told := stated(text, asked):
            raise InputError(
                f"{name}: the text states '{told[0].subject}' and '{told[0].answer}', which is asked of a "
                f"{told[0].split} subject: leave that out"
            )

    def _scored(self, variant: VariantSpec, replicate: int) -> Cell:
        fields = self.base | {
            "variant": variant.model_dump(mode="json"),
            "groups": groups_of(self.study)[variant.scope],
            "score_batch": self.study.score_batch,
        }
        if variant.repair is not None and variant.repair.twin:
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
            if variant.repair is None or not variant.repair.ceiling
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
            # Which cells there are shapes none of them; of groups of metrics and where they are measured, what they
            # stand for does.
            "drift": settings.model_dump(mode="json", exclude={"around", "metrics", "detailed"}),
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
        drawn = replicate != seeds[-1] and compression.checkpoint is None
        return [name for name in asked if name == "calibration_draw" and drawn]


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
