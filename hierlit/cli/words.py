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
        words: The subcommand, the name of what it does if it has one, and options.
    """
    start = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    if start == 0:  # before the subcommand they are of no section
        return list(words)
    files: list[str] = []
    others: list[str] = []
    rest = iter(words[start:])
    for word in rest:
        option, is_whole, value = word.partition("=")
        if option not in FILE_OPTIONS:
            others.append(word)
        elif is_whole:
            files += ["--config", packaged(value)]
        else:
            found = next(rest, None)
            files += ["--config"] if found is None else ["--config", packaged(found)]
    return [*words[:start], *files, *others]


def packaged(name: str) -> str:
    """Return the file of a packaged config's name; the name itself where there is none, or a file of that name."""
    found = CONFIGS / f"{name}.yaml"
    return str(found) if found.is_file() and not Path(name).exists() else name
