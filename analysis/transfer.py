"""Repairs used where they were not tuned: on another compression, or after reading other things (arXiv 2305.11186).

1. A cell of the matrix is a repair, the compression it was tuned on (source), the one it is used on (target), and what
   it read. On the diagonal stands the repair as the study has it.
2. Its gain is its accuracy or bits less the target's without repair, paired by entity and replicate.

What would count against redirection: a gain on the diagonal alone, or for the relations that were read alone.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.intervals import Estimate, crossed_estimate
from analysis.recovery import MEASURES, arms_of, item_counts, join
from analysis.scopes import MAIN
from analysis.study import Study
from probes.specs.repairs.transferred import TransferredSpec
from probes.specs.variants import VariantSpec

ALL, READ, OTHER = "all", "read relations", "other relations"


def transfer_table(
    study: Study, specs: dict[str, VariantSpec], answers: pd.DataFrame, variants: pd.DataFrame
) -> pd.DataFrame:
    """One row per cell of the matrix, group, reading, split, measure and relations asked; empty without transfer.

    `read` says what the repair read (`all` is what the study's repairs read), `asked` whose relations are counted:
    all, or where it read the facts of some relations alone, those and the others apart. Intervals are at 95 %.
    """
    if study.transfer is None:
        return pd.DataFrame()
    moved = {one.name for one in study.moved}
    places = pd.DataFrame(
        [
            {"variant_id": identity, **place}
            for identity, spec in specs.items()
            if (place := _place(spec, moved)) is not None
        ]
    )
    joined = join(answers, variants)
    here = joined[joined["scope"] == MAIN]
    rows: list[dict[str, object]] = []
    for (compression, group, reading, split), part in here.groupby(
        ["compression", "group", "reading", "split"], sort=False, observed=True
    ):
        bare = part[part["repair"] == ""]
        both = part.merge(places, on="variant_id")
        for key, used in both.groupby(["moved", "source", "read"], sort=False):
            told = dict(zip(("repair", "source", "read"), key, strict=True))
            told |= {"target": compression, "variant": used["variant"].iloc[0], "group": group}
            told |= {"reading": reading, "split": split}
            for asked, mask in _asked(study, str(key[2]), used["relation"]):
                inside = bare["relation"].isin(used.loc[mask, "relation"].unique())
                rows += [told | {"asked": asked} | one for one in _measured(used[mask], bare[inside])]
    return pd.DataFrame(rows)


def _place(spec: VariantSpec, moved: set[str]) -> dict[str, str] | None:
    """Where a variant stands in the matrix; None for one that stands nowhere."""
    repair = spec.repair
    if spec.scope != MAIN or repair is None:
        return None
    if isinstance(repair, TransferredSpec):
        source = "dense" if repair.source is None else repair.source.name
        read = repair.read if isinstance(repair.read, str) else ", ".join(repair.read)
        return {"moved": repair.of.name, "source": source, "read": read}
    if repair.name not in moved:
        return None
    return {"moved": repair.name, "source": "dense" if spec.compression is None else spec.compression.name, "read": ALL}


def _asked(study: Study, read: str, relations: pd.Series) -> Iterator[tuple[str, pd.Series]]:
    """All relations; and apart, those that were read and the others."""
    yield ALL, relations == relations
    assert study.transfer is not None
    told = study.transfer.relations
    if told and read == ", ".join(told):
        for name, mask in ((READ, relations.isin(told)), (OTHER, ~relations.isin(told))):
            if mask.any():
                yield name, mask


def _measured(used: pd.DataFrame, bare: pd.DataFrame) -> Iterator[dict[str, object]]:
    """Accuracy and bits of one cell, and what it gains over the target without repair."""
    # A parent has one row a replicate of its compression; dense has one for all.
    replicates = sorted(used["replicate"].unique())
    if bare["replicate"].nunique() < len(replicates):
        bare = pd.concat([bare.assign(replicate=one) for one in replicates])
    both = pd.concat([used.assign(arm="used"), bare.assign(arm="bare")], ignore_index=True)
    for measure in MEASURES:
        arms = arms_of(both, {name: both["arm"] == name for name in ("used", "bare")}, measure)
        weights = item_counts(used, pd.Index(sorted(used["entity"].unique())))
        value = crossed_estimate({"used": arms["used"]}, _used, weights=weights, seed=0)
        gain = crossed_estimate(arms, _gain, weights=weights, seed=0)
        yield (
            {"measure": "accuracy" if measure == "correct" else measure}
            | _named(value, "value", "lower", "upper")
            | _named(gain, "gain", "gain_lower", "gain_upper")
            | {"items": len(used) // len(replicates), "entities": used["entity"].nunique()}
            | {"replicates": len(replicates)}
        )


def _used(arms: dict[str, np.ndarray]) -> np.ndarray:
    return arms["used"]


def _gain(arms: dict[str, np.ndarray]) -> np.ndarray:
    return arms["used"] - arms["bare"]


def _named(found: Estimate, *names: str) -> dict[str, object]:
    """An estimate as three columns."""
    return dict(zip(names, (found.estimate, found.lower, found.upper), strict=True))
