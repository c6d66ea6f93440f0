"""Checks of a table's arguments and of its files' columns: each gives the lines that say what is wrong."""

import codecs
from collections.abc import Mapping, Sequence

from hierlit.data.tables.roles import ColumnRoles, listed
from hierlit.data.tables.table_file import TableFile


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
    except LookupError:
        return False


def column_problems(roles: ColumnRoles, files: Mapping[str, Sequence[TableFile]]) -> list[str]:
    """Say which columns of the first file to train on other files lack, or hold other things in."""
    first, *rest = files["train"]
    problems = [problem for file in rest for problem in roles.disagreements(file, first)]
    for split in ("val", "test", "predict"):
        problems += [problem for file in files[split] for problem in roles.missing(file, split != "predict")]
    return problems


def column_warnings(roles: ColumnRoles, takes_all: bool, files: Mapping[str, Sequence[TableFile]]) -> list[str]:
    """Say which columns are left out, or numbered, without having been named.

    Args:
        roles: What the columns are.
        takes_all: Whether all columns are inputs that are nothing else.
        files: Of each split.
    """
    first = files["train"][0]
    warnings = []
    if takes_all and first.nameless:
        warnings.append(f"{first.path}: columns without a name are left out: {listed(first.nameless)}")
    if repeated := [name for name in roles.features if name in first.repeated]:
        warnings.append(f"{first.path}: columns of the same name are numbered: {listed(repeated)}")
    for file in (*files["val"], *files["test"], *files["predict"]) if takes_all else ():
        if others := [name for name in roles.others(file, first) if name != file.path_column]:
            warnings.append(f"{file.path}: columns that {first.path} has not are left out: {listed(others)}")
    return warnings
