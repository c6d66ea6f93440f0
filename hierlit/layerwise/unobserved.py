"""What a label that is not observed adds to the loss, and the loss of scores and labels that results."""

from dataclasses import dataclass, replace

from torch import Tensor

from hierlit.layerwise.losses import MarginLoss
from hierlit.models.checks import raise_problems

TREATMENTS = {"ignore": 0.0, "assume_negative": -1.0, "weak_assume_negative": -1.0, "maximize_entropy": 0.0}
"""What a label that is not observed is taken to be, by treatment."""


@dataclass(frozen=True)
class LabelLoss:
    """ℓ(y·ŷ) of a label's score ŷ where y is observed, `weight` times the loss of `target` where it is not.

    The loss of target −1 is ℓ(−ŷ), that of target 0 is ½ℓ(ŷ) + ½ℓ(−ŷ). Both are convex, and no more curved than ℓ, so
    the certificate holds whatever the treatment. Of the treatments of single-positive learning (the first three after
    Cole et al., CVPR 2021; the last after Zhou et al., arXiv 2203.16219, 2022)

    - `ignore` has weight 0;
    - `assume_negative` is target −1 with weight 1;
    - `weak_assume_negative` is target −1 with weight 1/(n−1);
    - `maximize_entropy` is target 0: the cross-entropy to a fair coin, which is convex, in place of the negative
      entropy, which is not (ours); with weight 1/(n−1) too.

    Attributes:
        margin_loss: ℓ, of margins.
        target: −1 or 0, what a label is taken to be where it is not observed.
        weight: In [0, 1], what that counts for.
    """

    margin_loss: MarginLoss
    target: float = 0.0
    weight: float = 0.0

    def __call__(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Elementwise losses [..., n] of scores [..., n] and labels [..., n] in {−1, 0, 1}."""
        losses = self.margin_loss(scores * labels) * (labels != 0)
        if not self.weight:
            return losses
        if self.target:
            unseen = self.margin_loss(scores * self.target)
        else:
            unseen = (self.margin_loss(scores) + self.margin_loss(-scores)) / 2
        return losses + self.weight * unseen * (labels == 0)

    def derivative(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Elementwise derivatives [..., n] in the scores."""
        rise = self.margin_loss.derivative(scores * labels).mul_(labels)
        if not self.weight:
            return rise
        if self.target:
            unseen = self.target * self.margin_loss.derivative(scores * self.target)
        else:
            unseen = (self.margin_loss.derivative(scores) - self.margin_loss.derivative(-scores)) / 2
        return rise + self.weight * unseen * (labels == 0)

    def targets(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the squared loss is drawn to, [..., n], and its weights [..., n], of labels [..., n]."""
        observed = labels != 0
        return labels.where(observed, self.target), observed.to(labels).where(observed, self.weight)

    @property
    def curvature(self) -> float:
        """An upper bound on the second derivative in a score."""
        return self.margin_loss.curvature

    def for_data(self, n_pairs: int) -> "LabelLoss":
        """Return this loss with the constants of ℓ that depend on the number m·|G| of pairs filled in."""
        return replace(self, margin_loss=self.margin_loss.for_data(n_pairs))


def label_loss(loss: MarginLoss, treatment: str, weight: float | None, n_labels: int) -> LabelLoss:
    """Return the loss of n labels under a treatment of those that are not observed.

    Args:
        loss: ℓ, of margins.
        treatment: A key of `TREATMENTS`.
        weight: What a label that is not observed counts for, in (0, 1]; the treatment's own when None.
        n_labels: Labels n.

    Raises:
        ValueError: One line for each argument out of range.
    """
    problems = []
    if treatment not in TREATMENTS:
        problems.append(f"unobserved must be one of {', '.join(TREATMENTS)}, got {treatment!r}")
    if weight is not None and (treatment == "ignore" or not 0 < weight <= 1):
        problems.append(f"unobserved_weight must be in (0, 1], and null for ignore, got {weight}")
    raise_problems(problems)
    if treatment == "ignore":
        return LabelLoss(loss)
    own = 1.0 if treatment == "assume_negative" else 1 / max(1, n_labels - 1)
    return LabelLoss(loss, TREATMENTS[treatment], own if weight is None else weight)
