"""HierarchicalClassifier: fit, predict and score on arrays, in the manner of scikit-learn."""

from __future__ import annotations

import copy
import inspect
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hierlit.adaptation import AdaptiveDraw
from hierlit.callbacks import BlockProgress, LayerwiseTraining
from hierlit.data.arrays import ArrayHierarchy
from hierlit.data.checks import at_least, raise_problems, within
from hierlit.figures import draw_staircase
from hierlit.losses import MarginLoss
from hierlit.models import Proximity
from hierlit.report import BlockReport, level_rows
from hierlit.solvers import ExactSolver, GradientSolver, Solver
from hierlit.task import LayerwiseTask
from hierlit.unobserved import TREATMENTS

SOLVERS = {"exact": ExactSolver, "gradient": GradientSolver}
NUMBERS_AT_ONCE = 2**24


class NotFittedError(ValueError, AttributeError):
    """The estimator is used before `fit`, as scikit-learn's error of that name."""


class HierarchicalClassifier:
    """A multi-label classifier trained block by block, with scikit-learn's interface (which need not be installed).

    The same `LayerwiseTask` and `LayerwiseTraining` as on the command line, on one device, writing no file. Arguments
    are stored as given and checked by `fit`.

    Args:
        n_blocks: Residual blocks D−1.
        n_features: Random features q per block.
        beta: β of the β-Xavier draw, in [0, 1).
        activation: relu, gelu, tanh, erf, sigmoid, softplus or cos.
        loss: ℓ, of margins; SquaredLoss when None.
        unobserved: What becomes of labels that are not observed: ignore, assume_negative, weak_assume_negative or
            maximize_entropy.
        solver: `exact`, `gradient`, or a `Solver`.
        adaptation: Redraws W¹ towards the coordinates that the labels depend on; the paper's draw when None.
        acceptance: none, gain or strict.
        acceptance_fraction: Share of the training rows set aside to decide acceptance, in [0, 1).
        proximity: Windows E_g; each location sees itself alone when None.
        regularization: λ of F_k.
        max_epochs_per_block: A block that has not converged by then is frozen all the same, with a warning.
        stop_when_learned: Stop before the last block once every label has its margin on every training row.
        batch_size: Rows in a batch.
        levels: True level of each label, from 1, if known; only `level_accuracy_` reads it.
        val_fraction: Share of the rows given to `fit`, in (0, 1), that is never fitted on: `level_accuracy_` is theirs.
        accelerator: Lightning's name of the device to fit on: auto, cpu, gpu, ...
        random_state: Seed of the frozen weights, the splits and the batches.
        verbose: Show progress and Lightning's messages.

    Attributes:
        net_ (HierarchicalResNet): The trained network, on the CPU; predictions are computed where it is.
        blocks_ (list[BlockReport]): What is known of each block: certificate, epochs, accepted labels, ...
        levels_ (list[int]): The levels, ascending; [1] if none were given.
        level_accuracy_ (NDArray): Accuracy [blocks, levels] on the validation rows after each block.
        n_features_in_ (int): Input channels d.
    """

    _estimator_type = "classifier"  # for scikit-learn before 1.6, which knows no __sklearn_tags__

    def __init__(
        self,
        n_blocks: int = 8,
        n_features: int = 1000,
        beta: float = 0.5,
        activation: str = "relu",
        loss: MarginLoss | None = None,
        unobserved: str = "ignore",
        solver: str | Solver = "exact",
        adaptation: AdaptiveDraw | None = None,
        acceptance: str = "gain",
        acceptance_fraction: float = 0.2,
        proximity: Proximity | None = None,
        regularization: float = 1e-3,
        max_epochs_per_block: int = 2000,
        stop_when_learned: bool = False,
        batch_size: int = 1024,
        levels: Sequence[int] | None = None,
        val_fraction: float = 0.1,
        accelerator: str = "auto",
        random_state: int = 0,
        verbose: bool = False,
    ) -> None:
        self.n_blocks, self.n_features = n_blocks, n_features
        self.beta, self.activation = beta, activation
        self.loss, self.solver, self.regularization = loss, solver, regularization
        self.unobserved = unobserved
        self.adaptation = adaptation
        self.acceptance, self.acceptance_fraction = acceptance, acceptance_fraction
        self.proximity = proximity
        self.max_epochs_per_block, self.stop_when_learned = max_epochs_per_block, stop_when_learned
        self.batch_size = batch_size
        self.levels, self.val_fraction = levels, val_fraction
        self.accelerator, self.random_state, self.verbose = accelerator, random_state, verbose

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments by name; `deep` changes nothing, as no argument is an estimator."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> HierarchicalClassifier:
        """Sets constructor arguments and returns the estimator.

        Raises:
            ValueError: A name is not an argument of the constructor.
        """
        valid = list(self.get_params())
        unknown = [name for name in params if name not in valid]
        if unknown:
            raise ValueError(f"parameter must be one of {', '.join(valid)}, got {', '.join(unknown)}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def fit(self, X: ArrayLike | Tensor, Y: ArrayLike | Tensor) -> HierarchicalClassifier:
        """Trains the network.

        Args:
            X: Inputs [N, d] or [N, |G|, d], finite.
            Y: Labels [N, n] or [N, |G|, n] in {−1, 0, 1}, 0 = not observed.

        Returns:
            The estimator itself.

        Raises:
            ValueError: An argument of the constructor is out of range, or the arrays do not fit the above.
        """
        raise_problems(self._problems())
        data = ArrayHierarchy(
            X,
            Y,
            levels=self.levels,
            val_fraction=self.val_fraction,
            batch_size=self.batch_size,
            acceptance_fraction=self.acceptance_fraction,
            data_seed=self.random_state,
            positives_only=self.unobserved != "ignore",
        )
        training = LayerwiseTraining(
            max_epochs_per_block=self.max_epochs_per_block,
            acceptance=self.acceptance,
            stop_when_learned=self.stop_when_learned,
        )
        task, record = self._task(data), BlockRecord()
        with torch.random.fork_rng(devices=[]), quiet(not self.verbose):
            trainer = L.Trainer(
                accelerator=self.accelerator,
                devices=1,
                max_epochs=-1,
                callbacks=[training, *([BlockProgress()] if self.verbose else []), record],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=self.verbose,
                enable_model_summary=False,
                num_sanity_val_steps=0,
            )
            trainer.fit(task, datamodule=data)
        self.net_, self.blocks_, self.levels_ = task.net.cpu(), record.blocks, record.levels
        self.level_accuracy_ = np.array(record.accuracy)
        self.n_features_in_ = data.n_inputs
        self._has_locations = np.ndim(Y) == 3
        return self

    def decision_function(self, X: ArrayLike | Tensor) -> NDArray[np.float32]:
        """Label scores ŷ, computed a few rows at a time.

        Args:
            X: Inputs [N, d] or [N, |G|, d], finite, d and |G| as in `fit`.

        Returns:
            Scores [N, n], or [N, |G|, n] if the labels given to `fit` had three dimensions.

        Raises:
            NotFittedError: `fit` has not been called.
            ValueError: X has another shape, or is not finite.
        """
        inputs, net = self._inputs(X), self.net_
        width = net.block(0).weight.shape[1] + net.windows.size * (net.n_inputs + net.n_labels)
        step = max(1, NUMBERS_AT_ONCE // (net.n_locations * width))
        scores = np.empty((*inputs.shape[:2], net.n_labels), np.float32)
        with torch.no_grad():
            for first in range(0, len(inputs), step):
                chunk = torch.tensor(inputs[first : first + step], device=net.n_trained.device)
                scores[first : first + step] = net(chunk).cpu().numpy()
        return scores if self._has_locations else scores[:, 0]

    def predict(self, X: ArrayLike | Tensor) -> NDArray[np.int8]:
        """Signs of the scores, −1 or 1, in the shape of `decision_function`; a score of exactly 0 gives −1."""
        return np.where(self.decision_function(X) > 0, 1, -1).astype(np.int8)

    def score(self, X: ArrayLike | Tensor, Y: ArrayLike | Tensor) -> float:
        """Share of the observed pairs that are predicted right.

        Args:
            X: Inputs as for `predict`.
            Y: Labels in {−1, 0, 1}, in the shape of the predictions; 0 = not observed.

        Raises:
            NotFittedError: `fit` has not been called.
            ValueError: X or Y does not fit the above, or no label is observed.
        """
        predictions, labels = self.predict(X), np.asarray(Y)
        check_labels(labels, predictions.shape)
        return float((predictions == labels)[labels != 0].mean())

    def plot_staircase(self) -> Figure:
        """A heat map of `level_accuracy_`: one step up for each block that learned a level.

        Raises:
            NotFittedError: `fit` has not been called.
        """
        self._check_fitted()
        return draw_staircase(self.level_accuracy_.tolist(), self.levels_)

    def _problems(self) -> list[str]:
        problems = at_least(1, n_blocks=self.n_blocks, n_features=self.n_features, batch_size=self.batch_size)
        problems += at_least(1, max_epochs_per_block=self.max_epochs_per_block)
        problems += at_least(0, random_state=self.random_state)
        problems += within("acceptance_fraction", self.acceptance_fraction, "[0, 1)")
        if self.unobserved not in TREATMENTS:
            problems.append(f"unobserved must be one of {', '.join(TREATMENTS)}, got {self.unobserved!r}")
        if not isinstance(self.solver, Solver) and self.solver not in tuple(SOLVERS):
            problems.append(f"solver must be one of {', '.join(SOLVERS)} or a Solver, got {self.solver!r}")
        for name, kind in (("loss", MarginLoss), ("proximity", Proximity), ("adaptation", AdaptiveDraw)):
            if not isinstance(getattr(self, name), kind | None):
                problems.append(f"{name} must be a {kind.__name__} or None, got {getattr(self, name)!r}")
        if self.adaptation is not None and self.acceptance_fraction == 0:
            problems.append("acceptance_fraction must be positive for an adaptation, got 0")
        if self.acceptance != "none" and self.acceptance_fraction == 0:
            problems.append(f"acceptance_fraction must be positive unless acceptance is none, got {self.acceptance!r}")
        return problems

    def _task(self, data: ArrayHierarchy) -> LayerwiseTask:
        return LayerwiseTask(
            data.n_inputs,
            data.n_labels,
            data.n_locations,
            data.levels,
            self.proximity,
            n_blocks=self.n_blocks,
            n_features=self.n_features,
            beta=self.beta,
            activation=self.activation,
            loss=self.loss,
            unobserved=self.unobserved,
            solver=copy.deepcopy(self.solver) if isinstance(self.solver, Solver) else SOLVERS[self.solver](),
            regularization=self.regularization,
            adaptation=self.adaptation,
            weight_seed=self.random_state,
        )

    def _inputs(self, X: ArrayLike | Tensor) -> NDArray[np.float32]:
        """X as a float32 table [N, |G|, d], checked."""
        self._check_fitted()
        table = np.asarray(X.detach().cpu() if isinstance(X, Tensor) else X, np.float32)
        inputs = table[:, None] if table.ndim == 2 else table
        n_locations, d = self.net_.n_locations, self.net_.n_inputs
        if inputs.ndim != 3 or inputs.shape[1:] != (n_locations, d):
            shape = f"[rows, {n_locations}, {d}]" if n_locations > 1 else f"[rows, {d}]"
            raise ValueError(f"X must have shape {shape} as in fit, got {list(table.shape)}")
        if len(wrong := np.argwhere(~np.isfinite(inputs))):
            row, location, channel = wrong[0].tolist()
            value = inputs[row, location, channel]
            raise ValueError(f"X must be finite, got {value} at row {row}, location {location}, input {channel}")
        return inputs

    def _check_fitted(self) -> None:
        if not hasattr(self, "net_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit(X, Y) first")

    def __repr__(self) -> str:
        parameters = inspect.signature(type(self)).parameters
        given = {name: repr(value) for name, value in self.get_params().items()}
        changed = [f"{name}={text}" for name, text in given.items() if text != repr(parameters[name].default)]
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of estimators in its pipelines and searches; only it calls this."""
        from sklearn.utils import ClassifierTags, Tags, TargetTags  # type: ignore[import-untyped]

        target = TargetTags(required=True, two_d_labels=True, multi_output=True, single_output=False)
        return Tags(estimator_type="classifier", target_tags=target, classifier_tags=ClassifierTags(multi_label=True))


def check_labels(labels: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Raises a ValueError unless labels have this shape, are in {−1, 0, 1}, not coded 0/1, and some are observed."""
    if labels.shape != shape:
        raise ValueError(f"Y must have shape {list(shape)} for this X, got {list(labels.shape)}")
    valid = np.isin(labels, (-1, 0, 1))
    if not valid.all():
        raise ValueError(f"Y must be in {{-1, 0, 1}} (0 = not observed), got {labels[~valid][0]}")
    if not labels.any():
        raise ValueError("Y must have an observed label, -1 or 1, got none")
    columns = labels.reshape(-1, shape[-1])
    if not (labels == -1).any() and ((columns == 0).any(0) & (columns == 1).any(0)).all():
        raise ValueError(
            "Y must be in {-1, 0, 1} (0 = not observed), got values [0, 1] and no -1 at all: "
            "convert 0/1 labels y with 2*y-1"
        )


class BlockRecord(L.Callback):
    """Keeps each block's report and the accuracy of each level after it."""

    def __init__(self) -> None:
        self.blocks: list[BlockReport] = []
        self.levels: list[int] = []
        self.accuracy: list[list[float]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """After a block and its validation: keeps what is known of both."""
        report, pl_module.report = pl_module.report, None
        if report is not None:
            rows = level_rows(pl_module.results["val"], pl_module.levels, pl_module.learned_accuracy)
            self.blocks.append(replace(report, train={name: value.cpu() for name, value in report.train.items()}))
            self.levels = [int(row["level"]) for row in rows]
            self.accuracy.append([row["accuracy"] for row in rows])


@contextmanager
def quiet(silent: bool) -> Iterator[None]:
    """Silences Lightning's messages and hints, if `silent`, but no warning of hierlit's own."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    with warnings.catch_warnings():
        if silent:
            logger.setLevel(logging.ERROR)
            warnings.simplefilter("ignore", PossibleUserWarning)
        try:
            yield
        finally:
            logger.setLevel(level)
