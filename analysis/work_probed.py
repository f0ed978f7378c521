"""Read the answer off every layer of every arm of one parent by linear probes, in the three ways of probes/linear.py.

The dense model's probes are fitted once; every variant is read by them as they are, by them after a rotation, and by
probes of its own. What is read of locked people without their key is reported like any other figure.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.inside_items import questions_of
from analysis.intervals import clustered_columns
from analysis.opening import dense, facts_of, open_variant, parts_of
from analysis.scopes import MAIN
from data.facts import Fact
from probes.linear import WAYS, ProbeReading, ProbeSet, Way, aligned
from probes.specs.variants import VariantSpec, spec_of
from probes.states import last_states
from probes.variants import Variant

States = Float[np.ndarray, "layer item width"]


def work(fields: dict[str, Any], needs: dict[str, Path], folder: Path) -> None:
    """Write accuracy, control accuracy and selectivity of every layer, relations pooled."""
    settings, facts, opened = fields["inside"], facts_of(fields), dense(fields)
    chosen = {group: list(facts.select([group])) for group in fields["groups"]}

    def states(variant: Variant, spec: VariantSpec, group: str) -> States:
        questions = questions_of(variant.tokenizer, facts, spec, chosen[group])
        found = last_states(variant, [question.tokens for question in questions], batch=settings["batch"])
        return found.residual.double().cpu().numpy()

    def fit(own: States, group: str) -> ProbeSet:
        seeds = range(settings["controls"])
        return ProbeSet.fit(own, chosen[group], strength=settings["strength"], control_seeds=seeds)

    plain = VariantSpec(model=fields["model"], scope=MAIN)
    reference = {group: states(Variant("dense", opened.model, opened.tokenizer), plain, group) for group in chosen}
    probes = {group: fit(reference[group], group) for group in chosen}
    rows: list[dict[str, Any]] = []
    for place, spec in enumerate(map(spec_of, fields["variants"])):
        variant = open_variant(fields, spec, parts_of(needs, str(place)))
        for group, people in chosen.items():
            own, frozen = states(variant, spec, group), probes[group]
            # Dense read by its own probes is all three ways at once.
            same = np.array_equal(own, reference[group])
            read: dict[Way, ProbeReading] = {"frozen": frozen.read(own)}
            read["refitted"] = read["frozen"] if same else fit(own, group).read(own)
            read["aligned"] = read["frozen"] if same else frozen.read(aligned(own, reference[group], people))
            for way in WAYS:
                rows += [row | {"variant_id": spec.identity, "way": way} for row in _rows(read[way], people, group)]
    pd.DataFrame(rows).to_parquet(folder / "probes.parquet", index=False)


def _rows(read: ProbeReading, people: list[Fact], group: str) -> list[dict[str, Any]]:
    """A row per layer and metric, intervals over the people who were read."""
    entities = [people[place].subject for place in read.places]
    control = read.control.mean(axis=0)
    rows = []
    for metric, values in (
        ("probe_accuracy", read.correct.astype(float)),
        ("probe_control", control),
        ("probe_selectivity", read.correct - control),
    ):
        found = clustered_columns(values.T, entities, seed=0)
        for layer, (value, lower, upper) in enumerate(zip(*found, strict=True)):
            rows.append(
                {"group": group, "split": "test", "layer": layer, "metric": metric}
                | {"value": value, "lower": lower, "upper": upper, "items": len(entities)}
                | {"entities": len(set(entities)), "fitted": sum(one.split != "test" for one in people)}
            )
    return rows
