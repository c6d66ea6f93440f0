"""LayerwiseTask: the LightningModule that trains one block of the network at a time."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MetricCollection

from hierlit.data.base import Batch
from hierlit.files.checkpoints import CheckpointFiles
from hierlit.files.weights import load_weights
from hierlit.layerwise import AdaptiveDraw, BlockReport, Event, JointTraining, Pass, SizedDraw, StreamCache
from hierlit.layerwise.losses import MarginLoss, SquaredLoss
from hierlit.layerwise.solvers import GradientSolver, Solver
from hierlit.layerwise.unobserved import label_loss
from hierlit.metrics import AveragePrecision, MarginHistogram, compute, label_metrics
from hierlit.models import Features, HierarchicalResNet, Proximity
from hierlit.models.checks import raise_problems
from hierlit.training.precision import keep_precision, rounding_of, set_rounding
from hierlit.training.resume import restore_place, save_place


class LayerwiseTask(L.LightningModule):
    """The paper's network and how its blocks are trained, driven by the `LayerwiseTraining` callback.

    Lightning's epoch is a block, and its batch the number of a pass over the rows, which the callback has put into a
    `StreamCache`. Each training step makes one pass of `layerwise.train`; the last of an epoch judges and freezes the
    block.

    Args:
        n_inputs: Input channels d per location (linked to the data on the command line).
        n_labels: Labels n per location (linked).
        n_locations: Locations |G| (linked).
        levels: True level of each label, None where unknown (linked); only metrics and tables read it.
        proximity: Windows E_g; when None those of the grid, 7 locations of a sequence, 3×3 of an image, and where there
            is no grid each location sees itself alone.
        n_blocks: Residual blocks D−1.
        n_features: Random features q per block.
        features: Kind of the random features; GaussianFeatures, the paper's, when None.
        output: split or orthogonal.
        loss: ℓ, of margins; SquaredLoss when None.
        solver: Minimises each F_k; GradientSolver when None.
        joint: Trains all blocks at once, instead of `solver` block by block.
        unobserved: What becomes of labels that are not observed: ignore, assume_negative, weak_assume_negative or
            maximize_entropy; see `LabelLoss`.
        unobserved_weight: What a label that is not observed counts for, in (0, 1]; what `unobserved`
            has by default when None.
        regularization: λ of F_k, for every label.
        robustness: ξ in (0, 1]; a label–location pair has its margin when y·ŷ ≥ 1 − ξ/2.
        learned_accuracy: Validation accuracy from which a label counts as learned.
        adaptation: Redraws each block's W¹ along the coordinates its labels depend on; the paper's draw when None.
        cache_budget_gib: Memory of the training device that each process may take for streams and for the active
            block's features, in GiB; a quarter of what is free when None. Streams beyond it are memory-mapped to
            temporary files, features beyond it are recomputed.
        weight_seed: Seed of every frozen draw.
        masked: Whether input channel 0 says where an example has a location (linked).
        neighbours: Windows of the locations whose labels a location is to know as well; its own alone when None.
        pooled: Whether labels are those of examples, whose scores are means over their locations (linked).
        grid: The shape of the locations: (T,) of sequences, (H, W) of images (linked).
        weights: A safetensors file with weights of blocks trained before, to resume from or to evaluate.
        tf32: In 32-true, whether the factors in random features are rounded to TF32, and CUDA computes with it there.
        compile: Whether torch.compile compiles the random features.

    Attributes:
        rows: The stream before the block under way, while a fit lasts.
        progress: `objective`, `gradient_norm` and `gradient_tolerance` of the last pass, if it has a certificate.
        report: That of a block just frozen, until the next begins.
        results: Metrics [n] by split, as they stand.
        precision: Average precision by split of rows that no fit has seen, at the end of a run whose labels have no
            known levels, and of a test.
        label_precision: That of each label, and its share of positives, [2, n], at the end of such a run.

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
        joint: JointTraining | None = None,
        unobserved: str = "ignore",
        unobserved_weight: float | None = None,
        regularization: float = 1e-3,
        robustness: float = 1.0,
        learned_accuracy: float = 0.999,
        adaptation: AdaptiveDraw | SizedDraw | None = None,
        cache_budget_gib: float | None = None,
        weight_seed: int = 0,
        masked: bool = False,
        neighbours: Proximity | None = None,
        pooled: bool = False,
        grid: Sequence[int] | None = None,
        weights: str | None = None,
        tf32: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["solver", "joint", "weights"], logger=False)
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
        sizes = (n_inputs, n_labels, n_locations, proximity, n_blocks, n_features, features, output, weight_seed)
        seen = (masked, neighbours, pooled, grid)
        try:
            self.net = HierarchicalResNet(*sizes, *seen, is_sized=isinstance(adaptation, SizedDraw))
            self.net.compile_features(compile)
            if weights is not None:
                load_weights(self.net, weights)
            self.loss = label_loss(loss or SquaredLoss(), unobserved, unobserved_weight, n_labels)
        except (ValueError, OSError, ImportError) as error:
            problems.append(str(error))
        raise_problems(problems)
        self.levels = None if levels is None else list(levels)
        self.solver, self.joint, self.adaptation = solver or GradientSolver(), joint, adaptation
        self.regularization, self.learned_accuracy, self.robustness = regularization, learned_accuracy, robustness
        self.rows = StreamCache(self.net, None if cache_budget_gib is None else cache_budget_gib * 2**30)
        # solvers step weights of their own; Lightning asks for an optimizer, and DDP for a parameter
        self.placeholder = nn.Parameter(torch.zeros(()))
        self.test_metrics, self.average_precision = label_metrics(n_labels, robustness), AveragePrecision()
        self.margin_counts: Tensor | None = None
        self._changed: Tensor | None = None
        self._validated = -1
        self.events: Iterator[Event] | None = None
        self.memory: dict[str, Any] = {}
        self.last: Pass | None = None
        self.report: BlockReport | None = None
        self.progress: dict[str, float] = {}
        self.results: dict[str, dict[str, Tensor]] = {}
        self.precision: dict[str, float] = {}
        self.label_precision: dict[str, Tensor] = {}
        self.config: dict[str, Any] = {}
        self.origin, self.has_begun = "", False

    @property
    def block(self) -> int:
        """Index of the block under way, from 0: the number of blocks trained."""
        return int(self.net.n_trained)

    def forward(self, inputs: Tensor) -> Tensor:
        """Label scores [B, |G|, n] of inputs [B, |G|, d]."""
        return self.net(inputs.to(self.dtype))  # type: ignore[no-any-return]

    def setup(self, stage: str) -> None:
        """Take the run's precision, before a checkpoint is loaded; seal and check its checkpoints."""
        strategy = self.trainer.strategy
        if self.trainer.precision == "64-true":
            self.double()
        if isinstance(strategy, DDPStrategy):  # nothing to send before every batch
            strategy._ddp_kwargs["broadcast_buffers"] = False
        if type(strategy.checkpoint_io) is TorchCheckpointIO:
            strategy.checkpoint_io = CheckpointFiles()
        keep_precision(self.trainer)

    def on_fit_start(self) -> None:
        """Set the rounding of the features from `trainer.precision` and `model.tf32`."""
        self.round_features(self.trainer.precision)
        self._validated = -1

    def round_features(self, precision: str | int | None) -> None:
        """Set the rounding of the features as in a run of this precision.

        Raises:
            ValueError: If blocks have been trained on features of another rounding.
        """
        set_rounding(self.net, rounding_of(precision, self.hparams["tf32"]), bool(self.block or self.last))

    def configure_optimizers(self) -> Optimizer:
        """Return an optimizer that does nothing."""
        return torch.optim.SGD([self.placeholder], lr=0.0)

    def on_train_epoch_start(self) -> None:
        """Begin a block.

        Raises:
            RuntimeError: If no `LayerwiseTraining` callback has said how blocks are trained.
        """
        if self.events is None:
            raise RuntimeError("LayerwiseTask needs LayerwiseTraining: Trainer(callbacks=[LayerwiseTraining()])")
        self.report = None

    def training_step(self, batch: int, batch_idx: int) -> None:
        """Make a pass, or freeze the block after its last one."""
        assert self.events is not None
        event, self.has_begun = next(self.events), True
        if isinstance(event, BlockReport):
            self.report, self.last, self.results["train"] = event, None, event.train
            return
        self.last = event
        if event.by_fold or event.fold_state is not None:  # a fit without a fold, of which nothing is logged
            return
        self.optimizers().step()  # type: ignore[union-attr]  # counts passes as `trainer.global_step`
        self.progress, number = event.progress(), self.memory.get("passes", 0)
        self.memory["passes"] = number + 1
        for logger in self.trainer.loggers if self.progress else ():  # log_dict takes as long as a small pass
            logger.log_metrics({**self.progress, "active_block": event.block + 1.0}, step=number)

    def on_validation_epoch_start(self) -> None:
        """Measure all labels; while fitting, those alone that the last block changed, if all were measured before."""
        self._changed = self._changed_labels()
        n_labels = self.net.n_labels if self._changed is None else len(self._changed)
        self.val_metrics = label_metrics(n_labels, self.robustness).to(self.device)
        self.margins = MarginHistogram(n_labels).to(self.device)

    def _changed_labels(self) -> Tensor | None:
        """Return the labels, at least one, whose scores have changed since they were validated; None if all may have.

        Where neighbours know a location's labels too, its answers are made of scores of other labels.
        """
        is_fit = self.trainer.state.fn == "fit"
        if not is_fit or self.report is None or self._validated != self.block - 1 or self.net.neighbours is not None:
            return None
        changed = torch.tensor(self.report.accepted_labels).nonzero()[:, 0]
        return (changed if len(changed) else changed.new_zeros(1)).to(self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Update the val metrics; while fitting, from the cached stream."""
        seen = self.rows.get("val", batch_idx) if self.trainer.state.fn == "fit" else None
        scores = self(batch.inputs) if seen is None else self.net.answers(seen.stream)
        scores, labels = self.net.judged(scores, batch.labels)
        if self._changed is not None:
            scores, labels = scores[..., self._changed], labels[..., self._changed]
        self.val_metrics.update(scores, labels)
        self.margins.update(scores, labels)

    def on_validation_epoch_end(self) -> None:
        """Log the val metrics and keep them, and how the margins spread, for tables and figures."""
        counts = self.margins.compute()
        if self._changed is not None:
            assert self.margin_counts is not None
            counts = self.margin_counts.index_copy(0, self._changed, counts)
        self.margin_counts = counts
        self._log_results("val", self.val_metrics, self._changed)
        self._validated = -1 if self.trainer.sanity_checking else self.block

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Update the test metrics."""
        scores, labels = self.net.judged(self(batch.inputs), batch.labels)
        self.test_metrics.update(scores, labels)
        self.average_precision.update(self.net.calibration.log_odds(scores), labels)

    def on_test_epoch_end(self) -> None:
        """Log the test metrics and keep them for the tables; where labels are of kinds, also by kind."""
        self._log_results("test", self.test_metrics)
        if self.results["test"]["accuracy"].isnan().all():
            rank_zero_warn("no label of any test row is observed: there is nothing to measure")
        self.precision["test"] = float(precision := self.average_precision.compute())
        self.log("test/average_precision", precision)
        kinds = getattr(getattr(self.trainer, "datamodule", None), "label_kinds", None)
        if kinds is not None:
            for kind, value in self.average_precision.of_kinds(kinds).items():
                self.log(f"test/average_precision/{kind}", value)
        self.average_precision.reset()

    def _log_results(self, split: str, metrics: MetricCollection, changed: Tensor | None = None) -> None:
        values = self.results[split] = compute(metrics, changed, self.results.get(split))
        metrics.reset()
        learned = (values["accuracy"] >= self.learned_accuracy).double().mean()
        means = {f"{split}/{name}": value.nanmean() for name, value in values.items() if name != "min_margin"}
        self.log_dict({**means, f"{split}/learned": learned}, sync_dist=True)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Label scores [B, |G|, n] of a batch; of labels of examples [B, 1, n]."""
        scores: Tensor = self(batch.inputs)
        return scores[:, :1] if self.net.pooled else scores

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the network's sizes and draw, the last pass as it is, and where the run was."""
        save_place(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that is damaged or of another network; one of fewer blocks is resumed.

        Raises:
            ValueError: If a tensor is not as it was saved, or a size is not the checkpoint's; one line names them.
        """
        restore_place(self, checkpoint)
