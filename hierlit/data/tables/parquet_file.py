"""Parquet files, read a batch of rows at a time."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hierlit.data.tables.cells import require
from hierlit.data.tables.table_file import Reading, TableError, TableFile, first_line, read_error, rows_at_once

if TYPE_CHECKING:
    from pandas import DataFrame

BUFFER = 2**16
"""Bytes of a column that are read at once: a row group may be as large as the file."""
INDEX = re.compile(r"__index_level_\d+__")
"""The column that pandas makes of an index without a name."""


class ParquetFile(TableFile):
    """A Parquet file, whose types say which columns are numbers.

    Args:
        path: The file.
        reading: Not used: Parquet has nulls and types of its own; a text of nothing but blanks is missing too. Lists of
            texts are given as tuples.
    """

    def __init__(self, path: Path, reading: Reading) -> None:
        super().__init__(path)
        require("pandas", "pyarrow")
        import pyarrow
        from pyarrow import types

        try:
            with self._open() as file:
                schema = file.schema_arrow
        except (pyarrow.ArrowException, OSError) as error:
            raise TableError(f"{path} is not a Parquet file: {first_line(error)}") from error
        self.take_typed_names(schema.names, reading, "null")
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        self.nameless += [name for name in self.names if INDEX.fullmatch(name) or name in index]
        for field in schema:
            kind = without_dictionary(field.type)
            if is_text(kind):
                self.is_number[field.name] = False
                if kind == field.type:
                    self.texts.append(field.name)
            elif types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind):
                self.is_number[field.name] = True
            elif not types.is_null(kind):
                self.refused[field.name] = str(field.type)
                if (types.is_list(kind) or types.is_large_list(kind)) and is_text(without_dictionary(kind.value_type)):
                    self.lists.append(field.name)

    def _open(self) -> Any:
        from pyarrow import parquet

        return parquet.ParquetFile(self.path, buffer_size=BUFFER, pre_buffer=False)

    def frames(self, names: Sequence[str], numeric: Collection[str]) -> Iterator[DataFrame]:
        """Yield numbers and texts as they are stored."""
        import pyarrow
        from pyarrow import compute

        try:
            with self._open() as file:
                for batch in file.iter_batches(rows_at_once(len(names)), columns=list(names), use_threads=False):
                    frame = batch.to_pandas(ignore_metadata=True, integer_object_nulls=True)[list(names)]
                    for name in names:
                        if name in self.lists:
                            frame[name] = [None if own is None else tuple(own) for own in frame[name]]
                        elif self.is_number.get(name) is False and len(texts := batch[name].unique().drop_null()):
                            own = compute.utf8_trim_whitespace(texts.cast(pyarrow.string()))
                            blank = texts.filter(compute.equal(own, ""))
                            if len(blank):
                                is_blank = frame[name].isin(blank.to_pylist())
                                self.blanks[name] += int(is_blank.sum())
                                frame[name] = frame[name].mask(is_blank, None)
                    yield frame
        except (pyarrow.ArrowException, OSError) as error:
            raise read_error(self.path, error) from error


def without_dictionary(kind: Any) -> Any:
    """Return a type of Arrow's, or that of the values of a dictionary."""
    from pyarrow import types

    return kind.value_type if types.is_dictionary(kind) else kind


def is_text(kind: Any) -> bool:
    """Return whether a type of Arrow's is one of texts."""
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))
