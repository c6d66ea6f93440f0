"""A command whose words cannot be one is refused before anything is imported: no such name, or a word out of place."""

from collections.abc import Sequence
from difflib import get_close_matches

from hierlit.cli.misspelt import COMMANDS

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
            return f"options have two dashes, got {word}; write -{word}"
        elif not word.startswith("-"):
            remedy = f"write a list as one word, {option} '[{value},{word}]'" if option else "put its option before it"
            return f"{word} is no option, nor the value of one; {remedy}"
    return ""
