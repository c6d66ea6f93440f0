"""A command whose words cannot be one is refused before anything is imported: no such name, or a word out of place."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from hierlit.cli.misspelt import COMMANDS
from hierlit.cli.words import FILE_OPTIONS

HELP = ("-h", "--help", "--version")
"""What may stand in place of a command."""
ONE_WORD_EACH = (*COMMANDS, "sweep", "compare")
"""Commands all of whose options have a value of one word, and that have nothing but options."""


def misordered(words: Sequence[str], names: Sequence[str]) -> str:
    """Return the line about a word that is out of place; nothing where all may be right.

    Args:
        words: A command.
        names: Of all commands.
    """
    name, *rest = words
    if name in HELP:
        return ""
    if name.startswith("-"):
        option, is_whole, file = name.partition("=")
        file = file if is_whole else "".join(rest[:1])
        if option in FILE_OPTIONS and Path(file).is_file():  # of commands, as LightningCLI takes it
            return ""
        return f"the command comes before its options, got {name} first; commands are {', '.join(names)}"
    if name not in names:
        near = get_close_matches(name.lower(), names, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"valid are {', '.join(names)}"
        return f"there is no command {name}; {remedy}"
    return stray(rest) if name in ONE_WORD_EACH else ""


def stray(words: Sequence[str]) -> str:
    """Return the line about a word that is neither an option nor the value of one; nothing if there is none."""
    option = value = ""
    for word in words:
        if word.startswith("--"):
            option, _, value = word.partition("=")
        elif option and not value:
            value = word
        elif word.startswith("-") and len(word) > len("-h"):
            meant = f"-c {word[2:]}" if word.startswith("-c") and word != "-config" else f"-{word}"
            return f"options have two dashes, got {word}; write {meant}"
        elif not word.startswith("-"):
            return f"unexpected argument {word}; {remedy(option, value, word)}"
    return ""


def remedy(option: str, value: str, word: str) -> str:
    """Return what may have been meant by a word after an option and its value, or before any option."""
    if option.startswith("--data."):
        items = [item.strip(",") for item in (value.lstrip("["), word.rstrip("]"))]
        return f"write a list as one word, {option} '[{','.join(items)}]'"
    if "." in word and not option.endswith(word):
        return "name files by an option, such as --data.train_files or --data.predict_files"
    return "put its option before it"
