"""Checks of arguments: each gives the lines that say what is wrong."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

NAMED = 10
"""Names that a message lists before it counts the rest."""


def is_count(value: object) -> bool:
    """Return whether a value is a positive integer."""
    return not at_least(1, value=value)


def at_least(minimum: int, **arguments: Any) -> list[str]:
    """Name the arguments that are not integers of at least ``minimum``."""
    return [
        f"{name} must be an integer >= {minimum}, got {value!r}"
        for name, value in arguments.items()
        if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < minimum
    ]


def integers(low: int, high: int, **arguments: Any) -> list[str]:
    """Name the arguments that are not integers from ``low`` to ``high``."""
    return [
        f"{name} must be an integer in {low}..{high}, got {value!r}"
        for name, value in arguments.items()
        if at_least(low, **{name: value}) or value > high
    ]


def one_of(choices: Sequence[str | None], **arguments: Any) -> list[str]:
    """Name the arguments that are none of some choices."""
    valid = ", ".join(each or "null" for each in choices)
    return [
        f"{name} must be one of {valid}, got {value!r}" for name, value in arguments.items() if value not in choices
    ]


def within(name: str, value: Any, interval: str) -> list[str]:
    """Say whether a number is outside an interval, written as in "[0, 1)"."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    inside = isinstance(value, Real) and low <= float(value) <= high
    if inside and not (value == low and interval[0] == "(") and not (value == high and interval[-1] == ")"):
        return []
    return [f"{name} must be a number in {interval}, got {value!r}"]


def listed(names: Sequence[str], most: int = NAMED) -> str:
    """Return the first of some names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def raise_problems(problems: Sequence[str]) -> None:
    """Raise one ValueError that names all problems, if there are any."""
    if problems:
        raise ValueError("; ".join(problems))
