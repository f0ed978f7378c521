"""The cells that a repair is made in, over one copy in one replicate."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from analysis.cell import Cell
from analysis.study import Study, groups_of
from data.errors import InputError
from probes.repairs.registry import work_of
from probes.specs.compression import AnyCompression
from probes.specs.repairs.base import Read, Repair, Share

if TYPE_CHECKING:
    from analysis.cells import _Expansion


@dataclass(frozen=True)
class RepairCells:
    """Adds what a variant's repair asks for: see `probes.specs.repairs.base.Builder`."""

    expansion: "_Expansion"
    scope: str
    compression: AnyCompression | None
    replicate: int
    own_seed: int | None

    @property
    def seed(self) -> int:
        """The repair's, which whatever is tuned has."""
        assert self.own_seed is not None
        return self.own_seed

    @property
    def relations(self) -> int:
        """How many relations the tune facts of its scope have."""
        groups = groups_of(self.expansion.study)[self.scope]
        return len({fact.relation for fact in self.expansion.facts.select(groups, "tune")})

    def tuned(
        self,
        repair: Repair,
        *,
        seed: int | None = None,
        share: Share | None = None,
        under: Cell | None = None,
        parts: int = 1,
        over: AnyCompression | Literal["here"] | None = "here",
        read: Read = "all",
    ) -> Cell:
        """One tuned thing: a whole repair, or one of `parts` that share what the study's budget makes equal."""
        expansion, study = self.expansion, self.expansion.study
        compression = self.compression if over == "here" else over
        seed = self.seed if seed is None else seed
        name = "dense" if compression is None else compression.name
        fields: dict[str, Any] = expansion.base | {
            "groups": groups_of(study)[self.scope],
            "repair": repair.model_dump(mode="json"),
            "seed": seed,
            "tuning": study.tuning.model_dump(mode="json") | steps_of(study, repair, parts),
        }
        label = f"{name} + {repair.name} seed {seed} ({self.scope})"
        if parts > 1 and study.budget is not None and "tokens" in study.budget.equal:
            fields["tokens_of"] = {"seed": self.replicate, "parts": parts}
        if read != "all":
            fields["read"] = read
            label += f", read {read if isinstance(read, str) else ', '.join(read)}"
        if read == "text":
            assert study.transfer is not None
            assert study.transfer.text is not None
            windows = study.transfer.text
            fields["tuning"] |= {"text_batch": windows.batch, "text_length": windows.length}
        if share is not None:
            fields["share"] = asdict(share)
            label += f", {share.bank} {share.place + 1} of {share.count}"
        elif parts > 1:
            label += f", one of {parts}"
        needs = expansion.parent(compression, self.replicate)
        if under is not None:
            needs["adapter"] = under
            label += f", over {under.label}"
        return expansion.add(Cell("tuned", label, fields, needs))

    def from_weights(self, repair: Repair) -> Cell:
        """Computed from two sets of weights: no text, no facts and no seed shape it."""
        return self._made(f"{self._place} + {repair.name}", repair, {}, self._parent)

    def from_tuned(self, repair: Repair, whole: Cell) -> Cell:
        """Made from another repair's cell, which is the same one as where that stands by itself."""
        return self._made(f"{whole.label}, as {repair.name}", repair, {}, {"whole": whole})

    def external(self, repair: Repair) -> Cell:
        """Made elsewhere: the bytes of its files are all that shapes it."""
        told = {"folder_sha": work_of(repair).sha(repair)}
        return self._made(f"{self._place} + {repair.name}", repair, told, self._parent)

    def _made(self, label: str, repair: Repair, told: dict[str, Any], needs: dict[str, Cell]) -> Cell:
        """What is not tuned here."""
        fields = {
            "repair": repair.model_dump(mode="json"),
            "tuning": self.expansion.study.tuning.model_dump(mode="json"),
        }
        return self.expansion.add(Cell("tuned", label, self.expansion.base | fields | told, needs))

    @property
    def _parent(self) -> dict[str, Cell]:
        return self.expansion.parent(self.compression, self.replicate)

    @property
    def _place(self) -> str:
        return "dense" if self.compression is None else f"{self.compression.name} seed {self.replicate}"


def steps_of(study: Study, repair: Repair, parts: int) -> dict[str, int]:
    """How many steps a repair, or one of its several parts, is tuned for, where that is not `tuning.steps`.

    Raises:
        InputError: equal steps that cannot be divided, or steps of its own beside equal ones.
    """
    own = repair.own_steps
    if own is not None:
        rules = set(study.budget.equal) if study.budget is not None and repair in study.repairs else set()
        if {"steps", "tokens"} & rules:
            raise InputError(
                f"repair '{repair.name}' has steps of its own, and the study's budget makes steps or tokens alike: "
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
