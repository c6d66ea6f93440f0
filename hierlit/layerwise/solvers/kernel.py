"""Kernel machines as blocks, for tables: kernel, bandwidth and λ chosen on rows left out, solved exactly (ours)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hierlit.layerwise.gather import View, drawn, drawn_windows, first_rows, gather_rows
from hierlit.layerwise.solvers.choice import HELD, Candidates, Choice, JudgedRows, Trials, choose, penalty_of
from hierlit.layerwise.solvers.duals import DualSolver, in_duals
from hierlit.layerwise.solvers.left_out import LeftOut
from hierlit.layerwise.solvers.stretch import stretches
from hierlit.models.checks import is_count, raise_problems
from hierlit.models.radial_units import Kernel, RadialUnits, WhiteUnits, points_of, profile, squared_distances

if TYPE_CHECKING:
    from hierlit.layerwise.chunk import Chunk
    from hierlit.layerwise.problem import BlockProblem
    from hierlit.layerwise.unobserved import LabelLoss
    from hierlit.models.resnet import HierarchicalResNet

BANDWIDTHS = (0.35, 0.5, 0.7, 1.0, 1.5, 2.5, 4.0)
POWERS = (2.0, 1.0)
ALPHAS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
LATER_UNITS = 2500
"""Most units of a block that reads the scores: on rows left out of ImCLEF07D more gained nothing."""
SHRINKAGE = 1e-4
"""Of the intercept, at most: it is penalised like any weight, which a kernel machine's is not."""


class KernelSolver(DualSolver):
    """Solve F_k of radial units exactly, and choose what else would have to be set by hand (ours).

    A block's kernel has a power and a bandwidth, and may be one of directions alone. Block 1 reads the inputs, each
    stretched by how much a first fit leans on it (see `stretches`), where rows left out are ranked better so; later
    blocks read the scores. Each label has its own λ, measured in the norm of the function that it adds to the scores.
    All of these are those of the highest average precision on rows left out: on every fold of the rows in turn in the
    first block, on fold 0 in later ones, where no fit that is judged, nor any before it, has seen that fold (see
    `choice`). A block that does not raise the average precision stays at zero and ends the run. The rows that judge it
    have chosen its kernel too, so that a small table of noise may get a block too many.

    Later blocks have `LATER_UNITS` units at most. Labels that are not observed count as the scores before the block in
    the choices.

    It needs the squared loss, `RadialFeatures`, and folds of the rows, whose fits give the scores that later blocks
    train on.

    Args:
        bandwidths: Candidates for the bandwidth.
        powers: Candidates for the power: 2, Gaussian, or 1, Laplace's kernel, or both.
        alphas: Candidates for λ, as multiples of the kernel's mean diagonal over the rows.
        choice_rows: Pairs that λ is chosen on, of rows drawn at random; half of the rows are for the kernel. The fit is
            to all of them.
        on_sphere: Whether windows are divided by their root mean square; chosen when None.

    Raises:
        ValueError: One line naming each argument out of range.
    """

    def __init__(
        self,
        bandwidths: list[float] | None = None,
        powers: list[float] | None = None,
        alphas: list[float] | None = None,
        choice_rows: int = 2500,
        on_sphere: bool | None = None,
    ) -> None:
        super().__init__([])
        spheres = (False, True) if on_sphere is None else (on_sphere,)
        self.among = Candidates(powers or POWERS, spheres, sorted(bandwidths or BANDWIDTHS), sorted(alphas or ALPHAS))
        problems = [
            f"{name} must all be positive, got {values}"
            for name, values in (("bandwidths", self.among.bandwidths), ("alphas", self.among.alphas))
            if any(not value > 0 for value in values)
        ]
        if any(power not in POWERS for power in self.among.powers):
            problems.append(f"powers must be 1, 2 or both, got {self.among.powers}")
        if not is_count(choice_rows) or choice_rows < 2:
            problems.append(f"choice_rows must be 2 or more, got {choice_rows}")
        raise_problems(problems)
        self.choice_rows = choice_rows

    def refusals(self, net: HierarchicalResNet, loss: LabelLoss, folds: int | None) -> list[str]:
        """Return what is wrong unless the features are radial, the loss squared, and the rows in folds."""
        problems = []
        if not isinstance(net.block(0).features, RadialUnits):
            problems.append(f"{type(self).__name__} needs RadialFeatures, got {net.features}")
        if not loss.margin_loss.is_squared:
            given = type(loss.margin_loss).__name__
            problems.append(f"{type(self).__name__} needs SquaredLoss, got {given}, which GradientSolver takes")
        if folds is None:
            problems.append(f"{type(self).__name__} needs layerwise.folds of 2 or more, got null")
        return problems

    @torch.no_grad()
    def open(self, problem: BlockProblem, memory: dict[str, Any]) -> BlockProblem | None:
        """Choose kernel and λs on rows left out, and place the units; None if no block is worth adding."""
        problem = without_cosines(problem)
        sample = Sample(problem, self.choice_rows, memory)
        return self.place(problem, sample, sample.choose(self.among), memory)

    def place(
        self, problem: BlockProblem, sample: Sample, chosen: Choice | None, memory: dict[str, Any]
    ) -> BlockProblem | None:
        """Place units by the choice that was made on a sample; None if none is worth a block."""
        if chosen is None:
            sample.features.place(sample.windows[:0])
            if problem.block.index == 0 and problem.processes.rank == 0:
                text = "no kernel ranks rows left out better than at random: every score is its label's mean"
                warnings.warn(text, stacklevel=2)
            return None
        memory["judged"] = {"scores": sample.rows.scores, "change": chosen.change}
        shrinkage = chosen.penalties / problem.n_pairs
        amplitude = min(1.0, math.sqrt(SHRINKAGE / float(shrinkage.max())))
        n_units = sample.features.n_centres
        units = drawn_windows(problem, n_units if problem.block.index == 0 else min(n_units, LATER_UNITS))
        sample.features.place(units, chosen.kernel, sample.stretch, amplitude)
        return in_duals(problem.with_penalty(problem.loss.curvature * amplitude**2 * shrinkage))

    def sum_dtype(self, problem: BlockProblem) -> torch.dtype | None:
        """Return None: λ of a kernel machine is far above what float32 sums resolve."""
        return None

    def close(self, problem: BlockProblem, by_fold: Tensor | None, memory: dict[str, Any]) -> None:
        """Move the rows that judge past the block, where labels are accepted."""
        judged = memory.get("judged", {})
        change = judged.pop("change", None)
        if change is not None and by_fold is not None:
            judged["scores"] = judged["scores"] + change * (by_fold != 0).any(2).any(0)


