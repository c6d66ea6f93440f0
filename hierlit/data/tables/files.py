"""Opening tables: which suffixes there are, and what is wrong with a list of paths."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hierlit.data.tables.arff import ArffFile
from hierlit.data.tables.csv_file import CsvFile
from hierlit.data.tables.npz_file import NpzFile
from hierlit.data.tables.parquet_file import ParquetFile
from hierlit.data.tables.rows import Reading, TableError, TableFile
from hierlit.data.tables.text import GZIP

FORMATS: dict[str, Callable[[Path, Reading], TableFile]] = {
    ".csv": CsvFile,
    ".tsv": CsvFile,
    ".arff": ArffFile,
    ".parquet": ParquetFile,
    ".npz": NpzFile,
}
COMPRESSED = (CsvFile, ArffFile)
SUFFIXES = ", ".join([*FORMATS, *(suffix + GZIP for suffix, kind in FORMATS.items() if kind in COMPRESSED)])

Names = Sequence[str] | str | None


def as_names(given: Names) -> list[str]:
    """Return the names of an argument that may be one, several or None."""
    return [] if given is None else [given] if isinstance(given, str) else list(given)


def open_tables(given: Mapping[str, Names], reading: Reading) -> tuple[dict[str, list[TableFile]], list[str]]:
    """Open the files of splits, reading their headers.

    Args:
        given: The paths of each split.
        reading: How they are read.

    Returns:
        For each split those that can be opened, and one line for each that cannot.

    Raises:
        ImportError: If pyarrow is needed and not installed.
    """
    files: dict[str, list[TableFile]] = {}
    problems = []
    for split, names in given.items():
        paths, files[split] = [Path(name) for name in as_names(names)], []
        problems += [f"{split}_files must not name a file twice, got {path}" for path in repeated(paths)]
        for path in paths:
            try:
                files[split].append(open_table(path, reading))
            except TableError as error:
                problems.append(f"{split}_files: {error}")
    return files, problems


def open_table(path: Path, reading: Reading) -> TableFile:
    """Open a file, reading its header.

    Raises:
        TableError: If it cannot be opened.
    """
    if problem := path_problem(path):
        raise TableError(problem)
    return FORMATS[path.with_suffix("").suffix if path.suffix == GZIP else path.suffix](path, reading)


def repeated(paths: Sequence[Path]) -> list[Path]:
    """Return the paths that occur more than once."""
    return sorted({path for path in paths if paths.count(path) > 1})


def path_problem(path: Path) -> str:
    """Return what is wrong with a path before its file is opened; or nothing."""
    if path.is_dir():
        return f"{path} is a directory"
    if not path.exists():
        return f"no such file: {path}"
    suffix = path.with_suffix("").suffix if path.suffix == GZIP else path.suffix
    if suffix not in FORMATS or (path.suffix == GZIP and FORMATS[suffix] not in COMPRESSED):
        return f"the suffix must be one of {SUFFIXES}, got {path}"
    return "" if path.stat().st_size else f"{path} is empty"
