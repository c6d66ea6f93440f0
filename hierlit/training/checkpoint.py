"""BlockCheckpoint: nothing is lost when a run ends early, however it ends."""

import signal
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint

from hierlit.files.atomic import remove, reserve
from hierlit.models.checks import raise_problems
from hierlit.training.pace import SHARE, Pace, share_problems
from hierlit.training.signals import DeferredSignals, preempted
from hierlit.training.task import LayerwiseTask

BALLAST = ".next.ckpt.part"
"""Disk space for the next checkpoint."""
SPARE = 16
"""Weights of a block that a checkpoint within it may hold beyond one between blocks: iterates, optimizer state."""
SECONDS_BETWEEN_TALKS = 1.0
"""Processes ask one another about this often whether one of them is to stop."""


class BlockCheckpoint(Checkpoint):
    """Save the run when it starts, after blocks, every few minutes within one, and when it ends or is made to stop.

    A block that is over is saved at once if the last checkpoint lies back so far that saving takes no more than `share`
    of the time: what a killed run has to repeat is the block under way, and 1/`share` times as long as saving takes. On
    SIGTERM all processes save the run together after the pass under way and exit with code 143; SLURM's requeue
    signal is handled after it too. Every checkpoint resumes to the bit where the run was. Files are
    `checkpoints/block=K-epoch=E.ckpt` in the run's log folder: K blocks are trained, and E passes of the next are done.

    Args:
        every_minutes: Minutes between checkpoints within a block; no more than one a block when None.
        keep: Newest checkpoints to keep; with two or more, a damaged one does not end the run.
        share: Share of the time that saving after blocks may take, in (0, 1]; 1 saves after each block.

    Raises:
        ValueError: One line for each argument out of range.
    """

    def __init__(self, every_minutes: float | None = 10.0, keep: int = 2, share: float = SHARE) -> None:
        problems = share_problems(share)
        if every_minutes is not None and not every_minutes > 0:
            problems.append(f"every_minutes must be positive or null, got {every_minutes}")
        if keep < 1:
            problems.append(f"keep must be a positive integer, got {keep}")
        raise_problems(problems)
        self.every_minutes, self.keep = every_minutes, keep
        self.folder = Path("checkpoints")
        self.signals, self.pace = DeferredSignals(), Pace(share)
        self._saved_at = self._talked_at = time.monotonic()
        self._passes, self._passes_left, self._saved_blocks = 0, 0, 0
        self._saved: list[str] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the run's own checkpoints."""
        return {"saved": list(self._saved)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self._saved = state_dict["saved"]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Settle the folder, and note signals that come while a fit is under way."""
        self.folder = Path(trainer.log_dir or trainer.default_root_dir) / "checkpoints"
        if stage == "fit":
            self.signals.listen(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """Save at once, so that the newest checkpoint is this run's; remove what a killed one left half written."""
        self._saved_at = self._talked_at = time.monotonic()
        self._passes, self._passes_left, self._saved_blocks = 0, 0, pl_module.block
        for part in self.folder.glob("*.ckpt.part") if trainer.is_global_zero else ():
            remove(part)
        if not trainer.should_stop:
            self.save(trainer, pl_module)

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: L.Trainer, pl_module: LayerwiseTask, outputs: Any, batch: int, batch_idx: int
    ) -> None:
        """Save if the time has come; if one of the processes is to stop, save and stop."""
        self._passes, self._passes_left = self._passes + 1, self._passes_left - 1
        if self._passes_left > 0 or pl_module.report is not None:  # a block just frozen is not in the tables yet
            return
        signum, is_late = self._talk(trainer)
        if signum == signal.SIGTERM:
            path = self.save(trainer, pl_module)
            if trainer.is_global_zero:
                print(f"stopped by SIGTERM, saved as {path}: `--ckpt_path last` resumes there", flush=True)
            raise preempted(trainer)
        if signum:
            self.signals.requeue(trainer, signum)
        elif is_late:
            self.save(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """Save a block that is finished, if it is the last, or if it is time."""
        if pl_module.block > self._saved_blocks and (is_last_epoch(trainer) or self._is_due(trainer)):
            self.save(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """Save a block that a limit on epochs or time cut short."""
        if pl_module.last is not None or pl_module.block > self._saved_blocks:
            self.save(trainer, pl_module)
        if trainer.is_global_zero:
            remove(self.folder / BALLAST)

    def on_exception(self, trainer: L.Trainer, pl_module: LayerwiseTask, exception: BaseException) -> None:  # type: ignore[override]
        """Save a block that was finished and reported just before; the other processes may be gone."""
        if trainer.state.fn == "fit" and trainer.is_global_zero:
            remove(self.folder / BALLAST)
            report = pl_module.report
            if report is not None and report.is_logged and pl_module.block > self._saved_blocks:
                path = self._path(trainer, pl_module)
                trainer.strategy.save_checkpoint(trainer._checkpoint_connector.dump_checkpoint(False), path)

    def save(self, trainer: L.Trainer, task: LayerwiseTask) -> Path:
        """Save the run, on all processes, and remove the oldest of its checkpoints.

        Disk space for the next checkpoint is taken at once: a full disk is met while all that is done is saved.

        Raises:
            OSError: One line, if the checkpoint or the space for the next cannot be written.
        """
        path = self._path(trainer, task)
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return path
        self._saved = [*(name for name in self._saved if name != path.name), path.name]
        with self.pace.work():
            if trainer.is_global_zero:
                remove(self.folder / BALLAST)
            trainer.save_checkpoint(path, weights_only=False)
            self._saved_at, self._saved_blocks = time.monotonic(), task.block
            if trainer.is_global_zero:
                for name in self._saved[: -self.keep]:
                    remove(self.folder / name)
                weight = task.net.block(min(task.block, len(task.net.blocks) - 1)).weight
                reserve(self.folder / BALLAST, path.stat().st_size + SPARE * weight.nbytes)
            del self._saved[: -self.keep]
        return path

    def _path(self, trainer: L.Trainer, task: LayerwiseTask) -> Path:
        passes = 0 if task.last is None else task.last.state.passes
        return self.folder / f"block={task.block:03d}-epoch={passes:05d}.ckpt"

    def _is_due(self, trainer: L.Trainer) -> bool:
        """Return whether all processes find it time to save a block."""
        is_due = torch.tensor(float(self.pace.is_due))
        if trainer.world_size > 1:
            is_due = trainer.strategy.reduce(is_due.to(trainer.strategy.root_device), reduce_op="min")
        return bool(is_due)

    def _talk(self, trainer: L.Trainer) -> tuple[int, bool]:
        """Return what all processes agree on: a signal that one of them got, and whether it is time to save."""
        now = time.monotonic()
        seconds, self._talked_at = (now - self._talked_at) / self._passes, now
        is_late = self.every_minutes is not None and now - self._saved_at > 60 * self.every_minutes
        wishes = torch.tensor([float(self.signals.noted), float(is_late), seconds], dtype=torch.float64)
        if trainer.world_size > 1:
            wishes = trainer.strategy.reduce(wishes.to(trainer.strategy.root_device), reduce_op="max")
        signum, late, seconds = wishes.tolist()
        self._passes = 0
        self._passes_left = 1 if trainer.world_size == 1 else max(1, int(SECONDS_BETWEEN_TALKS / max(seconds, 1e-6)))
        return int(signum), bool(late)


def is_last_epoch(trainer: L.Trainer) -> bool:
    """Return whether no epoch follows the one that is over: none is needed, or a limit is reached."""
    limits = ((trainer.max_epochs, trainer.current_epoch + 1), (trainer.max_steps, trainer.global_step))
    return trainer.should_stop or any(limit is not None and 0 <= limit <= number for limit, number in limits)
