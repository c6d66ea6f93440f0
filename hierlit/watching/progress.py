"""BlockProgress: one bar for the blocks, or one line a block where there is no terminal."""

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hierlit.layerwise.joint import JOINT
from hierlit.layerwise.report import BlockReport
from hierlit.layerwise.solve import NO_GAIN
from hierlit.layerwise.stopping import SOLVED
from hierlit.training.task import LayerwiseTask
from hierlit.watching.levels import level_rows

JOINT_LINES = 10
"""Lines about the epochs of joint training where there is no terminal."""


def outcome(report: BlockReport) -> str:
    """Return how a block ended, unless it was solved and may change all labels."""
    if report.stop_reason == NO_GAIN:
        return ", no gain: each label is at its mean" if report.accepted else ", left out: no gain"
    ended = "" if report.stop_reason in (SOLVED, JOINT) else f", {report.stop_reason}"
    n_labels = len(report.accepted_labels)
    return ended + (f", changed {report.accepted} of {n_labels} labels" if report.accepted < n_labels else "")


def time_left(seconds: float) -> str:
    """Return what there is to say of a time left: minutes and seconds, and hours before them if there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours = f"{minutes // 60}:{minutes % 60:02d}" if minutes >= 60 else f"{minutes}"
    return f", about {hours}:{rest:02d} left" if minutes or rest else ""


class TimeLeft:
    """The time that all blocks to come take at a run's mean so far; a run may stop before.

    Args:
        task: The task as the run starts.
    """

    def __init__(self, task: LayerwiseTask) -> None:
        self.start, self.first_block = time.monotonic(), task.block

    def after(self, task: LayerwiseTask) -> str:
        """Return what there is to say of it after a block."""
        if task.joint is not None and task.block == 1:  # all epochs but one a block are the first block's
            self.start, self.first_block = time.monotonic(), 1
            return ""
        a_block = (time.monotonic() - self.start) / (task.block - self.first_block)
        return time_left(a_block * (len(task.net.blocks) - task.block))

    def of_joint(self, epoch: int, epochs: int) -> str:
        """Return what there is to say of it after a joint epoch."""
        return time_left((time.monotonic() - self.start) / epoch * (epochs - epoch))


class BlockProgress(ProgressBar):
    """Show block k of D − 1, epoch, gradient norm against its tolerance, levels learned, and the time left."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._console = Console()
        self._progress: Progress | None = None
        self._learned = self._left = ""
        self._known: dict[float, float] = {}
        self._time_left: TimeLeft | None = None

    def disable(self) -> None:
        """Show nothing (Lightning calls this on every rank but 0)."""
        self._enabled = False

    def enable(self) -> None:
        """Show progress again."""
        self._enabled = True

    def on_train_start(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """Open the bar."""
        self._time_left = TimeLeft(pl_module)
        if self._enabled and self._console.is_terminal:
            columns = (TextColumn("block"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"))
            self._progress = Progress(*columns, TimeElapsedColumn(), console=self._console)
            self._progress.add_task("", total=len(pl_module.net.blocks), completed=pl_module.block)
            self._progress.start()

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: L.Trainer, pl_module: LayerwiseTask, outputs: Any, batch: int, batch_idx: int
    ) -> None:
        """Move the bar after a pass; where there is no terminal, say how far joint epochs are."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], description=self._line(pl_module))
        elif pl_module.joint is not None and pl_module.block == 0:
            self._say_joint(pl_module, pl_module.joint.epochs)

    def _say_joint(self, task: LayerwiseTask, epochs: int) -> None:
        number = 0 if task.last is None else task.last.state.passes
        is_said = 0 < number < epochs and number % max(1, epochs // JOINT_LINES) == 0
        if self._enabled and self._time_left is not None and is_said:
            left = self._time_left.of_joint(number, epochs)
            self._console.print(f"epoch {number}/{epochs} of all blocks{left}", soft_wrap=True)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """After a block, move the bar and count the levels learned."""
        report = pl_module.report
        if not self._enabled or report is None or self._time_left is None:
            return
        left = self._time_left.after(pl_module)
        self._learned, self._left = self._count(pl_module), "" if report.is_last else left
        line = self._line(pl_module)
        if self._progress is None:
            done = f"block {pl_module.block}/{len(pl_module.net.blocks)}"
            self._console.print(f"{done}: {line}, {report.seconds:.1f} s{outcome(report)}", soft_wrap=True)
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], description=line, completed=pl_module.block)

    def _line(self, task: LayerwiseTask) -> str:
        norm = ""
        if task.progress:
            norm = f", gradient {task.progress['gradient_norm']:.2g} / {task.progress['gradient_tolerance']:.2g}"
        passes = task.report.epochs if task.report is not None else task.last.state.passes if task.last else 0
        folds = f", {len(task.last.by_fold)} folds" if task.last and task.last.by_fold else ""
        return f"epoch {passes}{norm}{folds}{self._learned}{self._left}"

    def _count(self, task: LayerwiseTask) -> str:
        if "val" not in task.results:
            return ""
        rows = level_rows(task.results["val"], task.levels, task.learned_accuracy)
        least = {row["level"]: row["accuracy"] for row in rows if row["learned"] == row["n_labels"]}
        accuracy = {row["level"]: row["accuracy"] for row in rows}
        lost = [f"{level:.0f} ({accuracy[level]:.4f})" for level in self._known if level not in least]
        self._known = least
        said = f", lost again: level {', '.join(lost)}" if lost and task.levels else ""
        return f", learned {len(least)}/{len(rows)} levels{said}" if task.levels else ""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Close the bar."""
        self._close()

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
