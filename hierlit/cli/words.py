"""The words of a command: their order, packaged configs by name, and what can be typed."""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from itertools import islice, pairwise
from pathlib import Path

import yaml

from hierlit.cli.misspelt import SOURCES

CONFIGS = Path(__file__).parents[1] / "configs"
"""Configs that come with the package, each by its name without `.yaml`."""
FILE_OPTIONS = ("--config", "-c")


def program() -> str:
    """Return how this program was called."""
    return "hierlit" if Path(sys.argv[0]).name in ("hierlit", "hierlit.exe") else "python -m hierlit"


def files_first(words: Sequence[str]) -> list[str]:
    """Return a command with its config files, and then its data's class, before its other options.

    These so hold wherever they stand, and arguments of the data are those of its class. The name of a packaged config
    stands for its file, unless there is a file of that name.

    Args:
        words: The subcommand, the name of what it does if it has one, and options.
    """
    start = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    if start == 0:  # before the subcommand they are of no section
        return list(words)
    files: list[str] = []
    data: list[str] = []
    others: list[str] = []
    rest = iter(words[start:])
    for word in rest:
        option, is_whole, value = word.partition("=")
        if option == "--data":
            data += [word] if is_whole else [word, *islice(rest, 1)]
        elif option not in FILE_OPTIONS:
            others.append(word)
        elif is_whole:
            files += ["--config", packaged(value)]
        else:
            found = next(rest, None)
            files += ["--config"] if found is None else ["--config", packaged(found)]
    return [*words[:start], *files, *data, *others]


def packaged(name: str) -> str:
    """Return the file of a packaged config's name; the name itself where there is none, or a file of that name."""
    found = CONFIGS / f"{name}.yaml"
    return str(found) if found.is_file() and not Path(name).exists() else name


def packaged_names() -> list[str]:
    """Names of the configs that come with the package."""
    return sorted(file.stem for file in CONFIGS.glob("*.yaml"))


def broken_config(words: Sequence[str]) -> str:
    """Return the line about the first config file that cannot be one; nothing where all may be right.

    Args:
        words: A command as `files_first` returns it.
    """
    files = [name for option, name in pairwise(words) if option == "--config" and not name.startswith("-")]
    return next((line for name in files if ":" not in name and (line := config_problem(name))), "")  # no URL, no YAML


def config_problem(name: str) -> str:
    """Return why a file is no config; nothing where it may be one."""
    path = Path(name).expanduser()
    if not path.is_file():
        near = get_close_matches(path.stem, packaged_names(), n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        return f"config: there is no file {name}; {meant}those that come with hierlit are {', '.join(packaged_names())}"
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        return f"config: {name}{where} is not YAML: {getattr(error, 'problem', '') or error}"
    if not isinstance(found, dict):
        return f"config: {name} is not a config, which has sections such as data and model"
    empty = [section for section in ("data", *SOURCES, "trainer") if section in found and found[section] is None]
    return f"config: {name} has nothing in its section {empty[0]}; take the line out, or fill it" if empty else ""
