"""Labels of one cell: separated, or written as a list."""

import ast
import re
from collections.abc import Sequence
from typing import Any

from hierlit.data.tables.csv_file import SEPARATORS

LIST = re.compile(r"""\[.*\]|\(['"].*\)|\{['"].*\}""", re.S)
TWO_TEXTS = re.compile(r"""['"]\s+['"]""")


def hidden_separator(found: Sequence[str]) -> tuple[str, str] | None:
    """Return a text and what may separate labels in it; None unless that leaves no more labels than there are texts."""
    for mark in (*SEPARATORS, " "):
        split = [text for text in found if mark in text]
        parts = {part.strip() for text in found for part in text.split(mark)}
        is_label = mark != " " or not parts.isdisjoint(found)  # words have blanks between them
        if split and is_label and len(parts) <= len(found):
            return split[0], mark
    return None


def split_paths(cell: str | tuple[Any, ...], separator: str) -> list[str]:
    """Return the paths of a cell: a list, one that is written as Python or JSON writes it, or separated.

    Raises:
        ValueError: If one is empty, or the list is written otherwise.
    """
    found: Any = cell
    got = repr(cell if isinstance(cell, str) else list(cell))
    if isinstance(cell, str) and not LIST.fullmatch(cell):
        found = cell.split(separator)
        if not found[-1].strip() and len(found) > 1:  # a separator may follow the last
            found.pop()
    elif isinstance(cell, str):
        try:
            found = None if TWO_TEXTS.search(cell) else ast.literal_eval(cell)  # which makes one of two in a row
        except (ValueError, SyntaxError):
            found = None
    if not isinstance(found, list | tuple | set) or not all(isinstance(each, str) for each in found):
        rule = f"labels must be separated by {separator!r}, or a list of texts as in ['a', 'b']"
        raise ValueError(f"{rule}, got {got}")
    labels = [label.strip() for label in found]
    if not all(labels):
        raise ValueError(f"labels must not be empty, got {got}")
    return labels
