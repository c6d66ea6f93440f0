"""How a `HierarchicalClassifier` trains a network: its options checked, made into a task, and fitted in memory."""

from __future__ import annotations

import warnings
from dataclasses import replace
from numbers import Real
from typing import Any

import lightning as L
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from hierlit.data.arrays import ArrayHierarchy
from hierlit.data.tables.features import float32_notices
from hierlit.estimator.targets import ZERO_LABELS
from hierlit.layerwise.acceptance import RULES
from hierlit.layerwise.adaptive_draw import AdaptiveDraw
from hierlit.layerwise.auto import AutoSolver
from hierlit.layerwise.losses import MarginLoss
from hierlit.layerwise.report import BlockReport
from hierlit.layerwise.solvers import ExactSolver, GradientSolver, KernelSolver, Solver
from hierlit.layerwise.unobserved import TREATMENTS
from hierlit.models import Features, HierarchicalResNet, Proximity, RadialFeatures
from hierlit.models.checks import at_least, within
from hierlit.training import LayerwiseTask, LayerwiseTraining
from hierlit.training.trainer import fit_in_memory
from hierlit.watching import BlockProgress
from hierlit.watching.levels import level_rows

SOLVERS: dict[str, type[Solver]] = {"auto": AutoSolver, "exact": ExactSolver, "gradient": GradientSolver}
FOLDS = 5
"""Folds of a run that makes its choices on rows left out."""
N_FEATURES, MOST_UNITS = 1000, 10_000
UNREAD = {"features": (None, RadialFeatures()), "adaptation": (None,), "acceptance": ("gain", "none")}
"""What a `KernelSolver` or `AutoSolver` chooses itself, and the values that it takes all the same."""


def solver_of(options: BaseEstimator) -> Solver:
    """Return the solver of a classifier's arguments."""
    if isinstance(options.solver, Solver):
        return options.solver
    given = any(getattr(options, name) is not None for name in ("features", "loss", "adaptation"))
    is_exact = options.solver == "auto" and (given or options.acceptance == "strict")
    return SOLVERS["exact" if is_exact else options.solver]()


def makes_choices(options: BaseEstimator) -> bool:
    """Whether a classifier chooses on rows left out what else would have to be set."""
    return isinstance(solver_of(options), KernelSolver)


def val_fraction_of(options: BaseEstimator) -> float:
    """Return the share of the rows that no block is fitted to."""
    if options.val_fraction is not None:
        return float(options.val_fraction)
    needs_none = makes_choices(options) and options.levels is None and options.n_draws == 1
    return 0.0 if needs_none else 0.1


def option_problems(options: BaseEstimator) -> list[str]:
    """Return what is wrong with the arguments of a classifier, a line each."""
    problems = at_least(1, n_blocks=options.n_blocks, batch_size=options.batch_size)
    problems += [] if options.n_features is None else at_least(1, n_features=options.n_features)
    problems += at_least(1, max_epochs_per_block=options.max_epochs_per_block, n_draws=options.n_draws)
    seed = options.random_state
    if not (seed is None or seed is np.random or isinstance(seed, np.random.RandomState)) and at_least(0, seed=seed):
        problems.append(f"random_state must be an integer >= 0, a RandomState or None, got {seed!r}")
    problems += [] if options.val_fraction is None else within("val_fraction", options.val_fraction, "[0, 1)")
    if not isinstance(options.regularization, Real):
        problems.append(f"regularization must be positive, got {options.regularization!r}")
    problems += within("acceptance_fraction", options.acceptance_fraction, "[0, 1)")
    valid_of = {"unobserved": tuple(TREATMENTS), "zero_labels": ZERO_LABELS, "acceptance": RULES}
    for name, valid in valid_of.items():
        if getattr(options, name) not in valid:
            problems.append(f"{name} must be one of {', '.join(valid)}, got {getattr(options, name)!r}")
    if not isinstance(options.solver, Solver) and options.solver not in tuple(SOLVERS):
        return [*problems, f"solver must be one of {', '.join(SOLVERS)} or a Solver, got {options.solver!r}"]
    kinds = {"loss": MarginLoss, "proximity": Proximity, "adaptation": AdaptiveDraw, "features": Features}
    for name, kind in kinds.items():
        if not isinstance(getattr(options, name), kind | None):
            problems.append(f"{name} must be a {kind.__name__} or None, got {getattr(options, name)!r}")
    for name, values in UNREAD.items() if isinstance(options.solver, KernelSolver) else ():
        if (given := getattr(options, name)) not in values:
            problems.append(f"{name} must be {' or '.join(map(str, values))} with this solver, got {given!r}")
    if options.adaptation is not None and options.acceptance_fraction == 0:
        problems.append("acceptance_fraction must be positive for an adaptation, got 0")
    if options.acceptance != "none" and options.acceptance_fraction == 0 and not makes_choices(options):
        problems.append(f"acceptance_fraction must be positive unless acceptance is none, got {options.acceptance!r}")
    if options.n_jobs is not None and (at_least(-1, n_jobs=options.n_jobs) or options.n_jobs == 0):
        problems.append(f"n_jobs must be an integer >= 1, -1 or None, got {options.n_jobs!r}")
    return problems


