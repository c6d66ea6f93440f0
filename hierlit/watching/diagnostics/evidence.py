"""What is known of each label at the end of a run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hierlit.layerwise.adaptive_draw import AdaptiveDraw
from hierlit.layerwise.problem import BlockProblem
from hierlit.watching.diagnostics.probe import probe, widened

MIN_PROBE_WIDTH = 512
"""Features of a wider block that a narrow one is compared with: three halves of too few can be too few."""


@dataclass(frozen=True)
class Evidence:
    """What is known of each label; tensors are [n].

    Attributes:
        accuracy: On held-out rows, or on training rows where it has none; NaN where nothing is observed.
        learned: Whether it counts as learned.
        observed: Share of the training pairs in which it is observed.
        refused: Whether strict acceptance left the last block's weights for it out.
        probes: What blocks would do that the run has not got; None if it was cut short.
    """

    accuracy: Tensor
    learned: Tensor
    observed: Tensor
    refused: Tensor
    probes: Probes | None = None


@dataclass(frozen=True)
class Probes:
    """Noise, and what blocks would do; tensors are [n], errors are mean squares of y − ŷ on set-aside rows.

    Attributes:
        flips: Rate of wrong signs of the scores, weighted by ŷ².
        explained: Squared correlation of label and score, over what flips at that rate leave explainable.
        now: Error, once scores have their best scale and shift.
        next: The same after a further block.
        fresh: Error of one block that stands for all that have tried to learn the labels not learned.
        fitted: Its error on the rows it was fitted to.
        half: The error of such a block fitted to half of the rows.
        features: The errors of such blocks with `n_features` features, [2, n].
        window: The error of such a block with windows of `n_locations`; None if windows cannot be widened.
        n_features: Two thirds of the run's, and the run's; or the run's, and `MIN_PROBE_WIDTH` where they are few.
        n_locations: See `window`.
        part: Share of the run's pairs that the blocks tried were fitted to.
    """

    flips: Tensor
    explained: Tensor
    now: Tensor
    next: Tensor
    fresh: Tensor
    fitted: Tensor
    half: Tensor
    features: Tensor
    window: Tensor | None
    n_features: tuple[int, int]
    n_locations: int
    part: float

    @classmethod
    def of(cls, problem: BlockProblem, adaptation: AdaptiveDraw | None, known: Evidence, judged: str) -> Probes:
        """Try; all processes must call it.

        Args:
            problem: A block of the network, whose rows are as they stand.
            adaptation: How the network's blocks are redrawn.
            known: What is known without.
            judged: The split whose scores are judged: rows set aside, or rows fitted where there are none.
        """
        net, unlearned = problem.rows.net, ~known.learned
        flips, explained, now = score_rates(problem, judged)
        size = problem.rows.net.n_features
        sizes = [2 * size // 3, size] if 3 * size >= 2 * MIN_PROBE_WIDTH else [size, MIN_PROBE_WIDTH]
        own, wide = sizes.index(size), widened(net.proximity, net.n_locations, not net.masked)
        instead = partial(probe, problem, without=unlearned)
        further, fresh = probe(problem, [size], adaptation), instead(sizes)
        share = 1.0 if problem.label_loss.weight else known.observed.clamp(min=1e-12)
        return cls(
            flips,
            explained,
            torch.minimum(now, further.now),
            further.after[0],
            fresh.after[own],
            fresh.fitted[own] / share,
            instead([size], share=0.5).after[0],
            fresh.after,
            None if wide is None else instead([size], windows=wide).after[0],
            (sizes[0], sizes[1]),
            net.windows.size if wide is None else wide.shape[1],
            fresh.n_pairs / problem.n_pairs,
        )


@torch.no_grad()
def score_rates(problem: BlockProblem, split: str) -> tuple[Tensor, Tensor, Tensor]:
    """`Probes.flips`, `explained`, and the error that the best scale and shift of the scores leave, [n] each.

    Labels flipped at rate p leave the best of scores a squared correlation of 1 − 4p(1−p)/variance. As acceptance does,
    a quarter of the variance is taken to be explainable in any case.

    Args:
        problem: A block of the network, whose rows are as they stand.
        split: Whose rows of all processes count.
    """
    totals = torch.zeros(7, problem.n_labels, dtype=torch.float64, device=problem.penalty.device)
    for chunk in problem.chunks(split):
        scores = problem.rows.net.scores(chunk.stream).double()
        goal, seen = (part.double() for part in problem.label_loss.targets(chunk.labels))
        square = scores.square()
        parts = (
            torch.ones_like(goal),
            goal,
            goal.square(),
            scores,
            square,
            goal * scores,
            square * (goal * scores < 0),
        )
        totals += torch.stack([(seen * part).sum((0, 1)) for part in parts])
    count, goal, goals, score, scores, both, wrong = problem.processes.sum(totals).cpu()[:, : problem.rows.net.n_labels]
    count, tiny = count.clamp(min=1), 1e-12
    variance = (goals / count - (goal / count).square()).clamp(min=tiny)
    spread = (scores / count - (score / count).square()).clamp(min=tiny)
    correlation = (both / count - goal * score / count.square()).square() / (variance * spread)
    flips = wrong / scores.clamp(min=tiny)
    explainable = (1 - 4 * flips * (1 - flips) / variance).clamp(min=0.25)
    return flips, correlation / explainable, variance * (1 - correlation)
