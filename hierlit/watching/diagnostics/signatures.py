"""The paper's four failure signatures: numbers of a run in, a finding out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from hierlit.layerwise.solvers.ridge import RESOLUTION
from hierlit.models.random_features import ACTIVATIONS
from hierlit.theory import expansion

BETAS = tuple(np.arange(0, 1, 0.1).round(1).tolist())
"""Where β is looked for."""
SHARE = 0.1
"""Share of its largest value over β below which a degree counts as missing from the kernel."""
LEAST_SHARE = min(RESOLUTION.values())
"""Share of the kernel below which a degree is lost to rounding, whatever β is."""
EXCESS = 10.0
"""How many times what its polynomial needs a label's squared norm may be."""
RISE = 0.01
"""Rise of the loss, in units of that of scores 0, from which a block does harm."""
FALL = 0.1
"""Share of a label's variance that a wider window must explain beyond its own."""


class DiagnosticWarning(UserWarning):
    """A failure signature found in a run, with its evidence and the setting to change."""


@dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        signature: What fails.
        evidence: The numbers that say so.
        remedy: The one setting to change.
    """

    signature: str
    evidence: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.signature}: {self.evidence}. Remedy: {self.remedy}"


def single_label(labels: Tensor) -> Finding | None:
    """Single-label supervision in the labels of training pairs: one positive a pair and no negative, or one-hot labels.

    Args:
        labels: In {−1, 0, 1}, [P, n], of the pairs of a row and a location that it has.
    """
    n_pairs, n = labels.shape
    ones = (labels > 0).sum(1)
    if n >= 2 and int(labels.min()) >= 0 and int(ones.max()) == 1:
        shown = (
            f"of {n} labels one is observed as 1 and none as -1 in {int(ones.sum()):,} of {n_pairs:,} training pairs"
        )
        remedy = "observe all labels of an example: supervision.single_positive, or data"
        return Finding("single-label supervision", shown, remedy)
    if n >= 3 and bool((ones == 1).all()) and bool((labels != 0).all()):
        shown = f"exactly one of {n} labels is 1 in each of {n_pairs:,} training pairs: classes, coded one-hot"
        return Finding("single-label supervision", shown, "add to data the labels that the classes are made of")
    return None


def missing_degree(degree: int, activation: str, beta: float, bias: str) -> Finding | None:
    """Return whether the kernel all but lacks a degree, because β is too small, or whatever β is.

    Args:
        degree: K of a label's polynomial threshold function.
        activation: σ.
        beta: β.
        bias: Kind of bias.
    """
    shares = {value: share_of(degree, activation, value, bias) for value in BETAS}
    own, best = share_of(degree, activation, beta, bias), max(shares, key=lambda value: shares[value])
    if shares[best] < LEAST_SHARE:
        other = max(ACTIVATIONS, key=lambda name: max(share_of(degree, name, value, "gaussian") for value in BETAS))
        most, remedy = f"no beta brings it to {LEAST_SHARE:.1g}", f"set model.features.activation to {other}"
    elif beta < best and own < SHARE * shares[best]:
        most, remedy = f"at most {shares[best]:.2g}, at beta = {best:g}", f"raise model.features.beta to {best:g}"
    else:
        return None
    evidence = (
        f"labels have polynomials of degree {degree}, whose share in the kernel of {activation} at beta = {beta:g} is "
        f"{own:.2g} ({most})"
    )
    return Finding("bias variance too small for the degree", evidence, remedy)


def share_of(degree: int, activation: str, beta: float, bias: str) -> float:
    """Return the share of a degree in the kernel."""
    return float(expansion(activation, beta, bias).shares[degree])


def exploding_norm(
    squares: Tensor, needed: Tensor, rise: Tensor, block: int, n_features: int, setting: str, names: Sequence[str]
) -> Finding | None:
    """Weights out of proportion to what their labels need, in a block that does harm on rows it was not fitted to.

    Args:
        squares: q‖W²_j‖² of each label's row, [n]; 0 where the block was rejected. It does not grow with q.
        needed: The same for the label's polynomial in the kernel's space, [n]; see `needed_square`.
        rise: By how much the block raises the label's loss, in units of that of scores 0, [n].
        block: Number of the block, from 1.
        n_features: q.
        setting: What to raise, λ by its name.
        names: Of the labels.
    """
    excess = (squares / needed) * (rise > RISE)
    label = int(excess.argmax())
    if not float(excess[label]) > EXCESS:
        return None
    count = int((excess > EXCESS).sum())
    evidence = (
        f"in block {block} {count} of {len(excess)} labels; label {names[label]}: q·‖W²‖² = "
        f"{float(squares[label]):.2g} at q = {n_features}, {float(excess[label]):.2g} times the "
        f"{float(needed[label]):.2g} that its polynomial needs, while its loss on rows set aside rises by "
        f"{float(rise[label]):.0%} of that of scores 0"
    )
    return Finding("coefficient norm exploding", evidence, setting)


def narrow_window(
    labels: Sequence[int], narrow: Tensor, wide: Tensor, sizes: tuple[int, int], names: Sequence[str]
) -> Finding | None:
    """Labels at chance whose error falls once a block sees more locations, and not otherwise.

    Args:
        labels: Those that stay at chance though all levels below theirs are learned.
        narrow: Share of each label's variance that a further block would leave on rows set aside, [n].
        wide: The same with a wider window.
        sizes: Locations of both windows.
        names: Of all labels.
    """
    found = [label for label in labels if float(narrow[label] - wide[label]) > FALL]
    if not found:
        return None
    label = max(found, key=lambda label: float(narrow[label] - wide[label]))
    name = names[label]
    which = f"label {name} stays" if len(found) == 1 else f"{len(found)} labels, among them {name}, stay"
    evidence = (
        f"{which} at chance though all levels below are learned; of the variance of label {name} a further block "
        f"would leave {float(narrow[label]):.0%} with windows of {sizes[0]}, {float(wide[label]):.0%} with {sizes[1]}"
    )
    return Finding("proximity window too narrow", evidence, f"widen model.proximity, now windows of {sizes[0]}")
