"""What a page shows of a run's tables: pure functions from tables and choices to smaller tables, with no browser."""

from collections.abc import Sequence

import pandas as pd

from analysis.recovery import arms_by, drawn_over

DAMAGE_FREE = ("dense", "")
TRANSFERRED = "transferred"
"""The kind of a repair that is used on another copy than it was tuned on."""


def variants_of(
    variants: pd.DataFrame,
    scope: str,
    compressions: Sequence[str] = (),
    repairs: Sequence[str] = (),
    seed: int | None = None,
) -> pd.DataFrame:
    """The variants of one scope; no compressions or repairs named means all.

    The model of each compression without a repair is always among them, since without it a repair cannot be read;
    so is what no seed shaped. A repair that is used elsewhere than it was tuned is kept only where it is named: it has
    a figure of its own.
    """
    kept = at_home(variants[variants["scope"] == scope], repairs)
    if compressions:
        kept = kept[kept["compression"].isin(compressions)]
    if repairs:
        kept = kept[kept["repair"].isin([*repairs, ""])]
    if seed is None:
        return kept
    unseeded = kept["compression_seed"].isna() & kept["repair_seed"].isna()
    own = kept["compression_seed"].fillna(kept["replicate"]) == seed
    return kept[unseeded | own]


def at_home(variants: pd.DataFrame, named: Sequence[str] = ()) -> pd.DataFrame:
    """The variants whose repair was tuned on their own copy, and those whose repair is named."""
    return variants[(variants["kind"] != TRANSFERRED) | variants["repair"].isin(named)]


def flips(answers: pd.DataFrame, variants: pd.DataFrame, dense_id: str) -> pd.DataFrame:
    """How often a variant answers otherwise than dense did: a row per variant and direction, a share of questions.

    `lost`: dense was right and the variant is not; `gained`: the reverse. Intervals over replicates and entities.
    `answers` are those of one group, reading, split and phrasing.
    """
    before = answers.loc[answers["variant_id"] == dense_id, ["item", "correct"]].rename(columns={"correct": "was"})
    known = variants[["variant_id", "variant", "compression", "repair"]].assign(replicate=drawn_over(variants))
    joined = answers.merge(known, on="variant_id").merge(before, on="item", validate="many_to_one")
    joined = joined.assign(lost=joined["was"] & ~joined["correct"], gained=~joined["was"] & joined["correct"])
    damaged = joined[(joined["compression"] != DAMAGE_FREE[0]) | (joined["repair"] != DAMAGE_FREE[1])]
    rows = []
    for arm in arms_by(damaged, ["variant", "compression", "repair"], ["lost", "gained"]):
        variant, compression, repair = arm.key
        for direction, table in arm.tables.items():
            found = arm.estimate(direction)
            rows.append(
                {"variant": variant, "compression": compression, "repair": repair, "direction": direction}
                | {"value": found.estimate, "lower": found.lower, "upper": found.upper}
                | {"items": int(arm.items.sum()), "entities": table.shape[1], "replicates": table.shape[0]}
            )
    columns = ["variant", "compression", "repair", "direction", "value", "lower", "upper"]
    return pd.DataFrame(rows, columns=[*columns, "items", "entities", "replicates"])


def answers_to(answers: pd.DataFrame, variants: pd.DataFrame) -> pd.DataFrame:
    """What every variant answered to one question: a row per variant, over its replicates.

    Columns: variant, compression, repair, answers (with how many replicates gave each), right (share of replicates),
    log_prob (mean of the right answer's, nats), lowest, highest, replicates. `answers` are those to one item in one
    reading.
    """
    known = variants[["variant_id", "variant", "compression", "repair"]]
    joined = known.merge(answers, on="variant_id", validate="one_to_one")
    rows = []
    for (variant, compression, repair), part in joined.groupby(["variant", "compression", "repair"], sort=False):
        counts = part["predicted"].value_counts()
        told = ", ".join(word if count == len(part) else f"{word} ({count})" for word, count in counts.items())
        rows.append(
            {"variant": variant, "compression": compression, "repair": repair, "answers": told}
            | {"right": part["correct"].mean(), "log_prob": part["log_prob"].mean()}
            | {"lowest": part["log_prob"].min(), "highest": part["log_prob"].max(), "replicates": len(part)}
        )
    columns = ["variant", "compression", "repair", "answers", "right", "log_prob", "lowest", "highest", "replicates"]
    return pd.DataFrame(rows, columns=columns)


def items_of(answers: pd.DataFrame, variants: pd.DataFrame, dense_id: str) -> pd.DataFrame:
    """One row per question with dense's answer and, per compression and repair, the share of replicates that are right.

    Columns: item, relation, entity, group, split, answer, dense (right or not), then a column per variant's name.
    """
    asked = answers.drop_duplicates("item").set_index("item")[["relation", "entity", "group", "split", "answer"]]
    names = variants.set_index("variant_id")["variant"]
    kept = answers[answers["variant_id"].isin(names.index)]
    shares = kept.assign(variant=kept["variant_id"].map(names)).pivot_table(
        index="item", columns="variant", values="correct", aggfunc="mean", observed=True
    )
    was = answers[answers["variant_id"] == dense_id].set_index("item")["correct"].rename("was")
    return asked.join(was).join(shares).reset_index()


def closer_to_dense(drift: pd.DataFrame, variants: pd.DataFrame, metric: str, site: str, group: str) -> pd.DataFrame:
    """By how much less a repaired variant drifts from dense than its own unrepaired parent does, layer by layer.

    Above zero: the repair brings the inside nearer to dense. A row per variant, replicate and layer; columns: variant,
    compression, repair, variant_id, layer, closer, own (the variant's drift), parent (its parent's), tokens.
    """
    chosen = drift[
        (drift["reference"] == "dense")
        & (drift["metric"] == metric)
        & (drift["site"] == site)
        & (drift["group"] == group)
    ]
    # The dense model is measured beside every replicate, each time with the same numbers.
    values = chosen[["variant_id", "layer", "value", "tokens"]].drop_duplicates(["variant_id", "layer"])
    repaired = variants[variants["repair"] != ""][["variant_id", "variant", "compression", "repair", "parent"]]
    own = repaired.merge(values, on="variant_id").rename(columns={"value": "own"})
    before = values[["variant_id", "layer", "value"]].rename(columns={"variant_id": "parent", "value": "before"})
    found = own.merge(before, on=["parent", "layer"], validate="many_to_one")
    found = found.assign(closer=found["before"] - found["own"]).drop(columns="parent")
    return found.rename(columns={"before": "parent"})
