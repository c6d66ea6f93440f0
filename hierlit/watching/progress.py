"""BlockProgress: one bar for the blocks, or one line a block where there is no terminal."""

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hierlit.training.task import LayerwiseTask
from hierlit.watching.levels import level_rows


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
        minutes, seconds = divmod(round(a_block * (len(task.net.blocks) - task.block)), 60)
        return f", about {minutes}:{seconds:02d} left" if minutes or seconds else ""


class BlockProgress(ProgressBar):
    """Show block k of D − 1, epoch, gradient norm against its tolerance, levels learned, and the time left."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._console = Console()
        self._progress: Progress | None = None
        self._learned = self._left = ""
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
        """Move the bar after a pass."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], description=self._line(pl_module))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """After a block, move the bar and count the levels learned."""
        report = pl_module.report
        if not self._enabled or report is None or self._time_left is None:
            return
        self._learned, self._left = self._count(pl_module), self._time_left.after(pl_module)
        line = self._line(pl_module)
        if self._progress is None:
            done = f"block {pl_module.block}/{len(pl_module.net.blocks)}"
            self._console.print(f"{done}: {line}, {report.seconds:.1f} s, {report.stop_reason}", soft_wrap=True)
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
        learned = sum(row["learned"] == row["n_labels"] for row in rows)
        return f", learned {learned}/{len(rows)} levels"

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
