"""Adaptive W¹: random features drawn again, along the coordinates that the labels turned out to depend on (ours)."""

from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from hierlit.draws import generator_of
from hierlit.layerwise.moments import take_moments
from hierlit.layerwise.problem import BlockProblem
from hierlit.layerwise.solvers.ridge import ALPHAS, RESOLUTION, RidgePath, penalties_of
from hierlit.models.checks import is_count, raise_problems
from hierlit.models.random_features import RandomFeatures

AGOP_PAIRS = 8192
"""Pairs that gradients are averaged over, in whole batches: a mean needs fewer than a fit."""
FEATURES_PER_TARGET = 32
"""Least number of features for each label that W¹ is drawn for."""


@dataclass(frozen=True)
class AdaptiveDraw:
    """Draw a block's W¹ several times, each time fitted to a few rows, and lean on the coordinates the fit used.

    The idea is that of recursive feature machines (Radhakrishnan et al., Science 2024): the average gradient outer
    product (AGOP) of a fit shows what its labels depend on. Here W¹ stays random, and frozen while W² trains: only the
    standard deviations of its columns, coordinates of a window of [x, scores], become proportional to the diagonal of
    the AGOP, or a power of it, each coordinate in units of its root mean square. Each row of W¹ takes the diagonal of
    one label, and the labels are those that gain most on the set-aside rows.

    Args:
        redraws: Draws beyond the first.
        n_pairs: Pairs (row, location) that W¹ is adapted on, in whole batches; gradients are averaged over `AGOP_PAIRS`
            of them, and the last draw is fitted to all pairs.
        threshold: Labels count whose squared error on set-aside rows falls by at least this share of the largest fall.
        floor: Weight of a uniform draw in the mixture with the adapted one, so that no coordinate is lost.
        exponent: Power of the diagonal that W¹'s standard deviations follow, in (0, 1]: 1 isolates coordinates soonest,
            less keeps those that a label depends on less.
        by_channel: Average the diagonal over the places of a window, so that a channel counts alike in all of them.
            Conway's Life needs that: its centre cell moves less than its neighbours do, and would be lost.

    Raises:
        ValueError: One line naming each argument out of range.
    """

    redraws: int = 2
    n_pairs: int = 8192
    threshold: float = 0.5
    floor: float = 0.005
    exponent: float = 1.0
    by_channel: bool = False

    def __post_init__(self) -> None:
        limits = {
            "redraws": (self.redraws, is_count(self.redraws), "a positive integer"),
            "n_pairs": (self.n_pairs, is_count(self.n_pairs), "a positive integer"),
            "threshold": (self.threshold, isinstance(self.threshold, Real) and 0 < self.threshold <= 1, "in (0, 1]"),
            "exponent": (self.exponent, isinstance(self.exponent, Real) and 0 < self.exponent <= 1, "in (0, 1]"),
            "floor": (self.floor, isinstance(self.floor, Real) and 0 <= self.floor <= 1, "in [0, 1]"),
        }
        problems = [f"{name} must be {valid}, got {value}" for name, (value, ok, valid) in limits.items() if not ok]
        raise_problems(problems)

    def labels(self, memory: dict[str, Any], n_scores: int) -> Tensor | None:
        """Return the scores [n'] of all `n_scores` that the next block may change; all when None."""
        return None

    def note(self, memory: dict[str, Any], block: int, train: dict[str, Tensor], accepted: Tensor) -> None:
        """Remember what the next draw needs of a block that is frozen; nothing by default."""

    def open(self, problem: BlockProblem, memory: dict[str, Any]) -> BlockProblem | None:
        """Draw the W¹ of a block that is to be trained.

        Args:
            problem: The block, whose features are redrawn in place.
            memory: What is remembered from block to block, tensors and plain values; changed in place.

        Returns:
            The problem, perhaps of fewer labels; None if no further block is worth adding.
        """
        self(problem)
        return problem

    @torch.no_grad()
    def __call__(self, problem: BlockProblem) -> None:
        """Leave a block with its last draw of W¹; with the one before, once no label gains.

        Args:
            problem: The block, whose features are redrawn in place; by the squared loss, whatever its ℓ.
        """
        net, features = problem.rows.net, random_features(problem)
        few = problem.squared().leading(self.n_pairs)
        for draw in range(self.redraws):
            few = replace(few)  # of these features nothing is known yet
            few.calibrate()
            weight, gain = best_ridge(few)
            targets = self.targets(gain, features.n_features)
            if not len(targets):
                return
            seen = few.leading(min(AGOP_PAIRS, self.n_pairs))
            agop, power = agop_diagonals(seen, weight[targets])
            generator = generator_of(problem.seed, problem.block.index, draw)
            features.redraw(self.coordinates(agop, power, problem.block.windows.size), generator)
            features.weight.copy_(net.stream_coordinates(features.weight))

    def targets(self, gain: Tensor, n_features: int) -> Tensor:
        """Labels that W¹ is drawn for, by the fall [n] of each label's error: the best first, none if nothing falls."""
        order = gain.argsort(descending=True)[: most_targets(n_features)]
        return order[(gain[order] > 0) & (gain[order] >= self.threshold * gain.max())]

    def coordinates(self, agop: Tensor, power: Tensor, n_places: int = 1) -> Tensor:
        """Factors [T, fan_in] of W¹'s standard deviations that leave the mean square of its pre-activations as it was.

        Args:
            agop: Diagonals [T, fan_in] of the AGOP of each target.
            power: Mean square [fan_in] of each coordinate.
            n_places: Locations of a window.
        """

        def normalised(factors: Tensor) -> Tensor:
            return factors * (power.sum() / (factors.square() @ power)).sqrt()[:, None]

        # in units of its own size, so that one which is always zero counts for nothing
        importance = agop * power
        if self.by_channel:
            places = importance.view(len(agop), n_places, -1)
            importance = places.mean(1, keepdim=True).expand_as(places).flatten(1)
        adapted = normalised((importance / importance.amax(1, keepdim=True)) ** self.exponent)
        return normalised((1 - self.floor) * adapted + self.floor)


