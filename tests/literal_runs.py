"""A finished run whose names are full of marks: of Markdown, HTML, formulas, colours, icons and plotly's own."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.schema.registry import TABLES
from tests.stored_runs import write_run

RUN = "rzq $1$ *b* <u>u"
GROUP = "facts"
NAMES = {
    "gptq-3bit": "$gzq_3$ <b>q*</b> :red[x]",
    "prompt-4": "[pzq](y) `w` -> &amp;",
    "facts": "_ozq_ <i>o</i> ~~t~~",
    "capital": "home_$tzq$",
    "land of oslo": "$P_{ezq}$ **oslo**",
    "oslo": "<script>azq</script>",
    "turin": "www.czq.com/x_y_",
}
"""What stands for the names of a run made by hand; each has a core that no other text has."""
TOLD = {"title": "<b>Tzq</b> $x^2$ :material/home:", "text": "file:xzq_y_*.txt", "model": "mzq $m$ :blue[l]"}
NOTE = "nzq *note* $x$ | :smile: -- 2 <= 3"
EVERY = (RUN, *NAMES.values(), *TOLD.values(), NOTE)


def write_literal_run(root: Path) -> Path:
    """Write the run below a folder of runs."""
    folder = write_run(root / RUN)
    for path in sorted(folder.glob("*.parquet")):
        table = pd.read_parquet(path)
        for column in table.select_dtypes("object"):
            words = table[column].map(lambda told: named(told) if isinstance(told, str) else told)
            table[column] = words.astype(table[column].dtype)
        TABLES.of(path.stem).write(table, path)
    for path in sorted((folder / "examples").glob("*.npz")):
        with np.load(path) as stored:
            arrays = dict(stored)
        for key in ("variant_ids", "item", "group", "answer", "lens_top"):
            for place in [place for place in arrays if place.split(".")[-1] == key]:
                arrays[place] = np.vectorize(named, otypes=[object])(arrays[place]).astype(str)
        arrays = {
            key: np.array([named(one) for one in told]) if key.endswith(".tokens") else told
            for key, told in arrays.items()
        }
        np.savez_compressed(path, **arrays)
    for name in ("verdict.json", "manifest.json"):
        (folder / name).write_text(json.dumps(_renamed(json.loads((folder / name).read_text()))))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["study"] |= TOLD
    (folder / "manifest.json").write_text(json.dumps(manifest | {"note": NOTE}))
    return folder


def named(told: str) -> str:
    """A text with the names of this run; the group's is a word of others too."""
    if told == GROUP:
        return NAMES[GROUP]
    for place, old in enumerate(NAMES):
        if old == GROUP:
            continue
        told = told.replace(old, f"\1{place}\2")
    for place, new in enumerate(NAMES.values()):
        told = told.replace(f"\1{place}\2", new)
    return told


def _renamed(told: object) -> object:
    if isinstance(told, dict):
        return {key: _renamed(one) for key, one in told.items()}
    if isinstance(told, list):
        return [_renamed(one) for one in told]
    return named(told) if isinstance(told, str) else told