def fit_net(options: BaseEstimator, data: ArrayHierarchy, seed: int) -> tuple[HierarchicalResNet, BlockRecord]:
    """Train a network of this seed; return it on the CPU in float64, and what is known of its blocks."""
    solver, folded = solver_of(options), makes_choices(options)
    if folded:
        n_units = min(options.n_features or MOST_UNITS, data.n_rows["train"] * data.n_locations)
        features: dict[str, Any] = {"features": RadialFeatures(), "n_features": n_units}
    else:
        features = {"features": options.features, "adaptation": options.adaptation}
        features["n_features"] = options.n_features or N_FEATURES
    kept: dict[str, Any] = {
        name: getattr(options, name) for name in ("n_blocks", "loss", "unobserved", "regularization", "proximity")
    }
    kept |= {name: getattr(data, name) for name in ("n_inputs", "n_labels", "n_locations", "levels")}
    task, record = LayerwiseTask(solver=solver, weight_seed=seed, **kept, **features), BlockRecord()
    training = LayerwiseTraining(
        max_epochs_per_block=options.max_epochs_per_block,
        acceptance="none" if folded else options.acceptance,
        stop_when_learned=options.stop_when_learned,
        folds=FOLDS if folded else None,
    )
    callbacks = [training, *([BlockProgress()] if options.verbose else []), record]
    fit_in_memory(task, data, callbacks, options.accelerator, options.verbose)
    return task.net.cpu().double(), record


def check_observed(labels: NDArray[np.int8], names: NDArray[Any]) -> None:
    """Raise a ValueError that names the labels [..., n] without an observed entry, if there are any."""
    absent = ~labels.reshape(-1, labels.shape[-1]).any(0)
    if absent.any():
        named = ", ".join(map(str, names[absent][:5])) + (", ..." if absent.sum() > 5 else "")
        raise ValueError(f"each label of y must have an observed entry, got none for {named}")


def warn_of_rounding(table: Any) -> None:
    """Name columns of a dense table [N, d], of anything that NumPy makes numbers of, that are not for float32."""
    values = np.asarray(table, np.float64)
    names, remedy = getattr(table, "columns", range(values.shape[1])), "subtract their means, as StandardScaler does"
    for notice in float32_notices(values.min(0), values.max(0), list(map(str, names)), "columns of X", remedy):
        warnings.warn(notice, stacklevel=4)


class BlockRecord(L.Callback):
    """Keep each block's report and the accuracy of each level after it."""

    def __init__(self) -> None:
        self.blocks: list[BlockReport] = []
        self.levels: list[int] = []
        self.accuracy: list[list[float]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """After a block and its validation, keep what is known of both."""
        report = pl_module.report
        if report is not None:
            unseen = pl_module.results.get("val", report.train)
            rows = level_rows(unseen, pl_module.levels, pl_module.learned_accuracy)
            self.blocks.append(replace(report, train={name: value.cpu() for name, value in report.train.items()}))
            self.levels = [int(row["level"]) for row in rows]
            self.accuracy.append([row["accuracy"] for row in rows])
