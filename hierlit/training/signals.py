"""What ends a run: a signal, at once or at a moment at which the run can be saved, and the loss of its parent."""

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.utilities.exceptions import SIGTERMException

PREEMPTED = 143
"""Exit code of a run that SIGTERM ended: 128 + SIGTERM."""


def end_on_sigterm(trainer: L.Trainer) -> None:
    """Let SIGTERM end a run at once with code 143.

    Lightning's own handler ends with code 0, and talks to the other processes between any two lines of Python.
    """

    def end(signum: int, frame: FrameType | None) -> None:
        raise preempted(trainer)

    connector: Any = trainer._signal_connector
    connector._sigterm_notifier_fn = end


def preempted(trainer: L.Trainer) -> SIGTERMException:
    """Return what ends this process with code 143; with 0 if rank 0 launched it, since Lightning would kill rank 0."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    is_child = trainer.local_rank > 0 and environment is not None and not environment.creates_processes_externally
    return SIGTERMException(0 if is_child else PREEMPTED)


def watch_parent(message: str = "", seconds: float = 1.0) -> None:
    """End this process once its parent is gone, with a message to standard error."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(seconds)
        os.write(2, message.encode())
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()


class DeferredSignals:
    """Note SIGTERM and SLURM's request to save and requeue, instead of acting at once.

    Attributes:
        noted: The signal noted and not yet handled, SIGTERM before the other; 0 if there is none.
    """

    def __init__(self) -> None:
        self.noted = 0

    def listen(self, trainer: L.Trainer) -> None:
        """Let a trainer note these signals from the moment it listens to any, until it restores their handlers."""
        self.noted = 0
        connector: Any = trainer._signal_connector
        connector._sigterm_notifier_fn = connector._slurm_sigusr_handler_fn = self._note

    def requeue(self, trainer: L.Trainer, signum: int) -> None:
        """Save the run and requeue its job, Lightning's way, as this process or another was asked to."""
        self.noted = 0
        connector: Any = trainer._signal_connector
        type(connector)._slurm_sigusr_handler_fn(connector, signum, None)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.noted != signal.SIGTERM:
            self.noted = signum
