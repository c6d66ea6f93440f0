"""Acceptance: which labels a trained block may change, judged on training rows set aside from its fit (ours)."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierlit.layerwise.unobserved import LabelLoss
from hierlit.models.checks import raise_problems

if TYPE_CHECKING:
    from hierlit.layerwise.problem import BlockProblem

RULES = ("none", "gain", "strict")
STRICT_SHARE = 0.9
"""Share of a label's explainable variance that a strict acceptance asks for."""


@dataclass
class SetAsideSums:
    """Sums over the set-aside rows, label by label ([n] each), that add up over batches and processes.

    Attributes:
        examples: Examples in which the label counts somewhere: observed, or taken to be something.
        gain: The block's decrease of the loss, averaged over an example's locations.
        gain_squared: Its square.
        offset: Residual y − ŷ before the block, averaged likewise.
        before: Its square.
        after: The same after the block.
        confidence: ŷ² after the block.
        wrong: ŷ² after the block where its sign is wrong.
        right: Weight of the pairs whose sign was right before the block.
        right_after: And after it.
        counted: Weight of all pairs that have a sign.
    """

    examples: Tensor
    gain: Tensor
    gain_squared: Tensor
    offset: Tensor
    before: Tensor
    after: Tensor
    confidence: Tensor
    wrong: Tensor
    right: Tensor
    right_after: Tensor
    counted: Tensor

    @classmethod
    def of(cls, loss: LabelLoss, before: Tensor, after: Tensor, labels: Tensor) -> "SetAsideSums":
        """Add up one batch: scores before and after the block, and labels, [B, |G|, n]."""
        targets, seen = loss.targets(labels)
        weight = seen / seen.sum(1, keepdim=True).clamp(min=torch.finfo(seen.dtype).tiny)

        def per_example(values: Tensor) -> Tensor:
            return (values * weight).sum(1).double()

        gain = per_example(loss(before, labels) - loss(after, labels))
        return cls(
            (seen.amax(1) > 0).double().sum(0),
            gain.sum(0),
            gain.square().sum(0),
            per_example(targets - before).sum(0),
            per_example((targets - before).square()).sum(0),
            per_example((targets - after).square()).sum(0),
            per_example(after.square()).sum(0),
            per_example(after.square() * (after * targets < 0)).sum(0),
            (seen * (before * targets > 0)).sum((0, 1)).double(),
            (seen * (after * targets > 0)).sum((0, 1)).double(),
            (seen * (targets != 0)).sum((0, 1)).double(),
        )

    @classmethod
    def zeros(cls, n_labels: int, device: torch.device) -> "SetAsideSums":
        """No batch yet."""
        return cls(*torch.zeros(len(fields(cls)), n_labels, dtype=torch.float64, device=device))

    def stack(self) -> Tensor:
        """Return all sums as one tensor [11, n]."""
        return torch.stack(list(vars(self).values()))


@dataclass(frozen=True)
class Acceptance:
    """Which labels a block may change.

    Args:
        rule: `none` restricts nothing (the paper), `gain` asks for an improvement on set-aside rows beyond its standard
            error, `strict` for a share of the variance that can still be explained. Of a label that is learned, or that
            the block makes so while it explains that share of its mean square, `strict` asks for no more than `gain`.
        strict_share: That share, in (0, 1].
        learned_accuracy: Accuracy on set-aside rows, in (0, 1], from which a label counts as learned.

    Raises:
        ValueError: One line for each argument out of range.
    """

    rule: str = "gain"
    strict_share: float = STRICT_SHARE
    learned_accuracy: float = 0.999

    def __post_init__(self) -> None:
        problems = []
        if self.rule not in RULES:
            problems.append(f"acceptance must be one of {', '.join(RULES)}, got {self.rule!r}")
        for name, share in (("strict_share", self.strict_share), ("learned_accuracy", self.learned_accuracy)):
            if not 0 < share <= 1:
                problems.append(f"{name} must be in (0, 1], got {share}")
        raise_problems(problems)

    def __call__(self, problem: "BlockProblem", weight: Tensor) -> Tensor:
        """Return the labels, boolean [n], that a weight [n, q+1] may change."""
        if self.rule == "none":
            return torch.ones(problem.n_labels, dtype=torch.bool, device=weight.device)
        sums = problem.held_sums(weight)
        if self.rule == "gain":
            return gains(sums)
        return gains_most(sums, is_learned(sums, self.learned_accuracy, self.strict_share), self.strict_share)


def gains(sums: SetAsideSums) -> Tensor:
    """Return whether the loss falls on set-aside rows, by more than the standard error over examples, [n]."""
    mean = sums.gain / sums.examples
    variance = (sums.gain_squared / sums.examples - mean.square()).clamp(min=0)
    return mean > (variance / (sums.examples - 1).clamp(min=1)).sqrt()


def gains_most(sums: SetAsideSums, learned: Tensor, share: float) -> Tensor:
    """Return whether a label not learned gains `share` of its explainable variance, a learned one gains, [n].

    Args:
        sums: The sums.
        learned: Which labels are learned, [n].
        share: In (0, 1].
    """
    explained, explainable, _ = variances(sums)
    return gains(sums) & (learned | (explained >= share * explainable))


def is_learned(sums: SetAsideSums, accuracy: float, share: float) -> Tensor:
    """Return whether a label is right in a share `accuracy` of the pairs before the block, or after it, [n].

    After it, a `share` of its mean square must be gone as well. In this way a label that is nearly always −1 can be
    learned: a constant is right, and explains none of its variance.
    """
    least = accuracy * sums.counted
    return (sums.right >= least) | ((sums.right_after >= least) & (sums.after <= (1 - share) * sums.before))


def wrong_rates(sums: SetAsideSums) -> Tensor:
    """Return the rate of wrong signs after the block, weighted by ŷ², [n]; 0 of a label whose scores are all 0."""
    return (sums.wrong / sums.confidence).nan_to_num(0)


def variances(sums: SetAsideSums) -> tuple[Tensor, Tensor, Tensor]:
    """Return what of each label's variance the block explains, what can be explained, and all of it, [n] each.

    What a constant explains counts on neither side. Labels flipped at rate p leave a squared residual of 4p(1−p) under
    the best of scores; p is estimated by the rate of wrong signs, weighted by ŷ² so that rows the block cannot decide
    do not count as noise. A quarter of the variance is taken to be explainable in any case: more noise than that
    cannot be distinguished from a label of which the block knows little.
    """
    flips = wrong_rates(sums).clamp(max=0.5)
    by_constant = (sums.offset / sums.examples).square()
    variance = sums.before / sums.examples - by_constant
    explainable = torch.maximum(variance - 4 * flips * (1 - flips), variance / 4)
    return (sums.before - sums.after) / sums.examples - by_constant, explainable, variance
