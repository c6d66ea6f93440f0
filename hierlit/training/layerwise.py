"""LayerwiseTraining: the callback that is the paper's outer loop."""

import math
import time
from itertools import islice
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn

from hierlit.data.base import Batch, FixedBatches, HierarchyDataModule
from hierlit.layerwise.acceptance import ACCEPTANCES, STRICT_SHARE
from hierlit.layerwise.report import BlockReport
from hierlit.layerwise.solvers import Certificate
from hierlit.models.random_features import RandomFeatures
from hierlit.training.precision import check_precision
from hierlit.training.processes import compare
from hierlit.training.resume import settle
from hierlit.training.signals import end_on_sigterm
from hierlit.training.task import LayerwiseTask
from hierlit.training.trainer import NEVER, check_trainer

RESOLUTION = 1e-6
"""Share of a label's loss at score 0 below which float32 scores no longer resolve it."""


def sampler_of(trainer: L.Trainer) -> FixedBatches:
    """The sampler of the training rows."""
    sampler = trainer.train_dataloader.sampler  # type: ignore[union-attr]
    assert isinstance(sampler, FixedBatches)
    return sampler


class LayerwiseTraining(L.Callback):
    """Trains block after block: unfreeze, minimise F_k to the tolerance, judge, freeze, go on (Algorithm 4.2).

    Args:
        gradient_tolerance: ε on the norm of the full gradient at fixed weights. When None, the norm at which the
            certificate ‖∇F_k‖²/(2λ) is `relative_suboptimality` of F_k at W² = 0.
        relative_suboptimality: See `gradient_tolerance`.
        max_epochs_per_block: A block that has not converged by then is frozen all the same, with a warning.
        acceptance: Which labels a block may change: `none` restricts nothing (the paper), `gain` asks for an
            improvement on set-aside training rows beyond its standard error, `strict` for `strict_share` of the
            variance that can still be explained.
        stop_when_learned: Stop before the last block once every label has its margin on every training row.
        strict_share: See `acceptance`; in (0, 1].

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
    ) -> None:
        problems = []
        if gradient_tolerance is not None and not gradient_tolerance > 0:
            problems.append(f"gradient_tolerance must be positive or null, got {gradient_tolerance}")
        if not relative_suboptimality > 0:
            problems.append(f"relative_suboptimality must be positive, got {relative_suboptimality}")
        if max_epochs_per_block < 1:
            problems.append(f"max_epochs_per_block must be a positive integer, got {max_epochs_per_block}")
        if acceptance not in ACCEPTANCES:
            problems.append(f"acceptance must be one of {', '.join(ACCEPTANCES)}, got {acceptance!r}")
        if not 0 < strict_share <= 1:
            problems.append(f"strict_share must be in (0, 1], got {strict_share}")
        if problems:
            raise ValueError("; ".join(problems))
        self.strict_share = strict_share
        self.gradient_tolerance, self.relative_suboptimality = gradient_tolerance, relative_suboptimality
        self.max_epochs_per_block, self.acceptance = max_epochs_per_block, acceptance
        self.stop_when_learned = stop_when_learned
        self._finished = self._all_have_margin = False
        self._start, self._first_step, self._seconds = time.perf_counter(), 0, 0.0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Has SIGTERM end any run at once; checks before a fit that this callback can drive it."""
        end_on_sigterm(trainer)
        if stage == "fit":
            self.check(pl_module, trainer.datamodule)  # type: ignore[attr-defined]
            check_trainer(trainer)
            check_precision(trainer.precision, trainer.strategy.root_device)

    def check(self, task: L.LightningModule, data: L.LightningDataModule | None) -> None:
        """Checks what can be checked before any work.

        Raises:
            TypeError: If the module is not a `LayerwiseTask`, or the data not a `HierarchyDataModule`.
            ValueError: If the solver needs more epochs, or `acceptance` set-aside rows that the data has not got.
        """
        if not isinstance(task, LayerwiseTask):
            raise TypeError(f"LayerwiseTraining drives a LayerwiseTask, got {type(task).__name__}")
        if not isinstance(data, HierarchyDataModule):
            raise TypeError(f"fit needs a HierarchyDataModule as datamodule, got {type(data).__name__}")
        if self.max_epochs_per_block < task.solver.min_epochs:
            needed = f"at least {task.solver.min_epochs} for {type(task.solver).__name__}"
            raise ValueError(f"max_epochs_per_block must be {needed}, got {self.max_epochs_per_block}")
        features = task.net.first_layers
        if features.is_drawn == task.solver.is_radial:
            wanted = "must be RadialFeatures" if task.solver.is_radial else "must not be RadialFeatures"
            raise ValueError(f"features {wanted} with {type(task.solver).__name__}, got {features}")
        if task.adaptation is not None and not isinstance(task.net.block(0).features, RandomFeatures):
            raise ValueError(f"adaptation redraws W¹ of random features: leave it out with {features}")
        if self.acceptance != "none" and data.acceptance_fraction == 0:
            needed = "needs acceptance_fraction above 0 in the data, got 0; or choose none"
            raise ValueError(f"acceptance {self.acceptance!r} {needed}")
        if task.adaptation is not None and data.acceptance_fraction == 0:
            raise ValueError("adaptation needs acceptance_fraction above 0 in the data, got 0; or leave it out")
        if task.adaptation is not None and task.solver.is_joint:
            raise ValueError(
                "adaptation redraws a block after those before it are trained: leave it out of joint training"
            )
        needs_held_rows = task.adaptation is not None or task.solver.reads_set_aside_rows
        if self.acceptance == "none" and data.acceptance_fraction > 0 and not needs_held_rows:
            rank_zero_warn("acceptance none leaves the set-aside rows unused: set the data's acceptance_fraction to 0")

    @torch.no_grad()
    def on_train_start(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """Runs the blocks trained so far over all rows, once; goes on with the block under way, if there is one."""
        sampler = sampler_of(trainer)
        done, pl_module.is_open = sampler.done, False
        place = {"epoch": trainer.current_epoch, "batch": done, "checkpoint": pl_module.origin}
        start = {**place, "arguments": pl_module.config}
        compare(trainer, "the start of the run", start, ": all nodes must have the same arguments and log folder")
        self._fill_streams(trainer, pl_module)
        self._all_have_margin &= trainer.ckpt_path is not None
        self._finished = self._is_last(pl_module)
        if self._finished:
            trained = f"{pl_module.block} of {len(pl_module.net.blocks)} blocks"
            rank_zero_warn(f"{trained} are trained already and no more are needed: nothing to do")
        pl_module.stop_rule = self.stop_reason
        self._check_val_every_n_epoch = trainer.check_val_every_n_epoch
        trainer.check_val_every_n_epoch = NEVER
        trainer.should_stop = self._finished
        if pl_module.under_way is not None and trainer.ckpt_path is not None:
            pl_module.resume_block()
            sampler.start_epoch(pl_module.block, pl_module.block_epoch, done=done)
            self._start = time.perf_counter() - self._seconds

    def _fill_streams(self, trainer: L.Trainer, task: LayerwiseTask) -> None:
        task.streams.open(trainer.num_devices)
        sampler_of(trainer).start_epoch(0, 0)  # the same leading batches, always
        train = islice(trainer.train_dataloader or (), int(trainer.num_training_batches))
        held = trainer.datamodule.acceptance_dataloader()  # type: ignore[attr-defined]
        for split, batches in (("train", train), ("held", held), ("val", trainer.val_dataloaders or ())):
            task.streams.fill(split, map(task.transfer, batches))

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """Unfreezes the next block if the last one is done. Validation waits for the end of a block."""
        trainer.check_val_every_n_epoch = NEVER
        pl_module.report = None
        if not pl_module.is_open:
            self._start = time.perf_counter()
            self._first_step = trainer.global_step
            pl_module.start_block()
        sampler_of(trainer).start_epoch(pl_module.block, pl_module.block_epoch)

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: L.Trainer, pl_module: LayerwiseTask, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Counts the batch; after a block's last epoch, judges and freezes the block."""
        sampler_of(trainer).done, pl_module.has_begun = batch_idx + 1, True
        if pl_module.stop_reason is not None:
            self._finish_block(trainer, pl_module, pl_module.stop_reason)

    def state_dict(self) -> dict[str, Any]:
        """When the block under way began, its first step and the seconds it has taken; whether all is learned."""
        seconds = time.perf_counter() - self._start
        return {"first_step": self._first_step, "seconds": seconds, "all_have_margin": self._all_have_margin}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        self._first_step, self._seconds = state_dict["first_step"], state_dict["seconds"]
        self._all_have_margin = state_dict["all_have_margin"]

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Makes Lightning's counters say where the run is."""
        settle(checkpoint["loops"]["fit_loop"], sampler_of(trainer).done, int(trainer.num_training_batches))

    def tolerance(self, task: LayerwiseTask, certificate: Certificate) -> float:
        """ε of the active block: given, or the norm at which this certificate would be small enough."""
        if self.gradient_tolerance is not None:
            return self.gradient_tolerance
        resolution = RESOLUTION * float(task.objective.loss.margin_loss(torch.zeros(())))
        target = self.relative_suboptimality * float(task.moments.objective.clamp(min=resolution).sum())
        suboptimality = float(certificate.suboptimality.sum())
        if suboptimality == 0:
            return math.sqrt(2 * target * float(certificate.regularization.min()))
        return float(certificate.gradient_norm.norm()) * math.sqrt(target / suboptimality)

    def stop_reason(self, task: LayerwiseTask, certificate: Certificate) -> str | None:
        """Why the active block ends at this certificate, or None if it goes on."""
        norm = float(certificate.gradient_norm.norm())
        tolerance = self.tolerance(task, certificate)
        objective = float(certificate.objective.sum())
        task.progress = {"objective": objective, "gradient_norm": norm, "gradient_tolerance": tolerance}
        # straight to the loggers, once an epoch: log_dict takes as long as a small epoch
        for logger in task.trainer.loggers:
            logger.log_metrics({**task.progress, "active_block": task.block + 1.0}, step=task.trainer.current_epoch)
        if task.solver.is_joint:
            return "joint training"
        if task.solver.is_finished:
            return "no gain"
        if norm <= tolerance:
            return "gradient norm"
        return "max epochs" if task.block_epoch + 1 >= self.max_epochs_per_block else None

    def _finish_block(self, trainer: L.Trainer, task: LayerwiseTask, stop_reason: str) -> None:
        certificate = task.certificate
        sums, learned = task.set_aside_sums()
        accept = ACCEPTANCES["none" if task.solver.is_joint else self.acceptance]
        accepted = accept(sums, learned, self.strict_share)
        number, tolerance = task.block + 1, self.tolerance(task, certificate)
        task.freeze_block(accepted)
        task.report = BlockReport(
            block=number,
            epochs=task.block_epoch + 1,
            steps=trainer.global_step - self._first_step,
            seconds=time.perf_counter() - self._start,
            objective=float(certificate.objective.sum()),
            gradient_norm=float(certificate.gradient_norm.norm()),
            suboptimality=float(certificate.suboptimality.sum()),
            accepted=int(accepted.sum()),
            stop_reason=stop_reason,
            initial_objective=float(task.moments.objective.sum()),
            gradient_tolerance=tolerance,
            accepted_labels=accepted.tolist(),
            train=task.train_metrics(),
        )
        task.results["train"] = task.report.train
        if stop_reason == "max epochs":
            norm = task.report.gradient_norm
            rank_zero_warn(
                f"block {number} stopped at {stop_reason}: its gradient norm {norm:.3g} is above {tolerance:.3g}"
            )
        trainer.check_val_every_n_epoch = 1
        self._all_have_margin = not bool((task.report.train["margin_error"] > 0).any())
        self._finished = trainer.should_stop = self._is_last(task)

    def _is_last(self, task: LayerwiseTask) -> bool:
        """Whether no block follows those trained so far."""
        stops_early = self.stop_when_learned and not task.solver.is_joint
        if task.block and task.solver.is_finished:
            return True
        return task.block == len(task.net.blocks) or (stops_early and self._all_have_margin)

    def on_train_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """Forgets the streams, and says so if the run ended early."""
        pl_module.streams.clear()
        trainer.check_val_every_n_epoch = self._check_val_every_n_epoch
        if not self._finished and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            done = f"{pl_module.block} of {len(pl_module.net.blocks)} blocks"
            rank_zero_warn(
                f"training ended after {done}: raise trainer.max_epochs (-1 for no limit) or max_time to go on"
            )

    def on_exception(self, trainer: L.Trainer, pl_module: LayerwiseTask, exception: BaseException) -> None:  # type: ignore[override]
        """Forgets the streams."""
        if isinstance(pl_module, LayerwiseTask):
            pl_module.streams.clear()
