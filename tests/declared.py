"""Tables and manifests made by hand, completed to what is declared of a run's."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from analysis.schema.registry import TABLES
from analysis.schema.table import Column
from analysis.store import SCHEMA


def neutral(column: Column) -> Any:
    """A value that can stand in a column: none where one may be missing."""
    if column.missing:
        return None
    if column.values:
        return column.values[0]
    if pa.types.is_list(column.type):
        return [neutral(Column("", column.type.value_type, ""))]
    plain = column.type.to_pandas_dtype()
    return "" if pa.types.is_large_string(column.type) else plain(0)


def completed(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """A table with the columns that were left out of it, each with a neutral value."""
    table = TABLES.of(name)
    absent = [column for column in table.columns if column.name not in frame]
    more = {column.name: [neutral(column)] * len(frame) for column in absent}
    whole = pd.concat([frame.reset_index(drop=True), pd.DataFrame(more, dtype=object)], axis=1)
    kept = {column.name: column.dtype for column in table.columns if column.dtype != "object"}
    return whole[list(table.names)].astype(kept)


def manifest(study: dict[str, Any], **told: Any) -> dict[str, Any]:
    """A manifest of a run of a study, without its seal."""
    plain = {"versions": {}, "facts_sha": "", "model_sha": "", "seeds": [0], "predictions_sha": "", "gathering": ""}
    return {"schema": SCHEMA, "study": study} | plain | {"cells": [], "note": "", "files": {}} | told


def write_table(folder: Path, name: str, frame: pd.DataFrame) -> None:
    """Write a table of a run, completed."""
    table = TABLES.of(name)
    table.write(completed(name, frame), folder / table.file)
