"""How probabilities are found: a `Calibration` fitted to the scores of rows that no fit has seen (ours)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import expit, logit
from torch import Tensor

from hierlit.layerwise.gather import chunks_of, drawn, first_rows, gather_rows
from hierlit.layerwise.implications import Counts, count, implications
from hierlit.layerwise.solvers.choice import HELD, WORTH
from hierlit.metrics import average_precision
from hierlit.models.calibration import SLOPE, Calibration

if TYPE_CHECKING:
    from hierlit.layerwise.chunk import Chunk
    from hierlit.layerwise.problem import BlockProblem

Floats = NDArray[np.float64]
STEEPEST = 8.0
"""Of probabilities from knot to knot, by scores whose root mean square is 1: rounding, which is relative to scores, as
of an exported file, changes them little."""
RESOLVED = 6
"""Decimals by which scores, and the log-odds of a curve's steps, must differ."""
MOST = 2**20
"""Scores that a run's last calibration is fitted to, of whole rows drawn at random."""
BRIEF = 2**16
"""And the curve alone, after each block before the last."""
PRIORS = (100.0, 30.0, 10.0, 3.0, 1.0)
"""Candidates for what half the square of a line's departure from the curve adds to its loss."""
IDENTITY = np.array([[1.0], [0.0], [1.0]])
"""The Hessian of half the square of a line, in its parts: see `derivatives`."""
NEWTON_STEPS = 30
"""At most; the last is the first that moves all lines by less than `CONVERGED`."""
CONVERGED = 1e-6


@torch.no_grad()
def calibrate(problem: BlockProblem, is_last: bool) -> None:
    """Fit the network's calibration, on all processes, once its rows are past a block.

    It is fitted to rows of validation and set aside for acceptance, and where there are folds to those fitted too, with
    the scores of fits that left them out. Without such rows log-odds stay `SLOPE`·ŷ.

    Args:
        problem: The block's.
        is_last: Whether no block follows; before that all labels share the curve, and fewer scores are read.
    """
    net, calibration = problem.rows.net, problem.rows.net.calibration
    splits = ("held", "val") if problem.rows.folds is None else ("held", "val", "fit")
    n_locations = 1 if net.pooled else net.n_locations
    most = n_rows_read(n_locations * net.n_labels, MOST if is_last else BRIEF)
    longest = longest_row(problem, splits) if net.masked and not net.pooled else n_locations
    rows = drawn(problem.rows.seed, "calibration", problem.block.index, most, first_rows(problem, splits)[1])

    def view(chunk: Chunk, rows: Tensor, places: Tensor) -> Tensor:
        pairs = torch.stack(net.judged(net.answers(chunk.stream[rows]), chunk.labels[rows]), 1)
        return F.pad(pairs, (0, 0, 0, longest - pairs.shape[2]))

    pairs, folds = np.zeros((0, 2, longest, net.n_labels)), np.zeros(0)
    if len(rows):
        pairs = gather_rows(problem, rows, view, splits).cpu().double().numpy()
        folds = gather_rows(problem, rows, fold_of, splits).cpu().numpy()
        is_finite = np.isfinite(pairs).all((1, 2, 3))
        pairs, folds = pairs[is_finite], folds[is_finite]
    membership = calibration.membership.cpu().double().numpy()
    fitted = (fit_calibration if is_last else fit_shared)(pairs[:, 0], pairs[:, 1], membership)
    if is_last:
        find_implications(fitted, pairs[folds == HELD], partial(count, problem))
    calibration.load_state_dict(fitted.state_dict())


def longest_row(problem: BlockProblem, splits: Sequence[str]) -> int:
    """Return the most locations |G| that chunks of some splits have, over all processes."""
    lengths = torch.tensor([chunk.labels.shape[1] for chunk in chunks_of(problem, splits)] or [0])
    return int(problem.processes.all_gather(lengths.to(problem.penalty.device)).max())


def find_implications(
    calibration: Calibration, pairs: Floats, count: Callable[[Tensor], tuple[Counts, Counts]]
) -> None:
    """Give a calibration the labels that imply one another, unless those found on other rows rank these worse.

    Classes of a column are left out: their probabilities are no longer those of their log-odds.

    Args:
        calibration: In float64, without implications.
        pairs: Scores and labels [N, 2, |G|, n] of rows of fold `HELD`, or of rows that are not fitted.
        count: Counts some labels [m] of rows that are fitted: of those of fold `HELD`, and of all others.
    """
    alone = (calibration.membership == 0).all(1).nonzero()[:, 0]
    if len(alone) < 2:
        return
    scores, labels = torch.from_numpy(pairs[:, 0]), pairs[:, 1]
    (held, others), plain = count(alone), calibration.log_odds(scores).numpy()
    none, calibration.implications = calibration.implications, alone[implications(others)]
    if precision(calibration.log_odds(scores).numpy(), labels) < precision(plain, labels) or not (labels > 0).any():
        calibration.implications = none
    elif calibration.implications.shape[1]:
        calibration.implications = alone[implications(held.add(others))]


