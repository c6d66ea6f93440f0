"""Acceptance: which labels a trained block may change, judged on training rows set aside from its fit (ours)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hierlit.layerwise.unobserved import LabelLoss

STRICT_SHARE = 0.9
"""Share of a label's explainable variance that a strict acceptance asks for, unless told otherwise."""


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
    """

    examples: Tensor
    gain: Tensor
    gain_squared: Tensor
    offset: Tensor
    before: Tensor
    after: Tensor
    confidence: Tensor
    wrong: Tensor

    @classmethod
    def of(cls, loss: LabelLoss, before: Tensor, after: Tensor, labels: Tensor) -> "SetAsideSums":
        """Sums of one batch: scores before and after the block, and labels, [B, |G|, n]."""
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
        )

    def stack(self) -> Tensor:
        """All sums as one tensor [8, n]."""
        return torch.stack(list(vars(self).values()))


def accept_all(sums: SetAsideSums, learned: Tensor, share: float = STRICT_SHARE) -> Tensor:
    """The paper's letter: every label follows every block."""
    return torch.ones_like(learned)


def accept_gain(sums: SetAsideSums, learned: Tensor, share: float = STRICT_SHARE) -> Tensor:
    """The loss falls on set-aside rows, by more than the standard error of its fall over examples."""
    mean = sums.gain / sums.examples
    variance = (sums.gain_squared / sums.examples - mean.square()).clamp(min=0)
    return mean > (variance / (sums.examples - 1).clamp(min=1)).sqrt()


def accept_strict(sums: SetAsideSums, learned: Tensor, share: float = STRICT_SHARE) -> Tensor:
    """A label not yet learned needs `share` of its explainable variance at once; a learned one needs a gain.

    What a constant explains counts on neither side. Labels flipped at rate p leave a squared residual of 4p(1−p) under
    the best of scores; p is estimated by the rate of wrong signs, weighted by ŷ² so that rows the block cannot decide
    do not count as noise. A quarter of the variance is taken to be explainable in any case: more noise than that
    cannot be told from a label of which the block knows little.
    """
    flips = (sums.wrong / sums.confidence).nan_to_num(0).clamp(max=0.5)
    by_constant = (sums.offset / sums.examples).square()
    variance = sums.before / sums.examples - by_constant
    explainable = torch.maximum(variance - 4 * flips * (1 - flips), variance / 4)
    explained = (sums.before - sums.after) / sums.examples - by_constant
    return accept_gain(sums, learned) & (learned | (explained >= share * explainable))


ACCEPTANCES: dict[str, Callable[[SetAsideSums, Tensor, float], Tensor]] = {
    "none": accept_all,
    "gain": accept_gain,
    "strict": accept_strict,
}
