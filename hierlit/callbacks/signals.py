"""Signals kept for a moment at which the run can be saved."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import lightning as L

Handler = Callable[[int, FrameType | None], Any]


class DeferredSignals:
    """Takes the place of Lightning's signal handlers, which act at once, between any two lines of Python.

    SIGTERM is noted. Others that Lightning handles, such as SLURM's request to save and requeue, are noted too, and
    Lightning's handler is called when the run asks for it. The trainer restores all handlers when it ends.
    """

    def __init__(self) -> None:
        self._noted = 0
        self._handlers: dict[int, Handler] = {}

    def listen(self) -> None:
        """Starts to note signals; does nothing outside the main thread, where Python has none."""
        self._noted = 0
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in signal.valid_signals():
            handler = signal.getsignal(signum)
            if callable(handler) and type(handler).__module__.startswith("lightning."):
                self._handlers[signum] = handler
                signal.signal(signum, self._note)

    def received(self, trainer: L.Trainer) -> int:
        """The signal noted and not yet handled, SIGTERM before all others, or 0."""
        return signal.SIGTERM if trainer.received_sigterm else self._noted

    def handle(self, signum: int) -> None:
        """Calls Lightning's handler of a signal that this process, or another, has noted."""
        self._noted = 0
        if signum in self._handlers:
            self._handlers[signum](signum, None)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self._noted != signal.SIGTERM:
            self._noted = signum
