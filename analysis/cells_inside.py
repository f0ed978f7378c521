"""The cells of what a study reads inside its variants: one of each instrument per parent and scope.

    lens         the logit lens of every arm of one parent
    probed       linear probes on every arm of one parent, frozen from dense, refitted and aligned
    intervened   patches from the source of the knowledge into the parent; knockout of the prompts over the parent
    examples     a few questions with everything about them, under dense, the parent and its repairs

The source of the knowledge is the dense model; for the locked people the dense model behind the key, for the never
people the twin. In the main scope dense lost nothing, so that nothing is put into it and no example is shown of it.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Protocol

from analysis.cell import Cell, Kind
from analysis.inside import PROMPT
from analysis.scopes import MAIN
from analysis.study import groups_of
from data.errors import InputError
from probes.models import TWIN, locate
from probes.specs.compression import AnyCompression
from probes.specs.repairs.base import Repair
from probes.specs.repairs.key import KeySpec
from probes.specs.repairs.twin import TwinSpec
from probes.specs.variants import VariantSpec

if TYPE_CHECKING:
    from analysis.cells import _Expansion


class _Settings(Protocol):
    @property
    def repairs(self) -> tuple[str, ...] | None: ...

    def model_dump(self, *, mode: str) -> dict[str, Any]: ...


def add_inside(expansion: "_Expansion", scope: str, compression: AnyCompression | None, replicate: int) -> None:
    """Add what the study reads around one parent, in the replicates that it names."""
    study = expansion.study
    inside = study.inside
    if inside is None or replicate not in study.seeds[: inside.replicates]:
        return
    around = Around(expansion, scope, compression, replicate, inside.batch)
    if inside.lens is not None:
        around.add("lens", inside.lens, around.arms(inside.lens.repairs))
    if inside.probes is not None and (groups := _probed_groups(expansion, scope, inside.probes.groups)):
        around.add("probed", inside.probes, around.arms(inside.probes.repairs or study.reported), groups=groups)
    if scope == MAIN and compression is None:
        return
    if inside.interventions is not None:
        named = inside.interventions.repairs or study.reported
        shown = [one for one in around.arms(named) if one.repair is None or one.repair.before_content]
        around.add("intervened", inside.interventions, shown, scored=[around.parent, around.dense])
    if inside.examples is not None:
        arms = around.arms(inside.examples.repairs or study.reported)
        ceiling = [around.source, *([around.dense] if compression is not None else [])]
        variants = list(dict.fromkeys([*ceiling, *arms]))
        around.add("examples", inside.examples, variants, scored=variants)


def _probed_groups(expansion: "_Expansion", scope: str, asked: tuple[str, ...] | None) -> list[str]:
    """Groups of a scope that are probed; one that another scope asks, or the study leaves out, is not looked for."""
    known = expansion.facts.groups
    if unknown := set(asked or ()) - set(known):
        raise InputError(
            f"inside.probes.groups: no facts of group {', '.join(sorted(unknown))}; there are {', '.join(known)}"
        )
    return [group for group in groups_of(expansion.study)[scope] if asked is None or group in asked]


class Around:
    """One parent with its arms."""

    def __init__(
        self, expansion: "_Expansion", scope: str, compression: AnyCompression | None, replicate: int, batch: int
    ) -> None:
        self.expansion, self.scope, self.replicate, self.batch = expansion, scope, replicate, batch
        self.variants = expansion.readable(scope, compression, replicate)
        self.parent = self.variants[0]
        self.dense = VariantSpec(model=self.parent.model, scope=scope)

    @property
    def source(self) -> VariantSpec:
        """The model that has the knowledge."""
        ceiling: Repair | None = {"locked": KeySpec(), "never": TwinSpec()}.get(self.scope)
        return VariantSpec(**(dict(self.dense) | {"repair": ceiling}))

    def arms(self, named: Collection[str] | None) -> list[VariantSpec]:
        """The parent, what stands above every repair, and the arms that are named; all of them unless told."""
        if named is not None:
            named = [self.expansion.study.prompt.name if name == PROMPT else name for name in named]
        return [
            variant
            for variant in self.variants
            if variant.repair is None or variant.repair.ceiling or named is None or variant.repair.name in named
        ]

    def add(
        self,
        kind: Kind,
        settings: _Settings,
        variants: list[VariantSpec],
        *,
        scored: list[VariantSpec] | None = None,
        groups: list[str] | None = None,
    ) -> None:
        """Add a cell that reads these variants, and the answers of those that are to be `scored` before."""
        expansion = self.expansion
        needs: dict[str, Cell] = {}
        for place, variant in enumerate(variants):
            needs |= {f"{place}.{role}": cell for role, cell in expansion.parts(variant, self.replicate).items()}
        for variant in scored or []:
            needs[f"scored.{variant.identity}"] = expansion.scored(variant, self.replicate)
        fields = expansion.base | {
            "variants": [variant.model_dump(mode="json") for variant in variants],
            "source": self.source.model_dump(mode="json"),
            "parent": self.parent.model_dump(mode="json"),
            "groups": groups or groups_of(expansion.study)[self.scope],
            "inside": settings.model_dump(mode="json") | {"batch": self.batch},
            "seed": self.replicate,
        }
        if any(one.repair is not None and one.repair.twin for one in (*variants, self.source)):
            fields["twin_sha"] = locate(TWIN).sha
        expansion.add(
            Cell(kind, f"{kind} around {self.parent.name} seed {self.replicate} ({self.scope})", fields, needs)
        )
