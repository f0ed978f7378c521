"""What a run keeps of the inside of its variants, made by hand: the lens by question, interventions, an example."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

LAYERS, HEADS = 3, 5
PROMPT = 2
"""Soft tokens of the example under the repaired copy."""
RESTORED = 1.5
"""Nats that the patch of the last layer restores."""
WORDS = ("the", "town", "is")


def lens_items(variants: pd.DataFrame, items: list[str], group: str) -> pd.DataFrame:
    """Dense puts every answer on top from the middle layer on; gptq-3bit never does."""
    rows = []
    for arm, item, layer in itertools.product(variants.query("replicate == 0").itertuples(), items, range(LAYERS)):
        rank = 7 if layer == 0 or arm.variant == "gptq-3bit" else 1
        rows.append(
            {"variant_id": arm.variant_id, "item": item, "group": group, "layer": layer}
            | {"log_prob": -0.5 if rank == 1 else -4.0, "rank": rank}
        )
    return pd.DataFrame(rows)


def lens(variants: pd.DataFrame, group: str) -> pd.DataFrame:
    """The right answer gets surer by layer; its depth belongs to no layer."""
    rows = []
    for arm in variants.query("replicate == 0 and repair != 'recalibrated'").itertuples():
        common = {"variant_id": arm.variant_id, "group": group, "split": "test", "items": 6, "entities": 6}
        rows.append(common | {"metric": "lens_depth", "layer": -1, "value": 2.0, "lower": 1.5, "upper": 2.5})
        for layer, metric in itertools.product(range(LAYERS), ("lens_divergence", "lens_log_prob", "lens_top")):
            rows.append(common | {"metric": metric, "layer": layer, "value": layer / 4, "lower": 0.0, "upper": 1.0})
    return pd.DataFrame(rows)


def interventions(variants: pd.DataFrame, group: str) -> pd.DataFrame:
    """Patches of gptq-3bit of which the last layer's alone beats its placebos, and a knockout of its prompt."""
    scope = variants["scope"].iloc[0]
    rows = []
    for place in itertools.product(range(LAYERS), (-1, *range(HEADS))):
        for arm in ("patched", "other fact", "noise", "patched - other fact", "patched - noise"):
            rows.append(_row(f"{scope}gptq-3bit/0", "patching", arm, place, group))
        for arm in ("prompt keys", "random keys", "prompt keys - random keys"):
            rows.append(_row(f"{scope}gptq-3bit + prompt-4/0", "knockout", arm, place, group))
    return pd.DataFrame(rows)


def _row(variant: str, kind: str, arm: str, place: tuple[int, int], group: str) -> dict:
    layer, head = place
    strong = layer == LAYERS - 1 and arm.startswith(("patched", "prompt keys"))
    value = RESTORED if strong else 0.1
    return (
        {"variant_id": variant, "intervention": kind, "source": "dense", "group": group, "layer": layer}
        | {"site": "resid_post" if kind == "patching" and head < 0 else "attn_out" if kind == "patching" else "pattern"}
        | {"last_layer": layer, "head": head, "positions": "last", "form": "" if kind == "patching" else "zeroed"}
        | {"arm": arm, "value": value, "lower": value - 0.1, "upper": value + 0.1, "p": 0.01 if strong else 0.6}
        | {"before": -1.0, "reference": 2.0, "items": 16, "entities": 16, "lost": 12, "keys": 2.0}
    )


def write_example(folder: Path, scope: str, group: str, item: str) -> pd.DataFrame:
    """One question under dense, the copy and the copy behind two soft tokens, which get half of all attention."""
    names = ("dense", "gptq-3bit", "gptq-3bit + prompt-4")
    identities = [f"{scope}{name}/0" for name in names]
    file = f"{scope}-one.npz"
    about = {"item": item, "group": group, "question": " ".join(WORDS), "answer": "oslo", "why": "lost, given back"}
    arrays: dict[str, Any] = {name: np.array(text) for name, text in about.items()} | {
        "variant_ids": np.array(identities)
    }
    for place, name in enumerate(names):
        prompt = PROMPT if "prompt" in name else 0
        arrays |= {f"{place}.{key}": value for key, value in _shown(prompt).items()}
    (folder / "examples").mkdir(exist_ok=True)
    np.savez_compressed(folder / "examples" / file, **arrays)
    return pd.DataFrame([about | {"file": file, "variant_id": one, "correct": True} for one in identities])


def _shown(prompt: int) -> dict[str, np.ndarray]:
    length = prompt + len(WORDS)
    attention = np.zeros((LAYERS, HEADS, length, length))
    for query in range(length):
        content = query + 1 - prompt
        attention[:, :, query, : query + 1] = 1 / (query + 1)
        if prompt and content > 0:
            attention[:, :, query, :prompt] = 0.5 / prompt
            attention[:, :, query, prompt : query + 1] = 0.5 / content
    return {
        "tokens": np.array([*(f"P{place + 1}" for place in range(prompt)), *WORDS]),
        "prompt": np.array(prompt),
        "attention": attention.astype(np.float16),
        "lens_top": np.full((LAYERS, length), "oslo"),
        "lens_top_log_prob": np.full((LAYERS, length), -0.5),
        "lens_log_prob": np.full((LAYERS, length), -0.5),
        "lens_rank": np.ones((LAYERS, length), dtype=int),
    }
