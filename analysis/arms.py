"""Which variants a study has around each parent: the arms without which no recovery counts, and the repairs."""

from analysis.scopes import ABLATIONS, MAIN
from analysis.study import Study
from probes.specs.compression import AnyCompression
from probes.specs.repairs.base import Repair
from probes.specs.repairs.key import KeySpec
from probes.specs.repairs.placebo import PLACEBO_KINDS, PlaceboSpec
from probes.specs.repairs.recalibrated import RecalibrationSpec
from probes.specs.repairs.twin import TwinSpec
from probes.specs.variants import VariantSpec


def compressions_of(study: Study, scope: str) -> tuple[AnyCompression | None, ...]:
    """Compressions of each scope, None for dense; controls are dense unless the study damages them too."""
    if scope == ABLATIONS:
        return (None, study.ablated_compression)
    return (None, *study.compressions) if scope == MAIN or study.compress_controls else (None,)


def replicates_of(study: Study, scope: str) -> tuple[int, ...]:
    """The seeds whose replicates a scope is asked in: ablations in the first alone."""
    return study.seeds[:1] if scope == ABLATIONS else study.seeds


def arms_around(study: Study, scope: str, compression: AnyCompression | None, replicate: int) -> list[VariantSpec]:
    """A parent, the arms without which no recovery counts, and the repairs."""
    parent = VariantSpec(
        model=study.model,
        compression=compression,
        compression_seed=None if compression is None else replicate,
        scope=scope,
    )

    def repaired(repair: Repair, seed: int | None) -> VariantSpec:
        return VariantSpec(**(dict(parent) | {"repair": repair, "repair_seed": seed}))

    prompt = study.prompt
    if scope == ABLATIONS:
        placebo = repaired(PlaceboSpec(length=prompt.length, draw=PLACEBO_KINDS[0]), replicate)
        # Dense stands bare, for the pages to begin from.
        repairs = () if compression is None else (placebo, *(repaired(one, replicate) for one in study.ablated_repairs))
        return [parent, *repairs]
    arms = [parent, repaired(RecalibrationSpec(), None)]
    if scope == "locked":
        arms.append(repaired(KeySpec(), None))
    if scope == "never" and compression is None:
        arms.append(repaired(TwinSpec(), None))
    for number in range(-(-study.placebos // len(study.seeds))):
        kind = PLACEBO_KINDS[number % len(PLACEBO_KINDS)]
        arms.append(repaired(PlaceboSpec(length=prompt.length, draw=kind, number=number), replicate))
    arms += [repaired(placebo, replicate) for placebo in study.factless_prompts]
    # Dense lost nothing that could be put back.
    lost = compression is not None
    arms += [repaired(one, replicate) for one in study.repairs if lost or not one.from_dense]
    if scope == MAIN and study.transfer is not None:
        moved = study.transfer.specs(study.moved, compression, study.compressions)
        arms += [repaired(one, replicate) for one in moved]
    return arms


def is_readable(variant: VariantSpec) -> bool:
    """Whether one model reads the variant row by row, so that its inside can be read; of the placebos one is."""
    return variant.repair is None or variant.repair.readable
