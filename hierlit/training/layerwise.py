"""LayerwiseTraining: the callback that runs Algorithm 4.2 in Lightning's loop, one block an epoch."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from hierlit.data.base import HierarchyDataModule
from hierlit.layerwise.acceptance import STRICT_SHARE, Acceptance
from hierlit.layerwise.algorithm import Event, is_over, n_used, train
from hierlit.layerwise.folds import MOST_ROWS, Folds
from hierlit.layerwise.processes import Processes
from hierlit.layerwise.stopping import Stopping
from hierlit.metrics import AveragePrecision
from hierlit.models import RandomFeatures
from hierlit.models.checks import raise_problems
from hierlit.training.precision import check_precision
from hierlit.training.resume import as_plain, from_plain
from hierlit.training.signals import end_on_sigterm
from hierlit.training.task import LayerwiseTask
from hierlit.training.trainer import check_trainer


class PassNumbers:
    """What Lightning's training loop goes through: numbers of passes, until the block under way is over.

    Lightning fetches one number ahead. So the pass that ends a block is followed by one more step, in which the block
    is judged and frozen, and of which Lightning knows that it is the last of its epoch.
    """

    def __init__(self) -> None:
        self.is_over = False

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of an epoch."""
        number = 0
        while number == 0 or not self.is_over:
            yield number
            number += 1


