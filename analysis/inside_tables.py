"""The tables of what a study read inside its variants, and the folder of examples: gathered, nothing computed."""

import shutil
from pathlib import Path

import pandas as pd

from analysis.cell import Plan
from analysis.run_files import EXAMPLES
from analysis.schema.registry import TABLES
from analysis.store import Store, names_in


def inside_tables(plan: Plan, store: Store) -> dict[str, pd.DataFrame]:
    """The tables that cells of one kind hold whole shares of, by name; no rows where the study does not ask for them.

    Raises:
        TableError: what a cell wrote is not as the table is declared.
    """
    return {
        table.name: table.joined(
            (store.folder(cell.key) / table.file, {}) for cell in plan.cells if cell.kind == table.cells
        )
        for table in TABLES.every()
        if table.cells
    }


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
