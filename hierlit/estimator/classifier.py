"""HierarchicalClassifier: fit, predict and score on arrays, in the manner of scikit-learn."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from numbers import Integral
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, validate_data
from torch import Tensor

from hierlit.data.arrays import ArrayHierarchy
from hierlit.estimator.fitting import (
    check_observed,
    fit_net,
    makes_choices,
    option_problems,
    val_fraction_of,
    warn_of_rounding,
)
from hierlit.estimator.probabilities import Floats, consistent, descendants, numbered
from hierlit.estimator.targets import ClassTargets, LabelTargets, as_array, as_dense
from hierlit.layerwise.adaptive_draw import AdaptiveDraw
from hierlit.layerwise.calibration import find_implications, fit_calibration
from hierlit.layerwise.implications import Counts
from hierlit.layerwise.losses import MarginLoss
from hierlit.layerwise.solvers import Solver
from hierlit.models import Calibration, Features, Proximity
from hierlit.models.checks import raise_problems
from hierlit.training.trainer import threads
from hierlit.watching.figures import draw_staircase

LARGEST_SEED = 2**31 - 1


class HierarchicalClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn classifier trained block by block, of one class a row or of many labels.

    The same `LayerwiseTask` and `LayerwiseTraining` as on the command line, on one device, writing no file. Arguments
    are stored as given and checked by `fit`. `fit` takes as `y`

    - classes [N], of any type, two or more; a row whose class is NaN or None counts for nothing;
    - labels [N, n] in {0, 1} or in {−1, 1}, NaN where they are not observed;
    - labels in {−1, 0, 1} with 0 for not observed; see `zero_labels`;
    - labels [N, |G|, n], for inputs [N, |G|, d] at locations.

    X and y may be sparse, arrays or matrices of scipy or columns of pandas. Both are made dense; what is not stored
    is 0.

    Predictions are dense, coded as `y`. They are the most probable ones: a label is predicted where `predict_proba` is
    above ½, and `decision_function` above 0.

    Args:
        n_blocks: Residual blocks D−1.
        n_features: Features q per block, at most where the solver chooses. When None, 1000, or 10,000 where it chooses
            radial units.
        features: Kind of the random features; GaussianFeatures, the paper's, when None and the solver is not `auto`.
        loss: ℓ, of margins; SquaredLoss when None.
        unobserved: What becomes of labels that are not observed: ignore, assume_negative, weak_assume_negative or
            maximize_entropy.
        zero_labels: What 0 means in labels: negative, not_observed, or auto: negative if there is no −1 at all, not
            observed if each label with a 0 has a −1 too and none is NaN, an error otherwise. With a treatment of labels
            that are not observed, `auto` is not_observed.
        solver: `auto`, `exact`, `gradient`, or a `Solver`. `auto` chooses on rows left out of the fits: radial units
            or cosines, their bandwidth or draw, λ of each label, number of blocks; see
            `AutoSolver`. It reads no regularization and sets no rows aside for acceptance. With features, a loss, an
            adaptation or strict acceptance it is `exact`, for these are to be as they are given.
        adaptation: Redraws W¹ towards the coordinates that the labels depend on; the paper's draw when None.
        acceptance: none, gain or strict.
        acceptance_fraction: Share of the training rows set aside to decide acceptance, in [0, 1).
        proximity: Windows E_g; each location sees itself alone when None.
        regularization: λ of F_k.
        max_epochs_per_block: A block that has not converged by then is frozen all the same, with a warning.
        stop_when_learned: Stop before the last block once every label has its margin on every training row.
        batch_size: Rows in a batch.
        levels: True level of each label, from 1, if known; only `level_accuracy_` reads it.
        val_fraction: Share of the rows given to `fit`, in [0, 1), that is never fitted on: `level_accuracy_` is theirs,
            and the probabilities are fitted to them and the rows set aside for acceptance; with `auto` to all rows, by
            scores of fits without them. When None, 0.1; 0 with `auto`, unless there are levels or several draws.
        hierarchy: Edges (parent, child) between labels, as in `classes_`; predictions alone know them. Log-odds are
            then raised to those of a label's descendants, so that none is above its parents.
        accelerator: Lightning's name of the device to fit on: auto, cpu, gpu, ...
        n_jobs: Threads of the CPU to fit and predict with; −1 for all, torch's own number when None.
        n_draws: Networks, of as many draws of the frozen weights, whose scores are averaged.
        random_state: Seed of the frozen weights, the splits and the batches; new ones at each fit when None.
        verbose: Show progress and Lightning's messages.

    Attributes:
        classes_ (NDArray): The classes, sorted; of labels, their columns' names if `y` was a data frame, or numbers.
        net_ (HierarchicalResNet): The trained network, on the CPU, in float64: a row's scores do not depend on the
            other rows of its batch. Predictions are computed where it is.
        nets_ (tuple[HierarchicalResNet, ...]): The networks of all draws, that one first.
        calibration_ (Calibration): Log-odds as a function of the scores ŷ: that of `net_`, or with `n_draws` one of
            the networks' mean scores.
        blocks_ (list[BlockReport]): What is known of each block of `net_`: certificate, epochs, accepted labels, ...
        levels_ (list[int]): The levels, ascending; [1] if none were given.
        level_accuracy_ (NDArray): Accuracy [blocks, levels] of the signs of its ŷ on the validation rows; where there
            are none on those fitted, by scores of fits without them.
        n_features_in_ (int): Input channels d.
        feature_names_in_ (NDArray): Names of the inputs [d], if X was a data frame whose columns are all called by
            strings.
    """

    def __init__(
        self,
        n_blocks: int = 8,
        n_features: int | None = None,
        features: Features | None = None,
        loss: MarginLoss | None = None,
        unobserved: str = "ignore",
        zero_labels: str = "auto",
        solver: str | Solver = "auto",
        adaptation: AdaptiveDraw | None = None,
        acceptance: str = "gain",
        acceptance_fraction: float = 0.2,
        proximity: Proximity | None = None,
        regularization: float = 1e-3,
        max_epochs_per_block: int = 2000,
        stop_when_learned: bool = False,
        batch_size: int = 1024,
        levels: Sequence[int] | None = None,
        val_fraction: float | None = None,
        hierarchy: Sequence[tuple[Any, Any]] | None = None,
        accelerator: str = "auto",
        n_jobs: int | None = None,
        n_draws: int = 1,
        random_state: int | np.random.RandomState | None = 0,
        verbose: bool = False,
    ) -> None:
        self.n_blocks, self.n_features, self.features = n_blocks, n_features, features
        self.loss, self.solver, self.regularization = loss, solver, regularization
        self.unobserved, self.zero_labels = unobserved, zero_labels
        self.adaptation = adaptation
        self.acceptance, self.acceptance_fraction = acceptance, acceptance_fraction
        self.proximity = proximity
        self.max_epochs_per_block, self.stop_when_learned = max_epochs_per_block, stop_when_learned
        self.batch_size = batch_size
        self.levels, self.val_fraction, self.hierarchy = levels, val_fraction, hierarchy
        self.accelerator, self.n_jobs, self.n_draws = accelerator, n_jobs, n_draws
        self.random_state, self.verbose = random_state, verbose

    def fit(self, X: ArrayLike | Tensor, y: ArrayLike | Tensor) -> HierarchicalClassifier:
        """Train the network.

        Args:
            X: Inputs [N, d], which may be sparse, or [N, |G|, d]; finite.
            y: Classes [N], or labels [N, n] or [N, |G|, n]; see above.

        Returns:
            The estimator itself.

        Raises:
            ValueError: An argument of the constructor is out of range, the arrays do not fit the above, a sparse one is
                larger than the available memory when dense, or a label has no observed entry.
        """
        raise_problems(option_problems(self))
        targets = as_array(y)
        inputs = self._inputs(X, is_fit=True)
        check_consistent_length(inputs, targets)
        self._has_locations = targets.ndim == 3
        self._targets = self._find_targets(targets, getattr(y, "columns", None))
        self._below = self._find_descendants()
        labels = self._targets.encode(targets)
        if self.unobserved == "ignore":
            check_observed(labels, self.classes_)
        seed = self._seed()
        data = ArrayHierarchy(
            inputs,
            labels,
            levels=self.levels,
            val_fraction=val_fraction_of(self),
            batch_size=self.batch_size,
            acceptance_fraction=0.0 if makes_choices(self) else self.acceptance_fraction,
            data_seed=seed,
            positives_only=True,
        )
        if isinstance(self._targets, ClassTargets) and labels.shape[-1] > 1:
            data.class_labels = {"y": range(labels.shape[-1])}
        with threads(self.n_jobs), torch.random.fork_rng(devices=[]):
            self.nets_, records = zip(*(fit_net(self, data, seed + draw) for draw in range(self.n_draws)), strict=True)
        self.net_, record = self.nets_[0], records[0]
        self.blocks_, self.levels_, self.level_accuracy_ = record.blocks, record.levels, np.array(record.accuracy)
        self.calibration_ = self.net_.calibration if self.n_draws == 1 else self._calibration_of_means(data)
        return self

    def decision_function(self, X: ArrayLike | Tensor) -> Floats:
        """Log-odds of the classes or labels, made of the network's scores ŷ; see `Calibration`.

        Args:
            X: Inputs [N, d] or [N, |G|, d], finite, d and |G| as in `fit`.

        Returns:
            Log-odds [N, n], in the shape of `y` for labels; [N], those of `classes_[1]`, for two classes.

        Raises:
            NotFittedError: `fit` has not been called.
            ValueError: X has another shape, or is not finite.
        """
        (last,) = deque(self._staged_log_odds(X), maxlen=1)
        return last

    def predict_proba(self, X: ArrayLike | Tensor) -> Floats:
        """Probabilities, from the scores of rows that no fit has seen; see `Calibration`.

        Args:
            X: Inputs as for `decision_function`.

        Returns:
            Of classes [N, k], their sum 1; of labels [N, n] or [N, |G|, n], each that the label is 1.
        """
        return self._probabilities(self.decision_function(X))

    def staged_predict_proba(self, X: ArrayLike | Tensor) -> Iterator[Floats]:
        """Yield the probabilities after each block; all have the curves of the last."""
        return map(self._probabilities, self._staged_log_odds(X))

    def predict(self, X: ArrayLike | Tensor) -> NDArray[Any]:
        """Return the most probable classes or labels, coded as the `y` of `fit`."""
        log_odds = self.decision_function(X)
        return self._targets.decode(log_odds)

    def score(self, X: ArrayLike | Tensor, y: ArrayLike | Tensor) -> float:
        """Share of the observed classes, or of the observed labels, that are predicted right.

        Args:
            X: Inputs as for `predict`.
            y: Classes, or labels in the shape of the predictions, as in `fit`.

        Raises:
            NotFittedError: `fit` has not been called.
            ValueError: X or y does not fit the above, or no label is observed.
        """
        predictions, targets = self.predict(X), as_array(y)
        check_consistent_length(predictions, targets)
        return self._targets.score(targets, predictions)

    def plot_staircase(self) -> Figure:
        """Return a heat map of `level_accuracy_`: one step up for each block that learned a level.

        Raises:
            NotFittedError: `fit` has not been called.
        """
        check_is_fitted(self)
        return draw_staircase(self.level_accuracy_, self.levels_)

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(LARGEST_SEED))

    def _find_targets(self, y: NDArray[Any], columns: Any) -> ClassTargets | LabelTargets:
        """Return the kind of targets y; sets `classes_`."""
        if y.ndim == 1:
            targets = ClassTargets.of(y)
            self.classes_ = targets.classes
            return targets
        zero_labels = self.zero_labels
        if zero_labels == "auto" and self.unobserved != "ignore":
            zero_labels = "not_observed"
        self.classes_ = np.arange(y.shape[-1]) if columns is None else np.asarray(columns)
        return LabelTargets.of(y, self.classes_, zero_labels)

    def _find_descendants(self) -> NDArray[np.bool_] | None:
        """Return which labels are below which, if a hierarchy is given."""
        if self.hierarchy is None:
            return None
        if isinstance(self._targets, ClassTargets):
            raise ValueError("hierarchy must be None for one class a row: it is one of labels")
        names = self.classes_.tolist()
        return descendants(numbered(self.hierarchy, names), len(names))

    def _calibration_of_means(self, data: ArrayHierarchy) -> Calibration:
        """Return a calibration of the networks' mean scores, of rows that no block was fitted on.

        It has implications between labels of those that blocks were fitted on.
        """
        train, val = data.tables["train"], data.tables["val"]
        inputs = torch.cat([train.inputs[data.held_rows], val.inputs]).numpy()
        labels = torch.cat([train.labels[data.held_rows], val.labels]).numpy()
        with threads(self.n_jobs):
            (scores,) = deque(self._stages(inputs), maxlen=1)
        calibration = fit_calibration(scores, labels, self.net_.calibration.membership.numpy())
        fitted = train.labels[data.fit_rows]

        def count(chosen: Tensor) -> tuple[Counts, Counts]:
            return Counts.of(fitted[:0, :, chosen]), Counts.of(fitted[..., chosen])

        find_implications(calibration, np.stack([scores, labels], 1), count)
        return calibration

    def _staged_log_odds(self, X: ArrayLike | Tensor) -> Iterator[Floats]:
        check_is_fitted(self)
        inputs = self._inputs(X, is_fit=False)
        stages = self._stages(inputs)
        while True:
            with threads(self.n_jobs):
                scores = next(stages, None)
            if scores is None:
                return
            log_odds: Floats = self.calibration_.log_odds(torch.from_numpy(scores)).numpy()
            if self._below is not None:
                log_odds = consistent(log_odds, self._below)
            if not self._has_locations:
                log_odds = log_odds[:, 0]
            is_binary = isinstance(self._targets, ClassTargets) and log_odds.shape[1] == 1
            yield log_odds[:, 0] if is_binary else log_odds

    def _stages(self, inputs: NDArray[np.float32]) -> Iterator[Floats]:
        """Yield the scores ŷ [N, |G|, n] after each block, means over the networks."""
        rows = torch.from_numpy(inputs)
        scores: tuple[Tensor, ...] = (torch.empty(0),) * len(self.nets_)
        for found in zip_longest(*(net.staged_scores(rows) for net in self.nets_)):
            scores = tuple(old if new is None else new for old, new in zip(scores, found, strict=True))
            yield torch.stack(scores).mean(0).cpu().numpy()

    def _probabilities(self, log_odds: Floats) -> Floats:
        probabilities: Floats = expit(log_odds)
        if not isinstance(self._targets, ClassTargets):
            return probabilities
        if probabilities.ndim == 1:
            return np.stack([1 - probabilities, probabilities], 1)
        probabilities /= probabilities.sum(1, keepdims=True)
        return probabilities

    def _inputs(self, X: ArrayLike | Tensor, is_fit: bool) -> NDArray[np.float32]:
        """X as a float32 table [N, |G|, d], checked as scikit-learn does."""
        table: Any = X.detach().cpu().numpy() if isinstance(X, Tensor) else X
        if getattr(table, "ndim", 2) == 3:
            inputs: NDArray[np.float32] = check_array(table, dtype=np.float32, allow_nd=True, input_name="X")
            if is_fit:
                self.n_features_in_ = inputs.shape[2]
        else:
            fills = [getattr(kind, "fill_value", None) for kind in (table.dtypes if hasattr(table, "columns") else ())]
            if None not in fills and any(fill != 0 for fill in fills):  # of pandas; scipy has no fill but 0
                table = table.sparse.to_dense()
            options = {"accept_sparse": "csr", "dtype": np.float32, "ensure_min_samples": 1 + is_fit}
            checked = validate_data(self, table, reset=is_fit, **options)
            inputs = (as_dense(checked, "X") if issparse(checked) else checked)[:, None]
            if is_fit and not issparse(checked):
                warn_of_rounding(table)
        if not is_fit and inputs.shape[1:] != (self.net_.n_locations, self.net_.n_inputs):
            n_locations, d = self.net_.n_locations, self.net_.n_inputs
            shape = f"[rows, {n_locations}, {d}]" if n_locations > 1 else f"[rows, {d}]"
            raise ValueError(f"X must have shape {shape} as in fit, got {list(np.shape(table))}")
        return inputs

    def __sklearn_tags__(self) -> Any:
        """For scikit-learn: what inputs and targets `fit` takes."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.two_d_labels = tags.target_tags.multi_output = tags.classifier_tags.multi_label = True
        return tags