class LayerwiseTraining(L.Callback):
    """Train block after block: open, minimise F_k to the tolerance, judge, freeze, advance (Algorithm 4.2).

    An epoch of the arguments below is a pass over the rows; Lightning's own epoch is a block.

    Args:
        gradient_tolerance: ε on the norm of the full gradient at fixed weights. When None, the norm at which the
            certificate ‖∇F_k‖²/(2λ) is `relative_suboptimality` of F_k at W² = 0.
        relative_suboptimality: See `gradient_tolerance`.
        max_epochs_per_block: Passes over the rows after which a block that has not converged is frozen all the same,
            with a warning.
        acceptance: Which labels a block may change: `none` restricts nothing (the paper), `gain` asks for an
            improvement on set-aside training rows beyond its standard error, `strict` for `strict_share` of the
            variance that can still be explained, or that a label become right in `learned_accuracy` of those rows.
        stop_when_learned: Stop before the last block once every label has its margin on every training row.
        strict_share: See `acceptance`; in (0, 1].
        folds: Number K of folds of the training rows: a row advances to the next block with the scores of a fit that
            has not seen its fold. None: with the scores of the block itself (the paper).
        other_rows: Whether a fit may go on from a checkpoint of other training rows or labels; it is refused if not.

    Raises:
        ValueError: One line for each argument out of range.
    """

    def __init__(
        self,
        gradient_tolerance: float | None = None,
        relative_suboptimality: float = 0.01,
        max_epochs_per_block: int = 2000,
        acceptance: str = "gain",
        stop_when_learned: bool = False,
        strict_share: float = STRICT_SHARE,
        folds: int | None = None,
        other_rows: bool = False,
    ) -> None:
        problems = []
        try:
            self.stopping = Stopping(gradient_tolerance, relative_suboptimality, max_epochs_per_block)
        except ValueError as error:
            problems.append(str(error))
        try:
            self.acceptance = Acceptance(acceptance, strict_share)
        except ValueError as error:
            problems.append(str(error))
        if folds is not None and folds < 2:
            problems.append(f"folds must be 2 or more, or null, got {folds}")
        raise_problems(problems)
        self.stop_when_learned, self.folds, self.other_rows = stop_when_learned, folds, other_rows
        self._rows: dict[str, str] = {}
        self.pass_numbers = PassNumbers()
        self._limit: float = 1.0
        self._is_over = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Let SIGTERM end any run at once; check before a fit that this callback can drive it."""
        end_on_sigterm(trainer)
        if stage == "fit":
            data = trainer.datamodule  # type: ignore[attr-defined]
            self.check(pl_module, data)
            check_trainer(trainer)
            check_precision(trainer.precision, trainer.strategy.root_device)
            if not trainer.limit_train_batches:
                raise ValueError("trainer.limit_train_batches must leave a batch of rows, got 0")
            # Lightning's batches are passes here, so that `_fill` applies the limit, to batches of rows
            self._limit, trainer.limit_train_batches = (
                trainer.limit_train_batches,
                float(trainer.limit_train_batches > 0),
            )
            data.pass_numbers, data.takes_other_rows = self.pass_numbers, self.other_rows

    def check(self, task: L.LightningModule, data: L.LightningDataModule | None) -> None:
        """Check what can be checked before any work.

        Raises:
            TypeError: If the module is not a `LayerwiseTask`, or the data not a `HierarchyDataModule`.
            ValueError: If the solver needs more epochs, or `acceptance` set-aside rows that the data has not got.
        """
        if not isinstance(task, LayerwiseTask):
            raise TypeError(f"LayerwiseTraining drives a LayerwiseTask, got {type(task).__name__}")
        if not isinstance(data, HierarchyDataModule):
            raise TypeError(f"fit needs a HierarchyDataModule as datamodule, got {type(data).__name__}")
        problems, has_held = [], data.acceptance_fraction > 0
        if task.joint is None:
            least, name = task.solver.min_epochs, type(task.solver).__name__
            problems += task.solver.refusals(task.net, task.loss, self.folds)
        else:
            least, name = task.joint.epochs + 1, "joint training"
        most, rule = self.stopping.max_epochs, self.acceptance.rule
        if most < least:
            problems.append(f"max_epochs_per_block must be at least {least} for {name}, got {most}")
        if rule != "none" and not has_held and task.joint is None:
            needed = "needs acceptance_fraction above 0 in the data, got 0; or choose none"
            problems.append(f"acceptance {rule!r} {needed}")
        if task.adaptation is not None and not has_held:
            problems.append("adaptation needs acceptance_fraction above 0 in the data, got 0; or leave it out")
        if task.adaptation is not None and not isinstance(task.net.block(0).features, RandomFeatures):
            problems.append(f"adaptation redraws random features, got {task.net.features}: leave it out")
        if task.net.masked and not task.net.features.is_drawn:
            problems.append(f"features must be drawn at random where examples are padded, got {task.net.features}")
        if task.joint is not None:
            problems += self._joint_problems(task)
        raise_problems(problems)
        reads_held = task.adaptation is not None or (task.joint is None and task.solver.reads_held_rows)
        if rule == "none" and has_held and not reads_held:
            rank_zero_warn("acceptance none leaves the set-aside rows unused: set the data's acceptance_fraction to 0")

    def _joint_problems(self, task: LayerwiseTask) -> list[str]:
        problems = []
        if task.adaptation is not None:
            problems.append(
                "adaptation redraws a block after those before it are trained: leave it out of joint training"
            )
        if self.folds is not None:
            problems.append(
                f"folds are for blocks trained one by one: leave them out of joint training, got {self.folds}"
            )
        if not task.net.features.is_drawn:
            problems.append(f"joint training needs features that are drawn, got {task.net.features}")
        return problems

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note digests of the training rows and labels."""
        checkpoint["rows"] = self._rows

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Compare the training rows of a fit with those of the checkpoint.

        Raises:
            ValueError: If they are others, unless that may be.
        """
        if trainer.state.fn != "fit" or self.other_rows:
            return
        here, there = trainer.datamodule.digests(), checkpoint.get("rows", {})  # type: ignore[attr-defined]
        if differ := [name for name in there if there[name] != here.get(name)]:
            raise ValueError(
                f"the {' and '.join(differ)} of the training rows are not those of the checkpoint: "
                "go on with those, or set layerwise.other_rows to true"
            )

    @torch.no_grad()
    def on_train_start(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """Run the blocks trained so far over all rows, once; resume the block under way, if there is one."""
        task, processes = pl_module, Processes(trainer.world_size, trainer.global_rank)
        if trainer.ckpt_path is None:
            task.memory, task.last = task.memory if task.block else {}, None
        task.memory = move_data_to_device(task.memory, task.device)
        if task.last is not None:
            task.last = from_plain(move_data_to_device(as_plain(task.last), task.device))
        place = {"block": task.block, "epoch": 0 if task.last is None else task.last.state.passes}
        start = {**place, "checkpoint": task.origin, "arguments": task.config}
        remedy = ": all nodes must have the same arguments and log folder"
        processes.compare("the start of the run", start, task.device, remedy)
        data = trainer.datamodule  # type: ignore[attr-defined]
        self._rows = data.digests()
        task.net.calibration.set_classes(list(data.class_labels.values()))
        self._set_folds(task, data)
        if not task.loss.weight and has_positives_alone(data):
            never = "no label is ever observed as negative, so rows cannot be ranked"
            rank_zero_warn(f"{never}: set unobserved to assume_negative")
        self._fill(trainer, task)
        self._is_over = is_over(task.net, task.memory, self.stop_when_learned)
        if self._is_over:
            trained = f"{n_used(task.block, task.memory)} of {len(task.net.blocks)} blocks"
            rank_zero_warn(f"{trained} are trained already and no more are needed: nothing to do")
        trainer.should_stop = self._is_over
        self.pass_numbers.is_over = task.last is not None and task.last.ends_block(self.folds or 0)
        task.events = self._train(task, processes)

    def _set_folds(self, task: LayerwiseTask, data: HierarchyDataModule) -> None:
        before = {len(weights) for weights in task.memory.get("by_fold", ()) if weights is not None}
        if before - {self.folds}:
            found = f"as many as rows advanced with in the blocks trained so far, {before.pop()}"
            raise ValueError(f"layerwise.folds must be {found}; got {'null' if self.folds is None else self.folds}")
        folds, table = None, data.tables["train"]
        if self.folds is not None:
            labels = table.labels if len(table) <= MOST_ROWS else None
            folds = Folds(self.folds, len(table), int(task.net.draw["weight_seed"]), labels)
        task.rows.folds = folds
        if folds is not None and len(folds.of(data.fit_rows).unique()) == 1:  # type: ignore[no-untyped-call]
            n_rows = f"{len(data.fit_rows)}, all of them in one of {self.folds} folds"
            raise ValueError(f"layerwise.folds needs more rows to fit, got {n_rows}")

    def _fill(self, trainer: L.Trainer, task: LayerwiseTask) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]

        def moved(batches: Any) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
            return (trainer.strategy.batch_to_device(batch, task.device, 0) for batch in batches)

        task.rows.open(trainer.num_devices)
        fit, task.rows.seed = data.fit_dataloader(self._limit), data.data_seed
        if not fit.sampler.leading:
            raise ValueError(f"trainer.limit_train_batches must leave one of {len(fit)} batches, got {self._limit}")
        task.rows.fill("fit", moved(islice(fit, fit.sampler.leading)), task.memory.get("by_fold", ()))
        task.rows.fill("held", moved(data.acceptance_dataloader()))
        task.rows.fill("val", moved(trainer.val_dataloaders or ()))

    def _train(self, task: LayerwiseTask, processes: Processes) -> Iterator[Event]:
        shared: dict[str, Any] = {
            "regularization": task.regularization,
            "stopping": self.stopping,
            "processes": processes,
            "robustness": task.robustness,
            "memory": task.memory,
            "resume_after": task.last,
        }
        if task.joint is not None:
            return task.joint.train(task.net, task.rows, task.loss, **shared)
        return train(
            task.net,
            task.rows,
            task.solver,
            task.loss,
            acceptance=replace(self.acceptance, learned_accuracy=task.learned_accuracy),
            adaptation=task.adaptation,
            stop_when_learned=self.stop_when_learned,
            **shared,
        )

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """Begin a block."""
        self.pass_numbers.is_over = False

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: L.Trainer, pl_module: LayerwiseTask, outputs: Any, batch: int, batch_idx: int
    ) -> None:
        """After the pass that ends a block, let one step follow; after the last block, stop."""
        self.pass_numbers.is_over = pl_module.last is not None and pl_module.last.ends_block(self.folds or 0)
        report = pl_module.report
        if report is None:
            return
        if report.stop_reason == "max epochs":
            norm, tolerance = report.gradient_norm, report.gradient_tolerance
            rank_zero_warn(
                f"block {report.block} stopped at {report.stop_reason}: "
                f"its gradient norm {norm:.3g} is above {tolerance:.3g}"
            )
        self._is_over = trainer.should_stop = report.is_last
        if report.is_last and pl_module.levels is None:
            rank_left_out(pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """Rank the rows left out if the run ended early, which is said, and forget the streams."""
        if not self._is_over and pl_module.levels is None:
            rank_left_out(pl_module)
        self._forget(trainer, pl_module)
        if not self._is_over and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            done = f"{pl_module.block} of {len(pl_module.net.blocks)} blocks"
            rank_zero_warn(f"training ended after {done}: raise trainer.max_epochs (-1 for no limit) or max_time")

    def on_exception(self, trainer: L.Trainer, pl_module: LayerwiseTask, exception: BaseException) -> None:  # type: ignore[override]
        """Forget the streams."""
        if isinstance(pl_module, LayerwiseTask):
            self._forget(trainer, pl_module)

    def _forget(self, trainer: L.Trainer, task: LayerwiseTask) -> None:
        task.rows.clear()
        task.events = None
        if isinstance(data := trainer.datamodule, HierarchyDataModule) and data.pass_numbers is not None:  # type: ignore[attr-defined]
            data.pass_numbers, trainer.limit_train_batches = None, self._limit


@torch.no_grad()
def rank_left_out(task: LayerwiseTask) -> None:
    """Keep average precisions of validation rows, and of the training rows if fits left them out, in the task."""
    net = task.net
    for split, parts in {"val": ("val",), "train": ("fit", "held") if task.rows.folds is not None else ()}.items():
        metric, chunks = AveragePrecision(), [chunk for part in parts for chunk in task.rows.chunks(part)]
        for chunk in chunks:
            scores, labels = net.judged(net.answers(chunk.stream), chunk.labels)
            metric.update(net.calibration.log_odds(scores), labels)
        if any(task.rows.n_chunks(part) for part in parts):
            task.precision[split] = float(metric.to(task.device).compute())
            task.label_precision[split] = torch.stack([metric.of_labels(), metric.shares()])


def has_positives_alone(data: HierarchyDataModule) -> bool:
    """Return whether no label is observed as −1 in the training rows, and some are not observed."""
    negative, unobserved, _ = data.tables["train"].counts()
    return not negative.any() and bool(unobserved.any())
