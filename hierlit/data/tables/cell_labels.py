"""Labels of one cell: separated, or written as a list."""

import ast
import re
from collections.abc import Sequence

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


def split_paths(text: str, separator: str) -> list[str]:
    """Return the paths of a cell; of one that is a list as Python or JSON writes it, that list's.

    Raises:
        ValueError: If one is empty, or the list is written otherwise.
    """
    if LIST.fullmatch(text):
        try:
            labels = ast.literal_eval(text)
            if TWO_TEXTS.search(text) or isinstance(labels, dict) or not all(isinstance(each, str) for each in labels):
                raise ValueError
        except (ValueError, SyntaxError) as error:
            rule = f"labels must be separated by {separator!r}, or a list of texts as in ['a', 'b']"
            raise ValueError(f"{rule}, got {text!r}") from error
        labels = [label.strip() for label in labels]
    else:
        labels = [label.strip() for label in text.split(separator)]
        if not labels[-1] and len(labels) > 1:  # a separator may follow the last
            labels.pop()
    if not all(labels):
        raise ValueError(f"labels must not be empty, got {text!r}")
    return labels