def fold_of(chunk: Chunk, rows: Tensor, places: Tensor) -> Tensor:
    """Folds [B] of rows of a chunk; `HELD` of rows that no fit has seen."""
    folds = torch.full_like(chunk.labels[:, 0, 0], HELD) if chunk.folds is None else chunk.folds
    return folds[rows].long()


def n_rows_read(n_scores: int, most: int = MOST) -> int:
    """Rows at most, of so many scores each, that a calibration is fitted to."""
    return max(1, most // n_scores)


def fit_calibration(scores: Floats, labels: NDArray[Any], membership: NDArray[Any] | None = None) -> Calibration:
    """Fit a calibration, in float64.

    While all labels share the curve, the average precision of all pairs is that of the scores. Lines of their own
    change the order between labels: each row is ranked by lines fitted without it (see `left_out`), and a weaker
    prior, or any line at all, must add `WORTH` to the average precision.

    Args:
        scores: Scores ŷ [N, |G|, n] of rows that no fit has seen.
        labels: Labels [N, |G|, n] in {−1, 0, 1}.
        membership: Which labels are the classes of which column [n, c]; none are when None. They have no lines, nor has
            a label that is positive wherever it is observed, and not observed everywhere: its negatives are missing.
    """
    n_labels = scores.shape[-1]
    membership = np.zeros((n_labels, 0)) if membership is None else membership
    calibration = fit_shared(scores, labels, membership)
    tells = (labels < 0).any((0, 1)) | (labels != 0).all((0, 1))
    chosen = np.flatnonzero((membership == 0).all(1) & (n_labels > 1) & tells)
    if not len(chosen):
        return calibration
    log_odds = calibration.log_odds(torch.from_numpy(scores)).numpy()
    own, signs, best = log_odds[..., chosen], labels[..., chosen], precision(log_odds, labels)
    found = lines = np.array([[1.0], [0.0]]).repeat(len(chosen), 1)
    for prior in PRIORS:
        found = fit_lines(own, signs, prior, found)
        rises = found[0] > 0
        log_odds[..., chosen] = np.where(rises, left_out(own, signs, prior, found), own)
        if (reached := precision(log_odds, labels)) > best + WORTH:
            best, lines = reached, np.where(rises, found, [[1.0], [0.0]])
    calibration.slopes[chosen], calibration.intercepts[chosen] = torch.from_numpy(lines)
    return calibration


def fit_shared(scores: Floats, labels: NDArray[Any], membership: NDArray[Any]) -> Calibration:
    """Fit the curve that all labels share, in float64; arguments as of `fit_calibration`."""
    calibration = Calibration(scores.shape[-1]).double()
    knots = torch.from_numpy(fit_curve(scores[labels != 0], labels[labels != 0]))
    calibration.load_state_dict(
        {**calibration.state_dict(), "knots": knots, "membership": torch.from_numpy(membership)}
    )
    return calibration


def fit_curve(scores: Floats, labels: NDArray[Any]) -> Floats:
    """Isotonic regression of labels on scores, its steps joined at their middles; no scores tie.

    From one step to the next it is at most as steep as `STEEPEST`; between them, where log-odds are straight,
    probabilities may be a few times steeper.

    Args:
        scores: Of labels that are observed [m].
        labels: −1 or 1 [m]; unless there are both, the curve is the straight line through 0.

    Returns:
        Knots [2, k]: scores and log-odds, ascending.
    """
    points, steps = np.zeros(1), np.zeros(1)
    if (labels > 0).any() and (labels < 0).any():
        # scores that are equal but for rounding are one: their number must not depend on that of the processes
        _, value_of, counts = np.unique(scores.round(RESOLVED), return_inverse=True, return_counts=True)
        means = np.bincount(value_of, platt_targets(labels)) / counts
        fitted = logit(isotonic_regression(means, weights=counts).x)
        # and so are steps: scores between them would tie
        steps, step_of = np.unique(fitted.round(RESOLVED), return_inverse=True)
        points = np.bincount(step_of, np.bincount(value_of, scores)) / np.bincount(step_of, counts)
        # the mean of the nearest curves below and above that are not too steep
        rise = STEEPEST * points / max(np.sqrt((scores**2).mean()), 10.0**-RESOLVED)
        slack = expit(steps) - rise
        below, above = np.minimum.accumulate(slack), np.maximum.accumulate(slack[::-1])[::-1]
        steps = logit(rise + (below + above) / 2)
    if len(points) == 1:
        points, steps = np.append(points, points + 1), np.append(steps, steps + SLOPE)
    return np.stack([points, steps])


def platt_targets(labels: NDArray[Any]) -> Floats:
    """(N₊+1)/(N₊+2) and 1/(N₋+2) for labels 1 and −1 [m, ...], after Platt (1999): no log-odds fitted are infinite."""
    n_positive, n_negative = (labels > 0).sum(0), (labels < 0).sum(0)
    targets: Floats = np.where(labels > 0, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    return targets


def fit_lines(log_odds: Floats, labels: NDArray[Any], prior: float, start: Floats) -> Floats:
    """Slopes and intercepts [2, n] of the log-odds of labels in the shared curve's.

    Logistic regression of each label, drawn to the slope 1 and the intercept 0 by the prior: the fewer rows tell of a
    label, the nearer it stays to what all labels share. Newton's method, all labels at once; a step that would raise a
    label's loss is made again a quarter as long.

    Args:
        log_odds: Of the shared curve [N, |G|, n].
        labels: In {−1, 0, 1} [N, |G|, n].
        prior: What half the square of a departure adds to the loss.
        start: Lines [2, n] to start from.
    """
    seen, targets, shared = labels != 0, labels > 0, np.array([[1.0], [0.0]])

    def loss(lines: Floats) -> Floats:
        found = lines[0] * log_odds + lines[1]
        total: Floats = (np.logaddexp(0, found) - targets * found).sum((0, 1), where=seen)
        total += prior / 2 * ((lines - shared) ** 2).sum(0)
        return total

    lines = start
    least, size = loss(lines), np.ones(labels.shape[-1])
    for _ in range(NEWTON_STEPS):
        gradients, hessians = (of_rows.sum(1) for of_rows in derivatives(log_odds, labels, lines))
        step = solved(hessians + prior * IDENTITY, gradients + prior * (lines - shared))
        if np.abs(step).max() < CONVERGED:  # losses so near differ by rounding alone
            lines = lines - step
            break
        ahead = lines - size * step
        after = loss(ahead)
        size = np.where(after <= least, 1.0, size / 4)
        lines, least = np.where(after <= least, ahead, lines), np.minimum(after, least)
    return lines


def left_out(log_odds: Floats, labels: NDArray[Any], prior: float, lines: Floats) -> Floats:
    """Log-odds [N, |G|, n] of each row by lines fitted to all other rows, but for terms of higher order.

    It is one step of Newton's method from the lines of all rows (approximate leave-one-out, Pregibon 1981).

    Args:
        log_odds: Of the shared curve [N, |G|, n].
        labels: In {−1, 0, 1} [N, |G|, n].
        prior: That lines were fitted by.
        lines: Slopes and intercepts [2, n].
    """
    gradients, hessians = derivatives(log_odds, labels, lines)
    others = hessians.sum(1, keepdims=True) - hessians + prior * IDENTITY[..., None]
    slopes, intercepts = lines[:, None] + solved(others, gradients)
    found: Floats = slopes[:, None] * log_odds + intercepts[:, None]
    return found


def derivatives(log_odds: Floats, labels: NDArray[Any], lines: Floats) -> tuple[Floats, Floats]:
    """Gradients [2, N, n] and Hessians [3, N, n] of the loss of each row by slopes and intercepts.

    A Hessian's parts are that by the slope twice, by slope and intercept, by the intercept twice.
    """
    chances = expit(lines[0] * log_odds + lines[1])
    errors, curvatures = (labels != 0) * (chances - (labels > 0)), (labels != 0) * chances * (1 - chances)
    gradients = np.stack([(errors * log_odds).sum(1), errors.sum(1)])
    return gradients, np.stack([(curvatures * log_odds**power).sum(1) for power in (2, 1, 0)])


def solved(hessians: Floats, gradients: Floats) -> Floats:
    """Inverse Hessians [3, ...], symmetric 2 × 2 matrices, times gradients [2, ...]."""
    (outer, mixed, inner), (first, second) = hessians, gradients
    found = np.stack([inner * first - mixed * second, outer * second - mixed * first])
    return np.asarray(found / (outer * inner - mixed**2))


def precision(scores: Floats, labels: NDArray[Any]) -> float:
    """Average precision of all observed pairs of scores and labels in {−1, 0, 1}; 0 if none is positive."""
    return average_precision(torch.from_numpy(scores), torch.from_numpy(labels)) if (labels > 0).any() else 0.0
