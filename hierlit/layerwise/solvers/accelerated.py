"""Nesterov's accelerated gradient method for strongly convex functions, restarted row by row."""

import torch
from torch import Tensor

from hierlit.layerwise.solvers.base import State


@torch.no_grad()
def accelerate(
    state: State, gradient: Tensor, step: float, strong_convexity: float = 0.0, direction: Tensor | None = None
) -> None:
    """Take a full-batch accelerated step (Nesterov 1983) with adaptive restart (O'Donoghue and Candès 2015).

    Rows of A are independent problems: each keeps its own momentum, which grows as in FISTA up to the constant that
    strong convexity allows, and starts again when it points uphill. The state's weight is the extrapolated point, where
    gradients are measured; the iterate and the momentum's age are in `extra`.

    Args:
        state: Changed in place.
        gradient: Of F_k [n, q+1].
        step: Length of the step; one over the gradient's Lipschitz constant.
        strong_convexity: A modulus λ of strong convexity.
        direction: Of the step [n, q+1], where the gradient is preconditioned; both constants are then measured in that
            metric. The gradient when None.
    """
    weight = state.weight
    if "iterate" not in state.extra:
        state.extra["iterate"] = weight.clone()
        state.extra["age"] = torch.ones(len(weight), 1, dtype=weight.dtype, device=weight.device)
    iterate, age = state.extra["iterate"], state.extra["age"]
    moved = weight - step * (gradient if direction is None else direction)
    change = moved - iterate
    uphill = (gradient * change).sum(1, keepdim=True) > 0
    age.masked_fill_(uphill, 1.0)
    older = (1 + (1 + 4 * age.square()).sqrt()) / 2
    root = (step * strong_convexity) ** 0.5
    momentum = ((age - 1) / older).clamp(max=(1 - root) / (1 + root))
    weight.copy_(moved + momentum * change)
    iterate.copy_(moved)
    age.copy_(older)
    state.steps += 1


def full_gradient(state: State, gradient: Tensor) -> Tensor:
    """Return the gradient of F_k [n, q+1] in the weights' precision, of that of its data terms."""
    return gradient.to(state.weight) + state.penalty[:, None] * state.weight
