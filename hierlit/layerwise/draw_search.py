"""The search for a draw of W¹ that learns: what it reads, and how many features it needs (ours)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from hierlit.draws import generator_of
from hierlit.layerwise.acceptance import STRICT_SHARE, SetAsideSums, gains, variances, wrong_rates
from hierlit.layerwise.adaptive_draw import (
    FEATURES_PER_TARGET,
    AdaptiveDraw,
    agop_diagonals,
    best_ridge,
    most_targets,
    random_features,
    ridge_weights,
)
from hierlit.layerwise.problem import BlockProblem
from hierlit.models.random_features import RandomFeatures

GROWTH = 4
"""How many times as many features the next attempt has."""
GUESSES = 2
"""Attempts that read what the blocks before leaned on, before others read everything."""
ENOUGH = 3e-3
"""Share of what can be explained that may be left: noise of scores then does not grow from level to level."""
BETTER = 0.5
"""How much less must be left for a further draw to be worth it."""
NEAR = 3
"""How many times as much may be left of a label as of the best for the block to change it too, both of what can be
explained and of the whole variance: others wait until they are learned as well, rather than carry a guess on. What a
label depends on that is not learned yet looks like noise."""
CUT = 1e-2
"""Share of the largest importance below which a coordinate is not read."""
TWO_VALUED = 1e-6
"""Share of the product of second and fourth moment by which an input of two values may miss Pearson's inequality."""
SAMPLED = 32
"""Pairs for each feature that show which labels a draw may teach."""
PROMISING = (1 - NEAR * (1 - STRICT_SHARE)) / 8
"""Share of a label's variance that a sample must show as explained: half of what that is, at least, if the block may
change it, since a quarter of the variance counts as explainable in any case."""
SETTLED = 1e-6
"""Variance below which a label is looked at in any case."""
CONSTANT = 1e-9
"""Share of a label's mean square below which its variance is none."""
ALIKE = 0.25
"""Change of the factors, in units of their norm, up to which they are alike."""


class Reading(NamedTuple):
    """What a draw of W¹ reads.

    Attributes:
        channels: Channels of [x, scores], [c].
        factors: Of the standard deviations, [T, w·c]; row i of W¹ takes row i mod T.
    """

    channels: Tensor
    factors: Tensor

    def is_like(self, other: Reading) -> bool:
        """Return whether another draw from this is not worth its cost."""
        if not torch.equal(self.channels, other.channels) or self.factors.shape != other.factors.shape:
            return False
        return float((self.factors - other.factors).norm()) <= ALIKE * float(other.factors.norm())


class Draw(NamedTuple):
    """How W¹ is drawn.

    Attributes:
        n_features: q.
        reading: What it reads.
        number: Of the draw among those of the block.
    """

    n_features: int
    reading: Reading
    number: int


class Trial(NamedTuple):
    """What a draw has come to on a few rows, judged on the set-aside rows.

    Attributes:
        draw: The draw.
        gains: Numbers of the labels that the block is to change.
        learned: Those among them that gain as much as the strict acceptance asks for, and were not known.
        left: Share of what can be explained that is not, mean over the labels learned; 1 if none is.
        targets: Numbers of the labels that gain most, the best first.
        weight: The best weight of each label that was looked at, 0 of others, [n', q+1].
    """

    draw: Draw
    gains: Tensor
    learned: Tensor
    left: float
    targets: Tensor
    weight: Tensor

    def is_better(self, other: Trial) -> bool:
        """Return whether more labels are learned, or as many and much better."""
        more = len(self.learned) - len(other.learned)
        return more > 0 or (more == 0 and self.left < BETTER * other.left)


