"""Tables of a finished run made by hand, as frames: every repair of every compression, each with its own value."""

import itertools

import pandas as pd

REPAIRS = (
    "",
    "recalibrated",
    "placebo-4",
    "prompt-4-masked",
    "prompt-4-shuffled",
    "prompt-4",
    "idp-2x4-attention",
    "lora-r2",
)
COMPRESSIONS = ("dense", "gptq-3bit", "wanda-70%")
FLOOR = 0.02


def name_of(compression: str, repair: str) -> str:
    """A variant's name, as runs write it."""
    return f"{compression} + {repair}" if repair else compression


def recovery_frame(scope: str = "main", group: str = "facts") -> pd.DataFrame:
    """Every arm of every compression, each with its own value."""
    rows = []
    arms = itertools.product(
        COMPRESSIONS, REPAIRS, ("candidates", "vocabulary"), ("tune", "calibrate", "test"), ("accuracy", "bits")
    )
    for place, (compression, repair, reading, split, measure) in enumerate(arms):
        value = 0.2 + 0.002 * place
        rows.append(
            {"scope": scope, "compression": compression, "repair": repair, "variant": name_of(compression, repair)}
            | {"group": group, "reading": reading, "split": split, "measure": measure, "value": value}
            | {"lower": value - 0.1, "upper": value + 0.05, "items": 40, "entities": 10, "replicates": 2}
            | {"parameters_added": 512 if "-" in repair and "placebo" not in repair else 0}
        )
    return pd.DataFrame(rows)


def variants_frame(scope: str = "main") -> pd.DataFrame:
    """Two replicates of every arm."""
    rows = [
        {"variant_id": f"{name_of(compression, repair)}/{replicate}", "variant": name_of(compression, repair)}
        | {"scope": scope, "compression": compression, "repair": repair, "replicate": replicate, "draw": 0}
        | {"steps": 30 if repair.startswith(("prompt", "idp", "lora")) else 0}
        for compression, repair, replicate in itertools.product(COMPRESSIONS, REPAIRS, (0, 1))
    ]
    return pd.DataFrame(rows)


def drift_frame(variants: pd.DataFrame, layers: int = 3) -> pd.DataFrame:
    """Replicate 0 reads 0.1 more than replicate 1; the recalibrated arm has no inside of its own."""
    rows = []
    inside = variants[variants["repair"] != "recalibrated"]
    places = itertools.product(range(layers), ("resid_post", "mlp_out"), ("cosine", "relative_l2"))
    for layer, site, metric in places:
        for arm in inside.itertuples():
            value = 0.3 + 0.1 * layer + (0.1 if arm.replicate == 0 else 0.0)
            rows.append(
                {"variant_id": arm.variant_id, "reference": "dense", "group": "questions", "layer": layer}
                | {"site": site, "metric": metric, "value": value, "lower": value - 0.1, "upper": value + 0.1}
                | {"floor": FLOOR, "tokens": 67}
            )
    return pd.DataFrame(rows)


def attention_frame(variants: pd.DataFrame, layers: int = 3, heads: int = 5) -> pd.DataFrame:
    """Head 0 lies at the floor in every layer."""
    rows = []
    inside = variants[variants["repair"] != "recalibrated"]
    for layer, head, metric in itertools.product(range(layers), range(heads), ("jensen_shannon", "prompt_mass")):
        for arm in inside.itertuples():
            value = FLOOR if head == 0 else 0.1 * head + (0.02 if arm.replicate == 0 else 0.0)
            rows.append(
                {"variant_id": arm.variant_id, "reference": "dense", "group": "questions", "layer": layer}
                | {"site": "pattern", "metric": metric, "value": value, "lower": value - 0.01, "upper": value + 0.01}
                | {"floor": FLOOR, "tokens": 67, "head": head}
            )
    return pd.DataFrame(rows)
