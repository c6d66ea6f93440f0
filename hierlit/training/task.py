"""LayerwiseTask: the LightningModule that trains one block of the network at a time."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MetricCollection

from hierlit.data.base import Batch
from hierlit.files.checkpoints import CheckpointFiles
from hierlit.files.digests import KEY, damage, tensor_digest
from hierlit.files.weights import load_weights
from hierlit.layerwise.acceptance import SetAsideSums
from hierlit.layerwise.adaptive_draw import AdaptiveDraw
from hierlit.layerwise.losses import MarginLoss, SquaredLoss
from hierlit.layerwise.moments import Moments, calibrate_features, take_moments
from hierlit.layerwise.report import BlockReport
from hierlit.layerwise.solvers import Certificate, GradientSolver, Solver
from hierlit.layerwise.solvers.base import BlockObjective, EpochSums
from hierlit.layerwise.stream import Chunk, StreamCache
from hierlit.layerwise.unobserved import label_loss
from hierlit.metrics import AveragePrecision, MarginHistogram, compute, label_metrics
from hierlit.models.features import Features
from hierlit.models.proximity import Proximity
from hierlit.models.resnet import HierarchicalResNet
from hierlit.training.precision import keep_precision, rounding_of
from hierlit.training.processes import compare
from hierlit.training.resume import config_changes, decides_weights, own_part, settle

NEVER = 2**62


class LayerwiseTask(L.LightningModule):
    """The paper's Algorithm 4.2 on a `HierarchicalResNet`, driven by the `LayerwiseTraining` callback.

    One parameter is ever trained: `active` [n, q+1], the weight of the block being trained. When the block is done its
    value moves into the block, so that optimizers and distributed wrappers see the same parameter from first to last.

    Args:
        n_inputs: Input channels d per location (linked to the data on the command line).
        n_labels: Labels n per location (linked).
        n_locations: Locations |G| (linked).
        levels: True level of each label, None where unknown (linked); only metrics and tables read it.
        proximity: Windows E_g; each location sees itself alone when None.
        n_blocks: Residual blocks D−1.
        n_features: Features q per block.
        features: How the blocks' first layers are made; GaussianFeatures, the paper's, when None.
        output: split or orthogonal.
        loss: ℓ, of margins; SquaredLoss when None.
        unobserved: What becomes of labels that are not observed: ignore, assume_negative, weak_assume_negative or
            maximize_entropy; see `LabelLoss`.
        unobserved_weight: What a label that is not observed counts for, in (0, 1]; the treatment's own when None.
        solver: Minimises each F_k; GradientSolver when None.
        regularization: λ of F_k, for every label.
        robustness: ξ in (0, 1]; a label–location pair has its margin when y·ŷ ≥ 1 − ξ/2.
        learned_accuracy: Held-out accuracy from which a label counts as learned.
        adaptation: Redraws each block's W¹ along the coordinates its labels depend on; the paper's draw when None.
        cache_budget_gib: Memory of the training device that each process may take for streams and for the active
            block's features, in GiB; a quarter of what is free when None. Streams beyond it are memory-mapped to
            temporary files, features beyond it are recomputed.
        weight_seed: Seed of every frozen draw.
        weights: A safetensors file with weights of blocks trained before, to go on from or to evaluate.
        tf32: In 32-true, whether the factors in random features are rounded to TF32, and CUDA computes with it there.
        compile: Whether torch.compile compiles the random features.

    Raises:
        ValueError: One line naming each argument out of range, its value and the valid choices.
    """

    def __init__(
        self,
        n_inputs: int,
        n_labels: int,
        n_locations: int = 1,
        levels: Sequence[int] | None = None,
        proximity: Proximity | None = None,
        n_blocks: int = 10,
        n_features: int = 500,
        features: Features | None = None,
        output: str = "split",
        loss: MarginLoss | None = None,
        solver: Solver | None = None,
        unobserved: str = "ignore",
        unobserved_weight: float | None = None,
        regularization: float = 1e-3,
        robustness: float = 1.0,
        learned_accuracy: float = 0.999,
        adaptation: AdaptiveDraw | None = None,
        cache_budget_gib: float | None = None,
        weight_seed: int = 0,
        weights: str | None = None,
        tf32: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["solver", "weights"], logger=False)
        self.automatic_optimization = False
        limits = {
            "regularization": (regularization, 0 < regularization < math.inf, "positive"),
            "robustness": (robustness, 0 < robustness <= 1, "in (0, 1]"),
            "learned_accuracy": (learned_accuracy, 0 < learned_accuracy <= 1, "in (0, 1]"),
            "cache_budget_gib": (cache_budget_gib, cache_budget_gib is None or cache_budget_gib >= 0, "0 or more"),
        }
        problems = [f"{name} must be {valid}, got {value}" for name, (value, ok, valid) in limits.items() if not ok]
        if levels is not None and len(levels) != n_labels:
            problems.append(f"levels must have one entry for each of {n_labels} labels, got {len(levels)}")
        try:
            self.net = HierarchicalResNet(
                n_inputs,
                n_labels,
                n_locations,
                proximity,
                n_blocks,
                n_features,
                features,
                output,
                weight_seed,
            )
            self.net.compile_features(compile)
            if weights is not None:
                load_weights(self.net, weights)
            self.loss = label_loss(loss or SquaredLoss(), unobserved, unobserved_weight, n_labels)
        except (ValueError, OSError, ImportError) as error:
            problems.append(str(error))
        if problems:
            raise ValueError("; ".join(problems))
        self.levels = None if levels is None else list(levels)
        self.solver = solver if solver is not None else GradientSolver()
        self.regularization, self.learned_accuracy = regularization, learned_accuracy
        self.weight_seed = weight_seed
        self.active = nn.Parameter(torch.zeros_like(self.net.block(0).weight))
        self.adaptation = adaptation
        self.streams = StreamCache(self.net, None if cache_budget_gib is None else cache_budget_gib * 2**30)
        metrics = label_metrics(n_labels, robustness)
        self.metrics = nn.ModuleDict({f"{split}_metrics": metrics.clone() for split in ("train", "val", "test")})
        self.average_precision = AveragePrecision()
        self.margins = MarginHistogram(n_labels)
        self.margin_counts: Tensor | None = None
        self.objective: BlockObjective
        self.moments: Moments
        self.epoch_sums: EpochSums
        self.first_bad: Tensor
        self.certificate: Certificate
        self.stop_rule: Callable[[LayerwiseTask, Certificate], str | None]
        self.stop_reason: str | None = None
        self.progress: dict[str, float] = {}
        self.block_epoch = 0
        self.is_open, self.drawn_block = False, -1
        self.under_way: dict[str, Any] | None = None
        self.config: dict[str, Any] = {}
        self.origin, self.has_begun = "", False
        self.results: dict[str, dict[str, Tensor]] = {}
        self.report: BlockReport | None = None

    @property
    def block(self) -> int:
        """Index of the active block, from 0."""
        return int(self.net.n_trained)

    def metrics_of(self, split: str) -> MetricCollection:
        """The metrics of `train`, `val` or `test`."""
        metrics: MetricCollection = self.metrics[f"{split}_metrics"]  # type: ignore[assignment]
        return metrics

    def forward(self, inputs: Tensor) -> Tensor:
        """Label scores [B, |G|, n] of inputs [B, |G|, d]."""
        scores: Tensor = self.net(inputs.to(self.dtype))
        return scores

    def data_term(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        """The rows' part of each label's F_k at the active weight, [n], and its gradient [n, q+1]."""
        return self.objective.data_term(self.active, self.streams.tiles(chunk, self.block))

    def setup(self, stage: str) -> None:
        """Takes the run's precision, before a checkpoint is loaded, and has its checkpoints sealed and checked."""
        if self.trainer.precision == "64-true":
            self.double()
        if isinstance(self.trainer.strategy, DDPStrategy):  # nothing to send before every batch
            self.trainer.strategy._ddp_kwargs["broadcast_buffers"] = False
        if type(self.trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            self.trainer.strategy.checkpoint_io = CheckpointFiles()
        keep_precision(self.trainer)

    def on_fit_start(self) -> None:
        """Has features rounded as the run's precision says."""
        self.round_features(self.trainer.precision)

    def round_features(self, precision: str | int | None) -> None:
        """Has features rounded as in a run of this precision.

        Raises:
            ValueError: If blocks have been trained on features of another rounding.
        """
        before, rounding = self.net.rounding, rounding_of(precision, self.hparams["tf32"])
        if rounding != before and (self.block or self.under_way):
            kinds = f"features rounded to {before}, got {rounding} (None is full precision)"
            raise ValueError(f"trainer.precision and model.tf32 must be those of the blocks trained so far: {kinds}")
        self.net.rounding = rounding

    def configure_optimizers(self) -> Optimizer:
        """The solver's optimizer of `active`; a placeholder until the first block's F_k is known."""
        if not hasattr(self, "objective"):
            return torch.optim.SGD(self.solver.trained(self), lr=0.0)
        return self.solver.configure_optimizers(self)

    def restart_optimizers(self) -> None:
        """Starts optimizers afresh: their state belongs to one block, or one phase of it."""
        self.trainer.strategy.setup_optimizers(self.trainer)

    def transfer(self, batch: Batch) -> Batch:
        """A batch on this module's device and in its precision."""
        moved: Batch = self.trainer.strategy.batch_to_device(batch, self.device, 0)
        return moved._replace(inputs=moved.inputs.to(self.dtype), labels=moved.labels.to(self.dtype))

    def reduce(self, tensor: Tensor) -> Tensor:
        """A tensor summed over all processes, in place."""
        if self.trainer.world_size > 1:
            dist.all_reduce(tensor)  # in the strategy's own reduce a barrier would come first
        return tensor

    def start_block(self) -> None:
        """Unfreezes the next block: draws and calibrates its features and makes its F_k and optimizer."""
        if self.adaptation is not None and self.drawn_block != self.block:
            self.adaptation.redraw(self.net, self.block, self.streams, self.reduce, self.loss, self.weight_seed)
        self.drawn_block = self.block
        self.block_epoch, self.epoch_sums = 0, EpochSums.zeros(self.active)
        for index in self.solver.blocks_to_calibrate(self):
            calibrate_features(self.net, index, self.streams, self.reduce)
        self._open_block()
        self.restart_optimizers()

    def resume_block(self) -> None:
        """Goes on with the block that the checkpoint found under way, at the batch where it was."""
        state, optimizer = self.under_way, self.trainer.optimizers[0].state_dict()
        assert state is not None
        active = self.active.detach().clone()
        self.block_epoch = state["epoch"]
        self.epoch_sums = EpochSums(own_part(state["sums"], self.trainer).to(self.device))
        self._open_block()
        self.solver.load_state_dict(self, state["solver"])
        self.active.data.copy_(active)
        self.restart_optimizers()
        self.trainer.optimizers[0].load_state_dict(optimizer)
        self.under_way = None

    def _open_block(self) -> None:
        dtype, products = self.solver.gram_dtype, self.solver.reads_gram
        self.moments = moments = take_moments(
            self.net, self.block, self.streams, self.reduce, self.loss, dtype=dtype, products=products
        )
        regularization = torch.full((self.net.n_labels,), self.regularization).to(self.active)
        self.objective = BlockObjective(self.loss.for_data(moments.n_pairs), moments.n_pairs, regularization)
        self.active.data.zero_()
        self.active.grad = None
        self.progress, self.stop_reason = {}, None
        self.first_bad = torch.full((), NEVER, device=self.device)
        self.solver.start_block(self)
        self.is_open = True

    @torch.no_grad()
    def set_aside_sums(self) -> tuple[SetAsideSums, Tensor]:
        """What the active weight would change on the set-aside rows, and which labels [n] were learned before it."""
        totals = torch.zeros(len(fields(SetAsideSums)), self.net.n_labels, dtype=torch.float64, device=self.device)
        right = torch.zeros(2, self.net.n_labels, dtype=torch.float64, device=self.device)
        for chunk in self.streams.chunks("held"):
            before = self.net.scores(chunk.stream)
            after = before + self.streams.change(chunk, self.block, self.active)
            totals += SetAsideSums.of(self.objective.loss, before, after, chunk.labels).stack()
            targets, seen = self.loss.targets(chunk.labels)
            right += torch.stack([(seen * (before * targets > 0)).sum((0, 1)), (seen * (targets != 0)).sum((0, 1))])
        totals, right = self.reduce(totals), self.reduce(right)
        return SetAsideSums(*totals), right[0] >= self.learned_accuracy * right[1]

    @torch.no_grad()
    def freeze_block(self, accepted: Tensor) -> None:
        """Moves the active weight into its block, rows of labels not accepted left at zero, and the streams past it."""
        self.net.block(self.block).weight.copy_(self.active * accepted[:, None])
        self.check_processes()
        self.streams.advance(self.block)
        self.solver.end_block(self)
        self.net.n_trained += 1
        self.active.zero_()
        self.is_open = False

    def check_processes(self) -> None:
        """Compares the weights of all blocks, and the features of the active one, between processes.

        Raises:
            RuntimeError: If they are not the same to the bit; one line names the ranks and tensors that differ.
        """
        if self.trainer.world_size > 1:
            tensors = {f"blocks.{index}.weight": self.net.block(index).weight for index in range(len(self.net.blocks))}
            tensors |= self.net.block(self.block).named_parameters(f"blocks.{self.block}")
            sums = {name: tensor_digest(tensor) for name, tensor in tensors.items()}
            compare(self.trainer, f"the network after block {self.block + 1}", sums)

    @torch.no_grad()
    def train_metrics(self) -> dict[str, Tensor]:
        """The metrics [n] of all training rows, set-aside ones included, at the blocks trained so far."""
        metrics = self.metrics_of("train")
        metrics.reset()
        for chunk in (*self.streams.chunks("train"), *self.streams.chunks("held")):
            metrics.update(self.net.scores(chunk.stream), chunk.labels)
        return compute(metrics)

    def on_train_epoch_start(self) -> None:
        """Starts the epoch's sums.

        Raises:
            RuntimeError: If no `LayerwiseTraining` callback has started a block.
        """
        if not self.is_open:
            raise RuntimeError(
                "LayerwiseTask needs the callback LayerwiseTraining: Trainer(callbacks=[LayerwiseTraining()])"
            )
        self.epoch_sums = EpochSums.zeros(self.active)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Hands the batch, as the active block sees it, to the solver; after the last, ends the block or steps."""
        chunk = self.streams.get("train", batch)
        terms, gradient = self.solver.training_step(self, chunk, self.block_epoch)
        self.epoch_sums.add(terms, gradient)
        finite = (terms.sum() + gradient.sum()).isfinite()
        self.first_bad = torch.where(finite, self.first_bad, self.first_bad.clamp(max=batch_idx))
        if self.trainer.is_last_batch:
            self._end_epoch()

    def _end_epoch(self) -> None:
        sums = EpochSums(self.reduce(self.epoch_sums.values))
        if not sums.values.isfinite().all():
            self.check_finite()
        certificate = self.solver.certify(self, sums, self.block_epoch)
        if certificate is not None:
            self.certificate = certificate
            self.stop_reason = self.stop_rule(self, certificate)
        if self.stop_reason is None:
            self.solver.step(self, sums, self.block_epoch)
            self.block_epoch += 1

    def check_finite(self) -> None:
        """Asks all processes for a batch of this epoch in which something was not finite.

        Raises:
            FloatingPointError: If there was one; one line names the first.
        """
        first_bad = int(self.trainer.strategy.reduce(self.first_bad, reduce_op="min"))
        if first_bad < NEVER:
            where = f"block {self.block + 1}, epoch {self.block_epoch + 1}, batch {first_bad + 1}"
            raise FloatingPointError(
                f"loss or gradient is not finite in {where}: lower the solver's step or the inputs"
            )

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Updates the val metrics; while fitting, from the cached stream."""
        fitting = self.trainer.state.fn == "fit"
        scores = self.net.scores(self.streams.get("val", batch).stream) if fitting else self(batch.inputs)
        self.metrics_of("val").update(scores, batch.labels)
        self.margins.update(scores, batch.labels)

    def on_validation_epoch_end(self) -> None:
        """Logs the val metrics and keeps them, and how the margins spread, for tables and figures."""
        self.margin_counts = self.margins.compute()
        self.margins.reset()
        self._log_results("val")

    def on_test_epoch_end(self) -> None:
        """Logs the test metrics and keeps them for the tables."""
        self._log_results("test")
        self.log("test/average_precision", self.average_precision.compute())
        self.average_precision.reset()

    def _log_results(self, split: str) -> None:
        metrics = self.metrics_of(split)
        values = compute(metrics)
        metrics.reset()
        self.results[split] = values
        learned = (values["accuracy"] >= self.learned_accuracy).double().mean()
        means = {f"{split}/{name}": value.nanmean() for name, value in values.items() if name != "min_margin"}
        self.log_dict({**means, f"{split}/learned": learned}, sync_dist=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Updates the test metrics."""
        scores = self(batch.inputs)
        self.metrics_of("test").update(scores, batch.labels)
        self.average_precision.update(scores, batch.labels)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Label scores [B, |G|, n] of a batch."""
        scores: Tensor = self(batch.inputs)
        return scores

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Notes the network's sizes and draw, and how far the block under way has come on every process.

        Raises:
            FloatingPointError: If something in that block is not finite: no run could go on from it.
        """
        checkpoint["sizes"], checkpoint["config"] = self.net.sizes | self.net.draw, self.config
        checkpoint["rounding"] = self.net.rounding
        if self.is_open:
            self.check_finite()
            checkpoint["under_way"] = {
                "epoch": self.block_epoch,
                "sums": self.trainer.strategy.all_gather(self.epoch_sums.values).view(
                    -1, *self.epoch_sums.values.shape
                ),
                "solver": self.solver.state_dict(),
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint that is damaged or of another network; one of fewer blocks is gone on from.

        Raises:
            ValueError: If a tensor is not as it was saved, or a size is not the checkpoint's; one line names them.
        """
        if "sizes" not in checkpoint:
            raise ValueError("the checkpoint is not one of a LayerwiseTask")
        if KEY in checkpoint and (problem := damage(checkpoint, "state_dict")):
            raise ValueError(f"the checkpoint is damaged: {problem}")
        self._check_sizes(checkpoint["sizes"])
        state = checkpoint["state_dict"]
        for name, drawn in self.state_dict().items() if checkpoint["sizes"]["n_blocks"] < len(self.net.blocks) else ():
            state.setdefault(name, drawn)
        self.origin = repr(checkpoint.get(KEY))
        self.net.rounding = checkpoint.get("rounding")
        self.net.n_trained.copy_(state["net.n_trained"])
        self.under_way = checkpoint.get("under_way")
        if self.under_way is not None:
            self.drawn_block = self.block
        changes = config_changes(checkpoint.get("config", {}), self.config)
        if changes:
            rank_zero_warn(f"values that differ from the checkpoint's: {', '.join(changes)}")
        if self.under_way is not None and any(decides_weights(change) for change in changes):
            rank_zero_warn(f"block {self.drawn_block + 1}, which was under way, starts anew with them")
            self.under_way = None
            settle(checkpoint["loops"]["fit_loop"], 0, -1)

    def _check_sizes(self, saved: Mapping[str, Any]) -> None:
        here = self.net.sizes | self.net.draw
        differ = [name for name in here if saved.get(name) != here[name]]
        is_deeper = "n_blocks" in differ and saved.get("n_blocks", math.inf) < len(self.net.blocks)
        if is_deeper and not self.solver.is_joint:  # blocks are drawn one after another: a deeper net begins like this
            differ.remove("n_blocks")
        if differ:
            theirs, ours = (", ".join(f"{name}={sizes.get(name)}" for name in differ) for sizes in (saved, here))
            raise ValueError(f"the checkpoint holds another network ({theirs}) than this one ({ours})")
