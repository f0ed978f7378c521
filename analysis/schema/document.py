"""`docs/tables.md`, written from what is declared: `python -m analysis.schema.document` writes it anew."""

from pathlib import Path

import pyarrow as pa

from analysis.schema.costs import LATENCY
from analysis.schema.registry import TABLES
from analysis.schema.table import Column, Table

PAGE = Path(__file__).parent.parent.parent / "docs" / "tables.md"
OPENING = """# Tables of a run

A run's folder holds these tables as Parquet files, which pandas, DuckDB and R open directly; each is written and read
with the columns and types given here. `variants` says what a `variant_id` stands for. `latency.csv` is there where
repairs were timed. This page is written from `analysis/schema` by `python -m analysis.schema.document`.
"""
TYPES = {pa.large_string(): "text", pa.float64(): "float64", pa.float32(): "float32", pa.bool_(): "bool"}


def document() -> str:
    """All of the page."""
    return "\n".join([OPENING, *(section(table) for table in (*TABLES.every(), LATENCY))])


def section(table: Table) -> str:
    """One table: what a row is, then its columns."""
    rows = [f"| `{one.name}` | {type_words(one.type)} | {about(one)} |" for one in table.columns]
    return "\n".join(
        [f"## {table.name}", "", table.about, "", "| column | type | meaning |", "|---|---|---|", *rows, ""]
    )


def type_words(kind: pa.DataType) -> str:
    """A type as it is named on the page."""
    if pa.types.is_list(kind):
        return f"list of {type_words(kind.value_type)}"
    return TYPES.get(kind, str(kind))


def about(column: Column) -> str:
    """What a column says, what can stand in it, and where it has no value."""
    untold = any(value not in column.about for value in column.values)
    values = f" ({', '.join(column.values)})" if untold else ""
    return f"{column.about}{values}{f'; missing {column.missing}' if column.missing else ''}"


if __name__ == "__main__":
    PAGE.write_text(document(), encoding="utf-8")
