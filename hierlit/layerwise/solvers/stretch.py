"""How far a kernel stretches the coordinates that it reads: those that its fit leans on, further (ours)."""

from __future__ import annotations

import torch
from torch import Tensor

from hierlit.draws import generator_of
from hierlit.models.radial_units import Kernel, profile

MOST_POINTS = 1000
"""Points where slopes are taken."""
LEAST_RADIUS = 1e-4
"""Least r² by which is divided: a point and itself are not at 0 exactly, nor are two that are alike."""
MOST_LABELS = 32
"""Random combinations that stand for more labels than these."""


def stretches(points: Tensor, squared: Tensor, kernel: Kernel, scale: float, duals: Tensor, seed: int) -> Tensor:
    """Return by what each coordinate of points is to be multiplied, [r], with a mean square of 1.

    It is the fourth root of the mean squared slope of the fit Σᵢ aᵢ k(·, zᵢ) along it, over points and labels, so that
    squared distances have the square root of the diagonal of the average gradient outer product as their metric, as in
    recursive feature machines (Radhakrishnan, Beaglehole, Pandit and Belkin, Science 383, 2024). A coordinate that the
    fit ignores is shrunk to 0.

    Args:
        points: z of the fit, [P, r].
        squared: Their squared distances, [P, P].
        kernel: Its kernel.
        scale: s² of r² = s²‖z − zᵢ‖².
        duals: a of the fit, [P, n].
        seed: Of the combinations of labels.
    """
    weights, points = duals - duals.mean(0), points - points.mean(0)  # the kernel is centred; points, to round less
    if weights.shape[1] > MOST_LABELS:
        generator = generator_of(seed, MOST_LABELS)
        weights = weights @ torch.randn(weights.shape[1], MOST_LABELS, generator=generator).to(weights)
    some = slice(None, None, -(-len(points) // MOST_POINTS))
    radii = squared[some] * scale
    slopes = profile(radii, kernel.power)
    if kernel.power != 2:  # d exp(−r) = −exp(−r) / r · d(r²/2)
        slopes /= radii.clamp(min=LEAST_RADIUS).sqrt()
    total = torch.zeros_like(points[0])
    for weight in weights.T:
        total += ((slopes @ weight)[:, None] * points[some] - slopes @ (weight[:, None] * points)).square_().sum(0)
    stretch = total.div(total.mean().clamp(min=torch.finfo(total.dtype).tiny)).pow(0.25)
    return stretch / stretch.square().mean().sqrt() if total.any() else torch.ones_like(total)
