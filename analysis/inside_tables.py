"""The tables of what a study read inside its variants, and the folder of examples: gathered, nothing computed."""

import shutil
from pathlib import Path

import pandas as pd

from analysis import work_examples, work_intervened, work_lens, work_probed
from analysis.cell import Kind, Plan
from analysis.run_files import EXAMPLES
from analysis.store import Store, names_in

COLUMNS: dict[str, tuple[Kind, tuple[str, ...]]] = {
    "lens": ("lens", work_lens.COLUMNS),
    "lens_items": ("lens", work_lens.ITEM_COLUMNS),
    "probes": ("probed", work_probed.COLUMNS),
    "interventions": ("intervened", work_intervened.COLUMNS),
    "examples": ("examples", work_examples.COLUMNS),
}
"""Each table with the cells that have a share of it and its columns."""


def inside_tables(plan: Plan, store: Store) -> dict[str, pd.DataFrame]:
    """The tables by name, with their columns and no rows where the study does not ask for them."""
    found = {}
    for name, (kind, columns) in COLUMNS.items():
        parts = [pd.read_parquet(store.folder(cell.key) / f"{name}.parquet") for cell in plan.of(kind)]
        found[name] = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(columns))
    return found


def copy_examples(plan: Plan, store: Store, folder: Path) -> None:
    """Replace the run's folder of examples by those of its cells; a run without any has no folder."""
    draft = folder / f".{EXAMPLES}"
    shutil.rmtree(draft, ignore_errors=True)
    for cell in plan.of("examples"):
        draft.mkdir(exist_ok=True)
        for name in sorted(names_in(store.folder(cell.key))):
            if name.endswith(".npz"):
                shutil.copyfile(store.folder(cell.key) / name, draft / name)
    shutil.rmtree(folder / EXAMPLES, ignore_errors=True)
    if draft.is_dir():
        draft.replace(folder / EXAMPLES)
