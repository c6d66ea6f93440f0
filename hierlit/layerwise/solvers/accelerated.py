"""Nesterov's accelerated gradient method for strongly convex functions, restarted row by row."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class AcceleratedGradient(Optimizer):
    """Full-batch accelerated gradient steps (Nesterov 1983) with adaptive restart (O'Donoghue and Candès 2015).

    Rows of a parameter are independent problems: each keeps its own momentum, which grows as in FISTA up to the
    constant that strong convexity allows, and starts again when it points uphill. `param` holds the extrapolated
    point, where gradients are measured.

    Args:
        params: Parameters whose rows are independent problems.
        lr: Step; one over the gradient's Lipschitz constant.
        strong_convexity: A modulus λ of strong convexity.
        precondition: Maps a gradient to the direction of the step; gradient and Lipschitz constant are then measured in
            that metric. The identity when None.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        strong_convexity: float = 0.0,
        precondition: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr, "strong_convexity": strong_convexity})
        self.precondition = precondition

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Takes one step with the gradients in place."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self._step(param, param.grad, self.state[param], group["lr"], group["strong_convexity"])
        return loss

    def _step(self, param: Tensor, grad: Tensor, state: dict[str, Any], lr: float, strong_convexity: float) -> None:
        if not state:
            state["iterate"] = param.clone()
            state["age"] = torch.ones(len(param), 1, dtype=param.dtype, device=param.device)
        iterate, age = state["iterate"], state["age"]
        moved = param - lr * (grad if self.precondition is None else self.precondition(grad))
        change = moved - iterate
        uphill = (grad * change).sum(1, keepdim=True) > 0
        age.masked_fill_(uphill, 1.0)
        older = (1 + (1 + 4 * age.square()).sqrt()) / 2
        root = (lr * strong_convexity) ** 0.5
        momentum = ((age - 1) / older).clamp(max=(1 - root) / (1 + root))
        param.copy_(moved + momentum * change)
        iterate.copy_(moved)
        age.copy_(older)
