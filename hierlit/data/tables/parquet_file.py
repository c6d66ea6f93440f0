"""Parquet files, read a batch of rows at a time."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hierlit.data.tables.rows import (
    Column,
    ColumnType,
    NumberColumn,
    Reading,
    TableError,
    TableFile,
    TextColumn,
    import_arrow,
)

CELLS_AT_ONCE = 2**17
BUFFER = 2**16
"""Bytes of a column that are read at once: a row group may be as large as the file."""


class ParquetFile(TableFile):
    """A Parquet file, whose types say which columns are numbers.

    Args:
        path: The file.
        reading: Not used: Parquet has nulls and types of its own.
    """

    def __init__(self, path: Path, reading: Reading) -> None:
        super().__init__(path)
        arrow, _ = import_arrow()
        try:
            with self._open() as file:
                schema, n_rows = file.schema_arrow, file.metadata.num_rows
        except (arrow.ArrowException, OSError) as error:
            raise TableError(f"{path} is not a Parquet file: {str(error).partition(chr(10))[0]}") from error
        if not n_rows:
            raise TableError(f"{path} has a header but no rows")
        self.take_names(schema.names)
        if self.repeated:
            raise TableError(f"{path} has more than one column {self.repeated[0]!r}")
        self.types = {field.name: column_type(field.type) for field in schema}

    def _open(self) -> Any:
        import pyarrow.parquet

        return pyarrow.parquet.ParquetFile(self.path, buffer_size=BUFFER, pre_buffer=False)

    def chunks(self, names: Sequence[str]) -> Iterator[Mapping[str, Column]]:
        """Columns of numbers, or of texts."""
        arrow, _ = import_arrow()
        n_rows = max(1, CELLS_AT_ONCE // len(names))
        try:
            with self._open() as file:
                for batch in file.iter_batches(n_rows, columns=list(names), use_threads=False):
                    yield {name: self._column(batch.column(batch.schema.get_field_index(name)), name) for name in names}
        except (arrow.ArrowException, OSError) as error:
            raise TableError(f"cannot read {self.path}: {str(error).partition(chr(10))[0]}") from error

    def _column(self, values: Any, name: str) -> Column:
        arrow, compute = import_arrow()
        if not self.types[name].is_number:
            return TextColumn(values.cast(arrow.string()), frozenset())
        if arrow.types.is_boolean(values.type):
            values = values.cast(arrow.int8())
        numbers = compute.cast(values, arrow.float64(), safe=False).to_numpy(zero_copy_only=False)
        return NumberColumn(np.asarray(numbers, dtype=np.float64))


def column_type(given: Any) -> ColumnType:
    """Return what one of Arrow's types is to us."""
    types = import_arrow()[0].types
    if types.is_dictionary(given):
        return column_type(given.value_type)
    is_number = types.is_integer(given) or types.is_floating(given) or types.is_decimal(given)
    if is_number or types.is_boolean(given):
        return ColumnType(is_number=True)
    if types.is_string(given) or types.is_large_string(given) or types.is_string_view(given):
        return ColumnType(is_number=False)
    if types.is_null(given):
        return ColumnType()
    return ColumnType(refused=str(given))