def most_targets(n_features: int) -> int:
    """Return the most labels that W¹ is drawn for."""
    return max(1, n_features // FEATURES_PER_TARGET)


def ridge_weights(problem: BlockProblem) -> Tensor:
    """Return the ridge solutions [A, n, q+1] of a problem's moments, one for each of `ALPHAS`."""
    (moments,), penalty = take_moments(problem), problem.penalty
    resolution = RESOLUTION[penalty.dtype]
    if few := moments.of_few():
        thin, basis = few
        among = penalties_of(moments.gram, ALPHAS, resolution)
        return (RidgePath(thin.gram, thin.cross, among).weights @ basis.T).to(penalty)
    return RidgePath.of_alphas(moments.gram, moments.cross, ALPHAS, resolution).weights.to(penalty)


def best_ridge(problem: BlockProblem) -> tuple[Tensor, Tensor]:
    """Solve a calibrated block with the λ that is best for each label on the set-aside rows.

    Returns:
        The weight [n, q+1], and by how much each label's error falls there, [n].
    """
    weights = ridge_weights(problem)
    errors = problem.held_errors(weights)
    least, chosen = errors.after.min(0)
    return weights[chosen, torch.arange(len(chosen), device=chosen.device)], errors.before - least


def random_features(problem: BlockProblem) -> RandomFeatures:
    """Return the features of a block, of which the coordinates' weights are known."""
    features = problem.block.features
    if not isinstance(features, RandomFeatures):
        raise TypeError(f"adaptation redraws random features, got {type(features).__name__}")
    return features


def agop_diagonals(problem: BlockProblem, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared gradients of some labels' changes over the rows, by coordinate of a window of [x, scores].

    Args:
        problem: The block.
        weights: [T, q+1], a weight of the block for each label.

    Returns:
        The diagonals [T, fan_in] of the average gradient outer products, 0 at coordinates that are always 0, and the
        coordinates' mean squares [fan_in].
    """
    net, features = problem.rows.net, random_features(problem)
    first_layer = net.split_coordinates(features.weight * features.scale)
    totals = torch.zeros(len(weights) + 2, first_layer.shape[1], dtype=torch.float64, device=weights.device)
    for chunk in problem.chunks():
        coordinates = chunk.pairs(problem.block.seen(net.split(chunk.stream)))
        totals[-2] += coordinates.square().sum(0)
        totals[-1] += len(coordinates)
    varied = problem.processes.sum(totals[-2].clone()).nonzero()[:, 0]
    first_layer = first_layer[:, varied]
    for chunk in problem.chunks():
        for windows in torch.split(problem.rows.windows(chunk, problem.block), features.rows_at_once()):
            slopes = features.slopes(windows)
            for number, weight in enumerate(weights[:, :-1]):
                totals[number, varied] += ((slopes * weight) @ first_layer).square_().sum(0)
    totals = problem.processes.sum(totals)
    return (totals[:-2] / totals[-1]).to(weights), (totals[-2] / totals[-1]).to(weights)


torch.serialization.add_safe_globals([AdaptiveDraw])
