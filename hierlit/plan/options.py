"""`plan`: what the fit of a config will cost, from the config alone (ours)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import torch
from torch.utils.benchmark import Timer

from hierlit.data import HierarchyDataModule
from hierlit.data.base import FixedBatches
from hierlit.data.checks import n_set_aside
from hierlit.layerwise.adaptive_draw import FEATURES_PER_TARGET, AdaptiveDraw
from hierlit.layerwise.auto import ALPHAS as AUTO_ALPHAS
from hierlit.layerwise.auto import DRAWS, N_COSINES, AutoSolver
from hierlit.layerwise.memory import FREE_SHARE, free_memory
from hierlit.layerwise.sized_draw import SizedDraw
from hierlit.layerwise.solvers import ExactSolver, GradientSolver, KernelSolver
from hierlit.layerwise.solvers.choice import LARGER, SMALLER
from hierlit.layerwise.solvers.ridge import ALPHAS, RESOLUTION
from hierlit.models.checks import raise_problems
from hierlit.models.first_layer import TILE
from hierlit.models.radial_units import RadialUnits
from hierlit.plan.sizes import Sizes, distinct_candidates
from hierlit.plan.work import Rates
from hierlit.training import LayerwiseTraining
from hierlit.training.task import LayerwiseTask

TYPICAL_EPOCHS = 200
"""Epochs of a block that is not solved in one: quickstart.yaml takes 33 to 290, 190 on average."""
GLIBC_HEAP = 32 * 2**20
"""Bytes below which glibc may keep memory that is freed."""


@dataclass(frozen=True)
class PlanOptions:
    """What a plan needs beyond the config of the run. Rates that are not given are measured here, in about a second.

    Args:
        devices: Processes of the second column.
        epochs: Epochs of a block, which no config tells: when None, 1 for the exact solver with the squared loss, else
            200. `layerwise.max_epochs_per_block` limits them.
        targets: Labels that an adaptive W¹ is drawn for; as many as the largest level has when None.
        flops: Operations a second of matrix products in the run's precision.
        factor_flops: Operations a second of float64 factorisations and eigenvalues.
        bandwidth: Bytes a second read from memory or written to it.
        link: Bytes a second between processes; the time of messages is left out when None.
        margin_growth: γ, by which a block grows the margins of labels that are right, for the paper's depth bound.
        details: Whether memory, work and messages are printed part by part.

    Raises:
        ValueError: One line naming each argument out of range.
    """

    devices: int = 8
    epochs: int | None = None
    targets: int | None = None
    flops: float | None = None
    factor_flops: float | None = None
    bandwidth: float | None = None
    link: float | None = None
    margin_growth: float | None = None
    details: bool = False

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None and name != "details"}
        problems = [f"plan.{name} must be positive, got {value}" for name, value in given.items() if not value > 0]
        raise_problems(problems)


class Run(NamedTuple):
    """A run to be planned.

    Attributes:
        task: The task, of one block: the others have the same sizes.
        data: The data, whose tables need not have been made.
        layerwise: The callback.
        n_blocks: Blocks of the run.
        dtype: Its precision.
        features: The precision of its random features.
        device: Where it will run.
        base: Bytes of memory that the libraries take.
    """

    task: LayerwiseTask
    data: HierarchyDataModule
    layerwise: LayerwiseTraining
    n_blocks: int
    dtype: torch.dtype
    features: torch.dtype
    device: torch.device
    base: int


def sizes_of(run: Run, options: PlanOptions, n_processes: int = 1, cosines: bool = False) -> Sizes:
    """Return the sizes of a run on a number of processes, of its first block where others are smaller.

    Where examples differ in their locations, all count as the longest one: what is planned is the most that it takes.

    Args:
        run: The run.
        options: What else there is to know.
        n_processes: The number of processes.
        cosines: Whether `AutoSolver` is taken to choose cosines.

    Raises:
        ValueError: If no plan is made for how it is trained; one line.
    """
    task, data = run.task, run.data
    if problem := unplanned(run):
        raise ValueError(f"plan knows of no {problem}")
    on_cpu, n_rows, precision = run.device.type == "cpu", data.n_rows, RESOLUTION[run.dtype]
    n_held = n_set_aside(n_rows["train"], data.acceptance_fraction)
    splits = {"fit": n_rows["train"] - n_held, "held": n_held, "val": n_rows["val"]}
    budget, features = task.rows.budget, task.net.block(0).features
    if budget is None:
        budget = FREE_SHARE * free_memory(run.device) / (n_processes if on_cpu else 1)
    sizes = Sizes(
        batches={  # of the first epoch, over all processes
            split: tuple(map(len, FixedBatches(torch.arange(number), data.batch_size, data.data_seed, split == "fit")))
            for split, number in splits.items()
        },
        n_rows=sum(n_rows.values()),
        n_locations=data.n_locations,
        n_inputs=data.n_inputs,
        n_labels=task.net.n_scores,
        n_features=min(features.n_centres, splits["fit"] * data.n_locations) or task.net.n_features,
        n_blocks=run.n_blocks,
        budget=budget,
        tile=TILE[run.device.type],
        heap=GLIBC_HEAP if on_cpu else 0,
        window=task.net.windows.size,
        n_processes=n_processes,
        itemsize=run.dtype.itemsize,
        feature_itemsize=run.features.itemsize,
        rotated=task.net.rotation is not None,
        calibrated=features.input_scale != "fan_in",
        epochs=epochs_of(run, options),
        n_folds=run.layerwise.folds or 0,
        is_radial=isinstance(features, RadialUnits),
    )
    if isinstance(task.solver, KernelSolver):
        return kernel_sizes(sizes, task.solver, run, options, cosines)
    if isinstance(task.solver, ExactSolver):
        alphas = task.solver.alphas
        n_candidates = distinct_candidates(alphas, precision, sizes.n_features) if alphas else 1
        sizes = replace(sizes, n_candidates=n_candidates, gcv=task.solver.choice == "gcv" or n_held == 0)
    elif isinstance(task.solver, GradientSolver):
        own = sizes.itemsize if sizes.n_folds else sizes.sum_itemsize
        sizes = replace(sizes, minibatch_epochs=task.solver.minibatch_epochs, n_eigenvalues=1, sum_itemsize=own)
    return sizes if task.adaptation is None else adapted(sizes, task.adaptation, run, options)


def adapted(sizes: Sizes, adaptation: AdaptiveDraw, run: Run, options: PlanOptions) -> Sizes:
    """Return the sizes with an adaptive W¹; with blocks that size themselves, those of one that learns at once."""
    redraws = adaptation.redraws
    if isinstance(adaptation, SizedDraw):
        redraws = 1
        sizes = replace(sizes, n_features=min(adaptation.smallest, sizes.n_features), read_channels=1, calibrated=False)
    levels = run.data.levels or [1] * sizes.n_labels
    targets = options.targets or max(map(levels.count, levels))
    return replace(
        sizes,
        redraws=redraws,
        draw_candidates=distinct_candidates(ALPHAS, RESOLUTION[run.dtype], sizes.n_features),
        draw_pairs=adaptation.n_pairs,
        n_targets=min(targets, sizes.n_labels, max(1, sizes.n_features // FEATURES_PER_TARGET)),
    )


def kernel_sizes(sizes: Sizes, solver: KernelSolver, run: Run, options: PlanOptions, cosines: bool) -> Sizes:
    """Return the sizes of a run whose solver makes choices on rows left out: of its radial units, or cosines."""
    rows = min(max(sizes.n_folds, solver.choice_rows // sizes.n_locations), sum(sizes.batches["fit"]))
    n_alphas, n_kinds = len(solver.among.alphas), len(solver.among.powers) + len(solver.among.spheres) - 1
    of_kind = min(3, len(solver.among.bandwidths)) * min(4, n_alphas)
    sizes = replace(
        sizes,
        choice_pairs=rows * sizes.n_locations,
        few_trials=n_kinds * of_kind,
        stretched_trials=of_kind,
        trials=min(3, n_alphas),
        label_trials=min(1 + SMALLER + LARGER, n_alphas),
    )
    radial = replace(sizes, n_candidates=1, sum_itemsize=sizes.itemsize)
    if not isinstance(solver, AutoSolver):
        return radial
    few = replace(sizes, n_features=min(N_COSINES, sizes.n_features), is_radial=False)
    few = adapted(few, DRAWS, run, options)
    held = rows // sizes.n_folds
    batches = {"fit": (rows - held,), "held": (held,), "val": ()}
    tried = replace(few, batches=batches, n_candidates=few.draw_candidates, n_folds=0, choice_pairs=0, n_processes=1)
    if not cosines:
        return replace(radial, tried=tried)
    n_candidates = distinct_candidates(AUTO_ALPHAS, RESOLUTION[run.dtype], few.n_features)
    return replace(few, n_candidates=n_candidates, by_folds=True, tried=tried)


def unplanned(run: Run) -> str:
    """Return what of a run no plan is made for; or nothing."""
    if run.task.joint is not None:
        return "joint training: leave model.joint out"
    if not isinstance(run.task.solver, ExactSolver | GradientSolver):
        return f"{type(run.task.solver).__name__}: let model.solver be ExactSolver or GradientSolver"
    return ""


def epochs_of(run: Run, options: PlanOptions) -> int:
    """Epochs of a block: given or typical, within the limits of the callback and the solver."""
    in_one = (
        isinstance(run.task.solver, ExactSolver)
        and run.task.loss.margin_loss.is_squared
        and run.task.loss.weight in (0, 1)
    )
    epochs = options.epochs or (1 if in_one else TYPICAL_EPOCHS)
    return max(run.task.solver.min_epochs, min(epochs, run.layerwise.stopping.max_epochs))


def rates_of(run: Run, options: PlanOptions) -> Rates:
    """Return the rates given; those that are not, measured on the run's device."""
    given = (options.flops, options.factor_flops, options.factor_flops, options.bandwidth)
    if None not in given:
        return Rates(*given)  # type: ignore[arg-type]
    return Rates(*(rate or found for rate, found in zip(given, measured_rates(run.device, run.dtype), strict=True)))


@cache
def measured_rates(device: torch.device, dtype: torch.dtype) -> list[float]:
    """Rates of a square product, a float64 Cholesky factorisation and eigenvalues, and a copy."""
    side = 1024
    rows = torch.randn(side, side, dtype=dtype, device=device)
    gram, large = (torch.eye(n, dtype=torch.float64, device=device) + 0.5 for n in (side, 2 * side))
    source, copy = (torch.zeros(2**25, device=device) for _ in range(2))
    actions: list[tuple[float, Callable[[], object]]] = [
        (2 * side**3, lambda: rows @ rows),
        ((2 * side) ** 3 / 3, lambda: torch.linalg.cholesky_ex(large)),
        (4 * side**3 / 3, lambda: torch.linalg.eigvalsh(gram)),
        (2 * source.nbytes, lambda: copy.copy_(source)),
    ]
    n_threads = torch.get_num_threads()
    timers = [Timer("action()", globals={"action": action}, num_threads=n_threads) for _, action in actions]
    return [amount / timer.timeit(2).mean for timer, (amount, _) in zip(timers, actions, strict=True)]
