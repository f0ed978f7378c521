"""Two finished runs in which every scope has names of its own, so that a box which goes stale shows it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.schema.registry import TABLES
from tests.stored_runs import SETTING, write_run

NAMES = {
    ("first", "main"): {},
    ("first", "locked"): {"gptq-3bit": "rtn-4bit", "wanda-70%": "ria-50%"},
    ("second", "main"): {"gptq-3bit": "awq-4bit", "wanda-70%": "owl-80%"},
    ("second", "locked"): {"gptq-3bit": "int-8bit", "wanda-70%": "mask-60%"},
}
"""What each run and scope calls the compressions, and the group of facts, of a run made by hand."""
KEPT = ("", "prompt-4", "idp-2x4-attention")
"""Repairs of these runs: as few as show every page, since a page's time is that of its charts."""
SETTINGS = (("gptq-3bit", "prompt-4"), ("wanda-70%", "prompt-4"), ("gptq-3bit", "idp-2x4-attention"))


def write_runs(root: Path) -> None:
    """Write `first`, the newer of the two, and `second`."""
    for run in ("second", "first"):
        folder = write_run(root / run)
        for path in sorted(folder.glob("*.parquet")):
            _rename(path, run)
        _set_apart(folder / "attention.parquet")
        for path in sorted((folder / "examples").glob("*.npz")):
            _rename_example(path, NAMES[run, path.name.partition("-")[0]])
        settings = {scope: _settings(run, scope) for scope in ("main", "locked")}
        verdict = json.loads((folder / "verdict.json").read_text())
        verdict |= {"settings": settings["main"], "controls": settings["locked"]}
        (folder / "verdict.json").write_text(json.dumps(verdict))
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["study"]["text"] = f"text of {run}"
        (folder / "manifest.json").write_text(json.dumps(manifest))


def _settings(run: str, scope: str) -> list[dict[str, Any]]:
    """Each with numbers that no other has."""
    found = []
    for place, (compression, repair) in enumerate(SETTINGS):
        low = 0.1 + 0.01 * list(NAMES).index((run, scope)) + 0.1 * place
        bits = {"estimate": low + 0.005, "lower": low, "upper": low + 0.01}
        told = {"scope": scope, "compression": NAMES[run, scope].get(compression, compression), "repair": repair}
        found.append(SETTING | told | dict.fromkeys(("expressed_bits", "redirected_bits", "relearned_bits"), bits))
    return found


def _set_apart(path: Path) -> None:
    """A head of the last layer at which repaired copies differ from the others: Attention opens there."""
    table = pd.read_parquet(path)
    there = (table["layer"] == 2) & (table["head"] == 3) & table["variant_id"].str.contains("prompt-4")
    table.loc[there, ["value", "lower", "upper"]] += 0.25
    table.to_parquet(path, index=False)


def _rename(path: Path, run: str) -> None:
    table = pd.read_parquet(path)
    if "repair" in table:
        table = table[table["repair"].isin(KEPT)]
    for scope in ("main", "locked"):
        of = "scope" if "scope" in table else "variant_id" if "variant_id" in table else None
        if of is None:
            continue
        mine = table[of].str.startswith(scope)
        for column in table.select_dtypes("object"):
            for old, new in NAMES[run, scope].items():
                words = table.loc[mine, column]
                named = words.map(lambda one, a=old, b=new: one.replace(a, b) if isinstance(one, str) else one)
                table.loc[mine, column] = named.astype(words.dtype)
    TABLES.of(path.stem).write(table, path)


def _rename_example(path: Path, names: dict[str, str]) -> None:
    with np.load(path) as stored:
        arrays = dict(stored)
    for old, new in names.items():
        arrays["variant_ids"] = np.array([one.replace(old, new) for one in arrays["variant_ids"]])
        arrays["group"] = np.array(str(arrays["group"]).replace(old, new))
    np.savez_compressed(path, **arrays)
