"""What a table of a run is: its columns with their types, checked where it is written and where it is read.

A column's type is Arrow's, in which the files are written; with it goes pandas' type, in which a reader gets it:

    TEXT large_string, str            NUMBER float64 (missing: NaN)    COUNT int64, Int64 where some are missing
    TRUTH bool, boolean where some are missing                         lists of these: objects

A column without any value has no type that could be wrong, and a table without rows no columns: it is given those that
are declared.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from data.errors import InputError

TEXT, NUMBER, COUNT, TRUTH = pa.large_string(), pa.float64(), pa.int64(), pa.bool_()
NUMBERS, COUNTS, TRUTHS = (pa.list_(one) for one in (NUMBER, COUNT, TRUTH))
PANDAS: dict[pa.DataType, str] = {TEXT: "str", COUNT: "int64", TRUTH: "bool"}
WITH_MISSING: dict[pa.DataType, str] = PANDAS | {COUNT: "Int64", TRUTH: "boolean"}
"""What pandas calls a type, and what it calls it where values are missing; another has the same name in both."""


class TableError(InputError):
    """A table is not as it is declared: the sentence names the table and the column."""


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    type: pa.DataType
    about: str
    """What it says, with its unit."""
    missing: str = ""
    """Where it has no value; empty: every row has one."""
    values: tuple[str, ...] = ()
    """All that can stand in it; empty: anything of its type."""

    @property
    def dtype(self) -> str:
        """Its type in pandas."""
        if pa.types.is_list(self.type):
            return "object"
        known = WITH_MISSING if self.missing else PANDAS
        return known.get(self.type) or np.dtype(self.type.to_pandas_dtype()).name

    def type_fault(self, found: pa.DataType) -> str | None:
        """Why values of a type cannot stand in it; None: they can."""
        return None if _fits(found, self.type) else f"is of type {found}, and {self.type} is declared"

    def fault(self, found: pa.ChunkedArray) -> str | None:
        """What is wrong with the values that are to stand in it; None: nothing."""
        if fault := self.type_fault(found.type):
            return fault
        if found.null_count and not self.missing:
            return f"has no value in {found.null_count} of {len(found)} rows, and every row must have one"
        if self.values and (other := sorted(set(pc.unique(found).drop_null().to_pylist()) - set(self.values))):
            return f"holds '{other[0]}', and {', '.join(self.values)} are declared"
        return None


def _fits(found: pa.DataType, declared: pa.DataType) -> bool:
    """Whether values of a type are of the declared one; text is text whatever its length, and no value is of any."""
    if pa.types.is_list(found) and pa.types.is_list(declared):
        return _fits(found.value_type, declared.value_type)
    return bool(found == declared or pa.types.is_null(found) or (declared == TEXT and pa.types.is_string(found)))


@dataclass(frozen=True)
class Table:
    """One table of a run."""

    name: str
    about: str
    """One sentence: what a row is."""
    columns: tuple[Column, ...]
    cells: str = ""
    """The kind of cell that holds a share of it with all its columns; empty: columns are added, or it is computed."""

    @property
    def file(self) -> str:
        """The name of its file in a run's folder."""
        return f"{self.name}.parquet"

    @property
    def names(self) -> tuple[str, ...]:
        """Its columns by name, in their order."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def schema(self) -> pa.Schema:
        """Its form in a file, with what pandas reads its columns as."""
        empty = pd.DataFrame({one.name: pd.Series(dtype=one.dtype) for one in self.columns})
        fields = [pa.field(one.name, one.type, bool(one.missing)) for one in self.columns]
        return pa.schema(fields, metadata=pa.Schema.from_pandas(empty, preserve_index=False).metadata)

    def typed(self, found: pa.Table | pd.DataFrame) -> pa.Table:
        """A table with exactly the columns declared, in their order and types.

        Raises:
            TableError: a column is missing, not declared, or not of its type.
        """
        made = found if isinstance(found, pa.Table) else pa.Table.from_pandas(found, preserve_index=False)
        if not len(made):
            return self.schema.empty_table()
        if absent := [name for name in self.names if name not in made.column_names]:
            raise TableError(f"table '{self.name}' has no column '{absent[0]}'")
        if other := [name for name in made.column_names if name not in self.names]:
            raise TableError(f"table '{self.name}' has a column '{other[0]}' that is not declared")
        for column in self.columns:
            if fault := column.fault(made[column.name]):
                raise TableError(f"table '{self.name}': column '{column.name}' {fault}")
        return made.select(self.names).cast(self.schema)

    def frame(self, found: pa.Table | pd.DataFrame) -> pd.DataFrame:
        """The same as a data frame, as who reads the table gets it.

        Raises:
            TableError: as `typed`.
        """
        return self.typed(found).to_pandas()

    def joined(self, parts: Iterable[tuple[Path, Mapping[str, str]]]) -> pd.DataFrame:
        """Shares of the table one under the other, each with what is the same in all of its rows; none: no rows.

        Args:
            parts: file of each share, and its constant columns by name.

        Raises:
            TableError: as `typed`; names the share's folder.
        """
        return pa.concat_tables([self.schema.empty_table(), *(self._part(*one) for one in parts)]).to_pandas()

    def _part(self, path: Path, constant: Mapping[str, str]) -> pa.Table:
        # Not through pandas: of counts of which some are missing it would make numbers.
        part = parquet.read_table(path, partitioning=None)
        for name, value in constant.items():
            part = part.append_column(name, pa.array([value] * len(part), TEXT))
        try:
            return self.typed(part)
        except TableError as error:
            raise TableError(f"cell '{path.parent.name}': {error}") from None

    def write(self, frame: pd.DataFrame, path: Path) -> None:
        """Write it to a file.

        Raises:
            TableError: as `typed`.
        """
        parquet.write_table(self.typed(frame), path)

    def read(
        self, path: Path, columns: Collection[str] = (), variant_ids: Collection[str] | None = None
    ) -> pd.DataFrame:
        """Read it, or these columns of it, or the rows of these variants alone, from a file.

        Raises:
            TableError: a column that is read is missing or not of its type.
            KeyError: a column is asked for that is not declared.
            OSError, pyarrow.ArrowException: the file cannot be read.
        """
        declared = {column.name: column for column in self.columns}
        asked = [declared[name] for name in (columns or self.names)]
        found = parquet.read_schema(path)
        for column in asked:
            if column.name not in found.names:
                raise TableError(f"table '{self.name}' has no column '{column.name}'")
            if fault := column.type_fault(found.field(column.name).type):
                raise TableError(f"table '{self.name}': column '{column.name}' {fault}")
        rows = None if variant_ids is None else [("variant_id", "in", list(variant_ids))]
        table = parquet.read_table(path, columns=[one.name for one in asked], filters=rows, partitioning=None)
        # What values it may hold was looked at when it was written.
        wanted = pa.schema([pa.field(one.name, one.type) for one in asked], metadata=self.schema.metadata)
        return table.cast(wanted).to_pandas()
