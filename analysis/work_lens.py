"""Read the logit lens of every arm of one parent, against dense's own, and keep it item by item too."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.inside_items import evenly, questions_of
from analysis.intervals import clustered_columns
from analysis.opening import dense, facts_of, open_variant, parts_of
from analysis.scopes import MAIN
from data.facts import Fact
from probes.lens import LensReading, read_lens
from probes.specs.variants import VariantSpec, spec_of
from probes.states import last_states
from probes.variants import Variant

NO_LAYER = -1
"""Layer of a figure that is about all of them."""


def work(fields: dict[str, Any], needs: dict[str, Path], folder: Path) -> None:
    """Write the table of means and the one of items."""
    settings, facts, opened = fields["inside"], facts_of(fields), dense(fields)
    chosen = [one for group in fields["groups"] for one in evenly(facts.select([group], "test"), settings["items"])]
    plain = VariantSpec(model=fields["model"], scope=MAIN)
    asked = [question.tokens for question in questions_of(opened.tokenizer, facts, plain, chosen)]
    reference = last_states(Variant("dense", opened.model, opened.tokenizer), asked, batch=settings["batch"])
    rows: list[dict[str, Any]] = []
    items: list[pd.DataFrame] = []
    for place, spec in enumerate(map(spec_of, fields["variants"])):
        variant = open_variant(fields, spec, parts_of(needs, str(place)))
        questions = questions_of(variant.tokenizer, facts, spec, chosen)
        read = read_lens(variant, questions, reference=(opened.model, reference), batch=settings["batch"])
        for group in fields["groups"]:
            rows += [row | {"variant_id": spec.identity} for row in _rows(read, chosen, group)]
        names = [question.item.name for question in questions]
        items.append(_items(read, names, chosen).assign(variant_id=spec.identity))
    pd.DataFrame(rows).to_parquet(folder / "lens.parquet", index=False)
    pd.concat(items).to_parquet(folder / "lens_items.parquet", index=False)


def measures(read: LensReading) -> dict[str, Float[np.ndarray, "layer item"]]:
    """What is averaged of a reading, by metric; the rank as its logarithm, for a geometric mean."""
    assert read.divergence is not None
    rank = read.rank.cpu().numpy()
    return {
        "lens_divergence": read.divergence.double().cpu().numpy(),
        "lens_log_prob": read.log_prob.double().cpu().numpy(),
        "lens_rank": np.log(rank),
        "lens_top": (rank == 1).astype(float),
        "lens_depth": read.depth.double().cpu().numpy()[None],
    }


def _rows(read: LensReading, chosen: list[Fact], group: str) -> list[dict[str, Any]]:
    """A row per layer and metric of one group, intervals over its entities."""
    here = np.array([fact.group == group for fact in chosen])
    entities = [fact.subject for fact in chosen if fact.group == group]
    rows = []
    for metric, values in measures(read).items():
        found = clustered_columns(values[:, here].T, entities, seed=0)
        if metric == "lens_rank":
            found = tuple(np.exp(part) for part in found)
        for layer, (value, lower, upper) in enumerate(zip(*found, strict=True)):
            rows.append(
                {"group": group, "split": "test", "layer": NO_LAYER if metric == "lens_depth" else layer}
                | {"metric": metric, "value": value, "lower": lower, "upper": upper}
                | {"items": len(entities), "entities": len(set(entities))}
            )
    return rows


def _items(read: LensReading, names: list[str], chosen: list[Fact]) -> pd.DataFrame:
    """A row per item and layer: log-probability in nats and rank of the right answer's first token."""
    layers, count = read.rank.shape
    return pd.DataFrame(
        {
            "item": np.repeat(names, layers),
            "group": np.repeat([fact.group for fact in chosen], layers),
            "layer": np.tile(np.arange(layers, dtype=np.int16), count),
            "log_prob": read.log_prob.T.flatten().float().cpu().numpy(),
            "rank": read.rank.T.flatten().int().cpu().numpy(),
        }
    )
