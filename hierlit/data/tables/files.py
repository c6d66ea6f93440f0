"""Opening tables: which suffixes there are, and what is wrong with a list of paths or with how they are read."""

import codecs
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from fsspec.utils import infer_compression

from hierlit.data.tables.arff import ArffFile
from hierlit.data.tables.csv_file import CsvFile
from hierlit.data.tables.npz_file import NpzFile
from hierlit.data.tables.parquet_file import ParquetFile
from hierlit.data.tables.roles import Names, as_names
from hierlit.data.tables.table_file import Reading, TableError, TableFile

File = TypeVar("File")
FORMATS: dict[str, Callable[[Path, Reading], TableFile]] = {
    ".csv": CsvFile,
    ".tsv": CsvFile,
    ".arff": ArffFile,
    ".parquet": ParquetFile,
    ".npz": NpzFile,
}
OTHERS = {".pq": ".parquet", ".parq": ".parquet"}
COMPRESSED = (CsvFile, ArffFile)
SUFFIXES = ", ".join([*FORMATS, *(f"{suffix}.gz" for suffix, kind in FORMATS.items() if kind in COMPRESSED)])


def open_each(
    given: Mapping[str, Names], open_file: Callable[[Path, str], File]
) -> tuple[dict[str, list[File]], list[str]]:
    """Open the files of splits.

    Args:
        given: The paths of each split.
        open_file: Opens a path for a split.

    Returns:
        For each split those that can be opened, and one line for each that cannot.
    """
    files: dict[str, list[File]] = {}
    problems = []
    for split, names in given.items():
        if hasattr(names, "columns") or isinstance(names, bytes):
            problems.append(f"{split}_files must be paths of files, got a {type(names).__name__}")
            names = None
        paths, files[split] = [Path(name).expanduser() for name in as_names(names)], []
        twice = sorted({path for path in paths if paths.count(path) > 1})
        problems += [f"{split}_files must not name a file twice, got {path}" for path in twice]
        for path in paths:
            try:
                if not path.exists():
                    raise TableError(f"no such file: {path}")
                files[split].append(open_file(path, split))
            except TableError as error:
                problems.append(f"{split}_files: {error}")
    return files, problems


def open_table(path: Path, reading: Reading) -> TableFile:
    """Open a file, reading its header.

    Raises:
        TableError: If it cannot be opened.
        ImportError: If pandas or pyarrow is needed and not installed.
    """
    is_compressed = infer_compression(str(path)) is not None
    suffix = (path.with_suffix("") if is_compressed else path).suffix.lower()
    suffix = OTHERS.get(suffix, suffix)
    if path.is_dir():
        raise TableError(f"{path} is a directory")
    if suffix not in FORMATS or (is_compressed and FORMATS[suffix] not in COMPRESSED):
        raise TableError(f"the suffix must be one of {SUFFIXES}, got {path}")
    if not path.stat().st_size:
        raise TableError(f"{path} is empty")
    return FORMATS[suffix](path, reading)


def text_problems(separator: str | None, path_separator: str, encoding: str) -> list[str]:
    """Say what is wrong with the arguments about text."""
    problems = []
    if separator is not None and (len(separator) != 1 or not separator.isascii() or separator in '"\r\n'):
        problems.append(f"separator must be one character, got {separator!r}")
    if not path_separator or "/" in path_separator:
        problems.append(f"path_separator must be a text without a slash, got {path_separator!r}")
    if not is_encoding(encoding):
        problems.append(f"encoding must be one that Python knows, such as utf-8 or latin-1, got {encoding!r}")
    return problems


def is_encoding(name: str) -> bool:
    """Return whether Python knows an encoding."""
    try:
        return bool(codecs.lookup(name))
    except (LookupError, TypeError):
        return False
