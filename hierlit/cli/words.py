"""The words of a command: their order, packaged configs by name, and what can be typed."""

import sys
from collections.abc import Sequence
from pathlib import Path

CONFIGS = Path(__file__).parents[1] / "configs"
"""Configs that come with the package, each by its name without `.yaml`."""
FILE_OPTIONS = ("--config", "-c")


def program() -> str:
    """Return how this program was called."""
    return "hierlit" if Path(sys.argv[0]).name in ("hierlit", "hierlit.exe") else "python -m hierlit"


def files_first(words: Sequence[str]) -> list[str]:
    """Return a command with its config files before its other options, which so hold wherever they stand.

    The name of a packaged config stands for its file, unless there is a file of that name.

    Args:
        words: The subcommand and its arguments.
    """
    files: list[str] = []
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        option, is_whole, value = word.partition("=")
        if option not in FILE_OPTIONS or not others:  # before the subcommand they are of no section
            others.append(word)
        elif is_whole:
            files += ["--config", packaged(value)]
        else:
            found = next(rest, None)
            files += ["--config"] if found is None else ["--config", packaged(found)]
    return [*others[:1], *files, *others[1:]]


def packaged(name: str) -> str:
    """Return the file of a packaged config's name; the name itself where there is none, or a file of that name."""
    found = CONFIGS / f"{name}.yaml"
    return str(found) if found.is_file() and not Path(name).exists() else name
