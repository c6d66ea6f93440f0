"""Pace: how often a run does what can wait."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SHARE = 0.02
"""Share of a run's time that work which can wait may take."""


class Pace:
    """Say when work that can wait is due: once, done again, it would take no more than a share of the time since then.

    Args:
        share: Share of the time, in (0, 1]; where it is 1, the work is due at any moment.
        seconds: What the work is taken to need as long as it has not been done.
        clock: Tells the seconds.
    """

    def __init__(self, share: float = SHARE, seconds: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.share, self.seconds, self.clock = share, seconds, clock
        self.start()

    def start(self) -> None:
        """Count the time from now on."""
        self._since = self.clock()

    @property
    def is_due(self) -> bool:
        """Whether it is time to do the work again."""
        return self.share * (self.clock() - self._since + self.seconds) >= self.seconds

    @contextmanager
    def work(self) -> Iterator[None]:
        """Do the work inside, and count from its end; what it takes is what it is taken to need the next time."""
        start = self.clock()
        yield
        self._since = self.clock()
        self.seconds = self._since - start


def share_problems(share: float) -> list[str]:
    """Return what is wrong with a `Pace`'s share as an argument, in one line; nothing if it is in range."""
    return [] if 0 < share <= 1 else [f"share must be in (0, 1], got {share}"]