class Sample:
    """Rows of all processes, drawn at random, on which a block's choices are made.

    Args:
        problem: The block.
        n_pairs: Pairs (row, location) of them.
        memory: What is remembered from block to block: their scores, once there is a block.

    Attributes:
        features: The features of the block, which trials place anew.
        stream: [x, scores] of the rows, [R, |G|, d+n], fold after fold.
        labels: Their labels, [R, |G|, n].
        folds: Their folds, [R].
        stretch: By what each coordinate of a window is multiplied, [fan_in]; 0 where the block does not read it.
        windows: The windows of the pairs, [P, fan_in], fold after fold.
        drawn: The place of each pair in the order in which rows were drawn, [P].
        rows: What else there is of the pairs.
    """

    def __init__(self, problem: BlockProblem, n_pairs: int, memory: Mapping[str, Any]) -> None:
        net, features = problem.rows.net, problem.block.features
        assert isinstance(features, WhiteUnits) and problem.rows.folds is not None
        self.features, self.is_first = features, problem.block.index == 0
        n_rows = max(problem.rows.folds.number, n_pairs // net.n_locations)
        chosen = drawn(problem.seed, "choice rows", 0, n_rows, first_rows(problem)[1])
        folds, order = gather_rows(problem, chosen, folds_of).sort(stable=True)
        stream, labels = (gather_rows(problem, chosen[order.cpu()], view) for view in (stream_of(net), labels_of))
        if "judged" in memory:
            if memory["judged"]["scores"].numel() != labels.numel():
                n_before = len(memory["judged"]["scores"])
                raise ValueError(
                    f"choice_rows must be as in the blocks trained so far, which were judged on {n_before} of them"
                )
            stream[..., net.n_inputs :] = memory["judged"]["scores"].view_as(labels)
        targets, weights = problem.loss.targets(labels)
        scores = stream[..., net.n_inputs :]
        parts = (scores, targets.sign() * (weights > 0), (targets - scores) * weights)
        self.rows = JudgedRows(folds.repeat_interleave(net.n_locations), *(part.flatten(0, 1) for part in parts))
        locations = torch.arange(net.n_locations, device=order.device)
        self.drawn = (order[:, None] * net.n_locations + locations).flatten()
        channels = torch.arange(net.n_inputs + net.n_scores, device=stream.device)
        self.stretch = ((channels < net.n_inputs) == self.is_first).repeat(net.windows.size).to(stream)
        self.windows = problem.block.windows(stream).flatten(0, 1)
        self.stream, self.labels, self.folds, self._seed = stream, labels, folds, problem.seed
        self._whole: Trials | None = None

    def choose(self, among: Candidates) -> Choice | None:
        """Return the best kernel and λs; None if they are not worth a block.

        In the first block inputs are then stretched by a fit of that kernel, and bandwidth and λs chosen again. They
        stay so if fold `HELD`, whose labels the stretches have not seen, is ranked better.
        """
        found = self._search(among)
        if found is not None and self.is_first:
            found = self._try_stretched(*found, among)
        return None if found is None else self.whole.by_label(*found, among.alphas)

    @property
    def whole(self) -> Trials:
        """Trials on all pairs, as they are stretched now."""
        if self._whole is None:
            self._whole = self.trials(torch.ones_like(self.drawn, dtype=torch.bool))
        return self._whole

    def _search(self, among: Candidates) -> tuple[Kernel, float] | None:
        few = self.drawn < max(int(self.rows.folds.max()) + 1, len(self.drawn) // 2)
        return choose(self.whole, self.trials(few), among)

    def _try_stretched(self, kernel: Kernel, alpha: float, among: Candidates) -> tuple[Kernel, float]:
        """Stretch the inputs if that ranks fold `HELD` better, and return the kernel and alpha for it."""
        plain, before = self.whole, self.stretch
        self.stretch, self._whole = self._stretched(kernel, alpha), None
        found = self._search(replace(among, powers=(kernel.power,), spheres=(kernel.on_sphere,)))
        if found is not None and self.whole.held_precision(*found) > plain.held_precision(kernel, alpha):
            return found
        self.stretch, self._whole = before, plain
        return kernel, alpha

    def _stretched(self, kernel: Kernel, alpha: float) -> Tensor:
        """Stretches [fan_in] by a fit to all folds but `HELD`."""
        fitted = self.rows.folds != HELD
        points, residual = points_of(self._read(self.windows[fitted]), kernel.on_sphere), self.rows.residual[fitted]
        squared, stretch = squared_distances(points, points), self.stretch.clone()
        gram, scale = gram_of_points(squared, kernel), scale_of(squared, kernel)
        fit = LeftOut(gram, penalty_of(gram, alpha), residual - residual.mean(0))
        stretch[stretch > 0] = stretches(points, squared, kernel, scale, fit.duals, self._seed)
        return stretch

    def _read(self, windows: Tensor) -> Tensor:
        read = self.stretch > 0
        return windows[:, read] * self.stretch[read]

    def trials(self, of: Tensor) -> Trials:
        """Trials on some of the pairs, boolean [P]."""
        rows, windows = JudgedRows(*(part[of] for part in self.rows)), self.windows[of]
        n_units = self.features.n_centres
        if len(windows) <= n_units:
            squared = cache(partial(distances, self._read(windows)))
            return Trials(rows, self.is_first, lambda kernel: gram_of_points(squared(kernel.on_sphere), kernel))
        units = windows[self.drawn[of].argsort()[:n_units]]
        return Trials(rows, self.is_first, partial(self._gram_of_units, windows, units))

    def _gram_of_units(self, windows: Tensor, units: Tensor, kernel: Kernel) -> Tensor:
        self.features.place(units, kernel, self.stretch)
        white: Tensor = self.features(windows)
        return white @ white.T


def without_cosines(problem: BlockProblem) -> BlockProblem:
    """Return the block with room for units, without the cosines that an earlier start of it may have left."""
    units = problem.rows.net.block(problem.block.index).features
    if isinstance(units, RadialUnits) and units.are_cosines:
        units.place(units.weight.new_zeros(0, units.weight.shape[1]))
        return replace(problem, block=problem.block._replace(features=units.opened()))
    return problem


def distances(read: Tensor, on_sphere: bool) -> Tensor:
    """Squared distances [P, P] of what is read of windows [P, r]."""
    points = points_of(read, on_sphere)
    return squared_distances(points, points)


def gram_of_points(squared: Tensor, kernel: Kernel) -> Tensor:
    """Centred kernel [P, P] of points, by their squared distances [P, P]."""
    gram = profile(squared * scale_of(squared, kernel), kernel.power)
    gram -= gram.mean(0)
    return gram.sub_(gram.mean(1, keepdim=True))


def scale_of(squared: Tensor, kernel: Kernel) -> float:
    """Return s² of r² = s²‖z − z'‖² by the squared distances [P, P] of points, half of whose mean is the variance."""
    variance = float(squared.double().mean()) / 2 * len(squared) / max(1, len(squared) - 1)
    return 1 / (kernel.bandwidth**2 * variance) if variance > 0 else 1.0


def stream_of(net: HierarchicalResNet) -> View:
    """View the stream as [x, scores], [B, |G|, d+n]."""
    return lambda chunk, rows, places: net.split(chunk.stream[rows])


def labels_of(chunk: Chunk, rows: Tensor, places: Tensor) -> Tensor:
    """Labels [B, |G|, n] of rows of a chunk."""
    return chunk.labels[rows]


def folds_of(chunk: Chunk, rows: Tensor, places: Tensor) -> Tensor:
    """Folds [B] of rows of a chunk."""
    assert chunk.folds is not None
    return chunk.folds[rows]
