"""`describe`: what the paper says of a hierarchy."""

from dataclasses import dataclass
from typing import Any


@dataclass
class DescribeOptions:
    x: int = 0


class Description:
    @classmethod
    def of(cls, run: Any, options: Any) -> "Description":
        return cls()


def print_description(d: Any) -> None:
    pass
