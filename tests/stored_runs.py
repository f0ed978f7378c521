"""A finished run's folder made by hand, small and with every table that the pages read."""

import functools
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from analysis.predictions.registry import predictions_sha
from tests import stored_inside
from tests.declared import manifest, write_table
from tests.stored_frames import COMPRESSIONS, attention_frame, drift_frame, recovery_frame, variants_frame

BITS = {"estimate": 0.5, "lower": 0.2, "upper": 0.8}
PREDICTION = {
    "name": "test facts come back beyond recalibration",
    "statistic": "bits per fact",
    "estimate": 0.41,
    "lower": 0.2,
    "upper": 0.8,
    "p": 0.002,
    "p_corrected": 0.004,
    "n": 12,
    "supports": "H1",
    "sentence": "beyond recalibration: +0.41 bits per fact",
}
SETTING = {
    "model": "tiny",
    "scope": "main",
    "compression": "gptq-3bit",
    "repair": "prompt-4",
    "decision": "displaced",
    "expressed_bits": BITS,
    "gain_bits": BITS,
    "redirected_bits": BITS,
    "unreached_bits": None,
    "relearned_bits": BITS,
    "gain_p": 0.002,
    "relearned_p": 0.004,
    "entities": 12,
    "share_of_gap": None,
    "predictions": [PREDICTION],
    "further_predictions": [],
    "reasons": [],
}
CLAIMS: list[dict[str, Any]] = [
    {"claim": "IDP gains", "paper": "+1.24 %", "ours": "said"}
    | {
        "measured": [
            {"setting": "gptq-3bit", "repair": "idp-2x4-attention", "value": 0.1, "lower": -0.1, "upper": 0.3}
            | {"unit": "accuracy", "n": 9, "paper_value": 0.0124}
        ]
    },
    {"claim": "IDP is faster", "paper": "60 %", "ours": "not measured in this run", "measured": []},
]
LISTS = {"capital": ["oslo", "paris", "turin", "bergen"], "colour": ["red", "blue"]}
LOST = "capital/oslo/measure"
"""The question that gptq-3bit loses in both replicates and prompt-4 wins back."""


def answers_frame(variants: pd.DataFrame, group: str = "facts") -> pd.DataFrame:
    """Two lists, capitals of four answers and colours of two; gptq-3bit alone loses one question."""
    rows = []
    for arm in variants.itertuples():
        for relation, words in LISTS.items():
            for place, answer in enumerate(words):
                item = f"{relation}/{answer}/measure"
                right = not (item == LOST and arm.variant == "gptq-3bit")
                told: dict[str, Any] = {
                    "item": item,
                    "group": group,
                    "split": "test",
                    "phrasing": "measure",
                    "relation": relation,
                }
                told |= {"entity": f"land of {answer}", "answer": answer, "correct": right, "bits": float(right)}
                told |= {"predicted": answer if right else words[(place + 1) % len(words)]}
                told |= {"log_prob": -0.125 if right else -2.5, "variant_id": arm.variant_id}
                rows += [told | {"reading": reading} for reading in ("candidates", "vocabulary")]
    return pd.DataFrame(rows)


def bank_tables(variants: pd.DataFrame, group: str) -> dict[str, pd.DataFrame]:
    """Two prompts per bank, of which the second is always kept."""
    banks = variants[variants["repair"].str.startswith("idp")]["variant_id"]
    common = {"group": group, "selector": "attention", "cost": "first_layer"}
    figures = ["regret", "p", "choice_bits", "value", "lower", "upper"]
    figures += [f"minus_{rival}{end}" for rival in ("random", "best_single") for end in ("", "_lower", "_upper")]
    return {
        "banks": pd.DataFrame([{"variant_id": one, "prompt": place} for one in banks for place in (0, 1)]),
        "selectors": pd.DataFrame(
            [
                common
                | {"variant_id": one, "measure": measure, "items": 6, "entities": 6, "usage": [0.0, 1.0]}
                | dict.fromkeys(figures, 0.25)
                for one in banks
                for measure in ("log_prob", "accuracy")
            ]
        ),
        "selections": pd.DataFrame(
            [
                common
                | {"variant_id": one, "item": LOST, "entity": "land of oslo", "relation": "capital", "oracle": 0}
                | {"log_prob_by_prompt": [-0.5, -1.5], "correct_by_prompt": [True, False], "chosen": 1}
                | {"scores": [0.1, 0.9], "log_prob": -1.5, "correct": False}
                for one in banks
            ]
        ),
    }