class DrawSearch:
    """Draws of a block's W¹, each fitted to a few rows.

    Args:
        few: The block, of a few rows; its features are redrawn in place.
        known: Labels that are learned already, boolean [n'].
        options: How often it is redrawn, which labels it leans on, and how much.
        noise: Standard deviation of the noise; see `SizedDraw`.

    Attributes:
        power: Mean square of each channel of [x, scores] over these rows, [d+n].
    """

    def __init__(self, few: BlockProblem, known: Tensor, options: AdaptiveDraw, noise: float) -> None:
        self.few, self.known, self.options, self.noise = few, known, options, noise
        self.power, self._sizes = channel_sizes(few)
        self.most, self._drawn = few.rows.net.n_features, 0

    def run(self, guess: Tensor, smallest: int) -> Trial | None:
        """Return the best of the first attempt that learns a label that is not known, which is the block's then.

        There must be something to read: a channel that is not always 0.

        Args:
            guess: Importance [d+n] of channels for the first attempts; if it is 0, all not always 0 count alike.
            smallest: Features of the first attempt.
        """
        live = (self.power > 0).to(self.power)
        guess, sizes = guess * live, [min(smallest, self.most)]
        while sizes[-1] < self.most:
            sizes.append(min(GROWTH * sizes[-1], self.most))
        guesses = [(size, guess) for size in sizes[:GUESSES] if guess.any()]
        wider = sizes[1:] if guesses and len(sizes) > 1 else sizes
        attempts = guesses + [(size, live) for size in wider]
        for n_features, importance in attempts:
            best = self._improved(n_features, self._reading(importance.repeat(self.few.block.windows.size)[None]))
            if len(best.learned):
                return best
        return None

    def _improved(self, n_features: int, reading: Reading) -> Trial:
        """Return the best of a draw and those after it, which lean on what their fits use, and grow while that pays."""
        best = last = self._try(n_features, reading)
        for _ in range(self.options.redraws):
            if not len(last.targets) or (last.left <= ENOUGH and last.draw.n_features >= self._wanted(last)):
                break
            reading, n_features = self._leaning(last), self._wanted(last)
            if n_features == last.draw.n_features and reading.is_like(last.draw.reading):
                break
            last = self._try(n_features, reading)
            best = last if last.is_better(best) or not len(best.learned) else best
        self._put(best, last)
        while len(best.learned) and best.left > ENOUGH and best.draw.n_features < self.most:
            last = self._try(min(self.most, GROWTH * best.draw.n_features), self._leaning(best))
            if not last.is_better(best):
                self._put(best, last)
                break
            best = last
        return best

    def _wanted(self, trial: Trial) -> int:
        return min(self.most, max(trial.draw.n_features, FEATURES_PER_TARGET * len(trial.targets)))

    def _leaning(self, trial: Trial) -> Reading:
        """Return what the fit of a trial, the block's last, uses."""
        return self._reading(*self.importance(trial, trial.targets))

    def _put(self, trial: Trial, last: Trial) -> None:
        """Give the block the draw of a trial, if that is not the last."""
        if trial is not last:
            self._draw(trial.draw)
            self.few.calibrate()

    def _try(self, n_features: int, reading: Reading) -> Trial:
        """Draw W¹ and fit the block to the rows; look closely at the labels alone that may gain."""
        draw, few = Draw(n_features, reading, self._drawn), replace(self.few)  # of these features nothing is known yet
        self._drawn += 1
        self._draw(draw)
        few.calibrate()
        labels = self._promising(n_features)
        near = few.of_labels(labels)
        weight, fall = best_ridge(near)
        sums = near.held_sums(weight)
        explained, explainable, variance = variances(sums)
        gain, left = gains(sums), 1 - (explained / explainable).clamp(max=1)
        learned = gain & (left <= 1 - STRICT_SHARE) & ~self.known[labels]
        is_near = is_near_best(1 - explained / variance, learned)
        is_near &= is_near_best(left, learned & is_near)
        is_near &= is_right_as_best(sums, left, learned & is_near)
        learned &= is_near
        is_constant = variance <= CONSTANT * sums.before / sums.examples
        least = float(left[learned].mean()) if learned.any() else 1.0
        targets = self.options.targets(fall, self.most)
        of_all = weight.new_zeros(few.n_labels, weight.shape[1]).index_copy_(0, labels, weight)
        gain &= is_near | is_constant
        return Trial(draw, labels[gain], labels[learned], least, labels[targets], of_all)

    def _promising(self, n_features: int) -> Tensor:
        """Return the labels that a draw may teach, and those that gain most, after a look at a sample of the rows."""
        if self.few.n_labels <= most_targets(self.most):
            return torch.arange(self.few.n_labels, device=self.few.penalty.device)
        n_pairs = min(self.options.n_pairs, SAMPLED * n_features)
        leading = self.few.leading(n_pairs)
        share = min(1.0, n_pairs / max(1, leading.n_pairs))
        sample = replace(leading, rows=leading.rows.thinned(leading.n_chunks, share), n_chunks=None)
        errors = sample.rough_errors(ridge_weights(sample))
        fall = errors.before - errors.after.amin(0)
        first = fall.argsort(descending=True)[: most_targets(self.most)]
        is_promising = (fall >= PROMISING * errors.before) | (errors.before <= SETTLED)
        return is_promising.index_fill_(0, first, True).nonzero()[:, 0]

    def _draw(self, draw: Draw) -> None:
        """Draw W¹ and b."""
        problem, (channels, factors) = self.few, draw.reading
        net, features = problem.rows.net, random_features(problem)
        generator = generator_of(problem.seed, problem.block.index, draw.number)
        drawn = net.features.first_layer(factors.shape[1], draw.n_features, generator)
        assert isinstance(drawn, RandomFeatures)
        drawn = drawn.to(features.weight)
        drawn.lean(factors)
        width = self.noise * math.sqrt(3) * self._sizes[channels]  # uniform
        features.become(drawn, channels, width.repeat(problem.block.windows.size))

    def _reading(self, importance: Tensor, channels: Tensor | None = None) -> Reading:
        """Return what W¹ reads, of the importance [T, w·c] of coordinates of some channels, all when None."""
        channels = torch.arange(len(self.power), device=self.power.device) if channels is None else channels
        tiny = torch.finfo(importance.dtype).tiny
        shares = importance / importance.amax(1, keepdim=True).clamp(min=tiny)
        shares = shares.view(len(shares), -1, len(channels))
        if self.options.by_channel:
            shares = shares.mean(1, keepdim=True).expand_as(shares)
        kept = (shares >= CUT).any(0).any(0)
        shares, channels = shares[..., kept].flatten(1), channels[kept]
        floor = self.options.floor
        factors = (1 - floor) * shares**self.options.exponent * (shares >= CUT) + floor
        squares = self.power[channels].repeat(shares.shape[1] // len(channels))
        return Reading(
            channels, factors * (len(squares) / (factors.square() @ squares).clamp(min=tiny)).sqrt()[:, None]
        )

    def importance(self, trial: Trial, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the importance of coordinates for some labels, [T, w·c], and the channels [c] read."""
        agop, power = agop_diagonals(self.few, trial.weight[labels])
        channels = random_features(self.few).channels
        assert channels is not None
        return agop * power, channels


def is_near_best(left: Tensor, learned: Tensor) -> Tensor:
    """Return whether what is left of a label is near the least of those learned, [n]; all false if none is learned."""
    if not learned.any():
        return torch.zeros_like(learned)
    return left <= NEAR * max(ENOUGH, float(left[learned].min()))


def is_right_as_best(sums: SetAsideSums, left: Tensor, learned: Tensor) -> Tensor:
    """Return whether a label is wrong as rarely as the one learned best, within a standard error of its rate, [n]."""
    if not learned.any():
        return learned
    wrong = wrong_rates(sums)
    least = wrong[left.where(learned, left.new_tensor(math.inf)).argmin()]
    return wrong <= least + (least * (1 - least) / sums.counted).sqrt()


def channel_sizes(problem: BlockProblem) -> tuple[Tensor, Tensor]:
    """Return the mean square of each channel of [x, scores] over the rows, and how large noise of size 1 is for it.

    That is the root mean square of a score, the standard deviation of an input that has two values, 0 of others.
    """
    net = problem.rows.net
    total = torch.zeros(2, net.n_inputs + net.n_scores + 1, dtype=torch.float64, device=problem.penalty.device)
    for chunk in problem.chunks():
        stream = chunk.pairs(net.split(chunk.stream))
        total[0, :-1] += stream.sum(0)
        total[1, :-1] += stream.square().sum(0)
        total[0, -1] += len(stream)
    total = problem.processes.sum(total)
    count = total[0, -1].clamp(min=1)
    mean, power = total[:, :-1] / count
    centred = torch.zeros(3, net.n_inputs, dtype=torch.float64, device=total.device)
    for chunk in problem.chunks():
        inputs = chunk.pairs(net.split(chunk.stream))[:, : net.n_inputs].double() - mean[: net.n_inputs]
        centred += torch.stack([(inputs**degree).sum(0) for degree in (2, 3, 4)])
    variance, third, fourth = problem.processes.sum(centred) / count
    # the fourth moment is least, by Pearson's inequality, where there are two values
    has_two = fourth * variance - third**2 - variance**3 <= TWO_VALUED * fourth * variance
    sizes = torch.cat([(variance * has_two).sqrt(), power[net.n_inputs :].sqrt()])
    return power.to(problem.penalty), sizes.to(problem.penalty)