KINDS = {
    **{"": "", "recalibrated": "recalibrated", "placebo-4": "placebo", "prompt-4": "prompt"},
    **dict.fromkeys(("prompt-4-masked", "prompt-4-shuffled"), "prompt"),
    **{"idp-2x4-attention": "idp", "lora-r2": "lora"},
}
DRAWN_AS = KINDS | {"prompt-4-masked": "masked", "prompt-4-shuffled": "shuffled"}


def write_run(folder: Path, *, controls: bool = True) -> Path:
    """A run's folder with the tables that the pages read; a real model's has no controls."""
    shutil.copytree(_tables(controls).name, folder, copy_function=shutil.copy)  # as new files: pages go by their time
    study = {"name": folder.name, "title": "", "model": "tiny", "text": "hand", "reported": ["prompt-4"]} | {
        "tasks": None
    }
    told = manifest(study, seeds=[0, 1], note="dense is a dequantised file")
    (folder / "manifest.json").write_text(json.dumps(told))
    return folder


@functools.cache
def _tables(controls: bool) -> TemporaryDirectory:
    """All of a run but its manifest, made once a session: most of what a page's test took was making it."""
    made = TemporaryDirectory()
    folder = Path(made.name)
    scopes = [("main", "facts"), ("locked", "locked")] if controls else [("main", "facts")]
    variants = [seeded_variants(scope) for scope, _ in scopes]
    banks = [bank_tables(own, group) for own, (_, group) in zip(variants, scopes, strict=True)]
    tables = {
        "variants": pd.concat(variants),
        "recovery": pd.concat([recovery_frame(*scope) for scope in scopes]),
        "drift": pd.concat(map(drift_frame, variants)),
        "attention": pd.concat(map(attention_frame, variants)),
        "answers": pd.concat(answers_frame(own, group) for own, (_, group) in zip(variants, scopes, strict=True)),
        **{name: pd.concat(one[name] for one in banks) for name in banks[0]},
        **inside_of(folder, scopes, variants),
    }
    for name, table in tables.items():
        write_table(folder, name, table)
    verdict: dict[str, Any] = {"settings": [SETTING], "controls": [SETTING | {"scope": "locked"}] if controls else []}
    verdict |= {"reinjections": [], "claims": CLAIMS, "predictions_sha": predictions_sha()}
    (folder / "verdict.json").write_text(json.dumps(verdict))
    return made


def inside_of(folder: Path, scopes: list[tuple[str, str]], variants: list[pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The tables of what was read inside, and the file of the one example of each scope."""
    items = [f"{relation}/{answer}/measure" for relation, words in LISTS.items() for answer in words]
    groups = [group for _, group in scopes]
    return {
        "lens_items": pd.concat(map(lambda own, group: stored_inside.lens_items(own, items, group), variants, groups)),
        "lens": pd.concat(map(stored_inside.lens, variants, groups)),
        "interventions": pd.concat(map(stored_inside.interventions, variants, groups)),
        "examples": pd.concat(stored_inside.write_example(folder, *one, LOST) for one in scopes),
        "timings": pd.DataFrame(
            [{"kind": "scored", "label": "dense", "seconds_to_make": 1.0, "peak_bytes": 800_000_000}]
        ),
    }


def seeded_variants(scope: str) -> pd.DataFrame:
    """The variants of one scope with their seeds and parents."""
    table = variants_frame(scope)
    own = table.assign(
        kind=table["repair"].map(KINDS),
        drawn_as=table["repair"].map(DRAWN_AS),
        compression_seed=table["replicate"].where(table["compression"] != "dense").astype(float),
        repair_seed=table["replicate"].where(table["repair"] != "").astype(float),
        parent=scope + table["compression"] + "/" + table["replicate"].astype(str),
    )
    assert set(own["compression"]) == set(COMPRESSIONS)
    return own.assign(variant_id=scope + own["variant_id"])
