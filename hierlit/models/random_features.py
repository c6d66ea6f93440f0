"""The frozen first layer of a residual block: W¹, b and the activation."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "cos": torch.cos,
}
BIASES = ("gaussian", "uniform_phase")


def frozen(tensor: Tensor) -> nn.Parameter:
    """A parameter that is never trained: kept in checkpoints, and not broadcast at every step as a buffer would be."""
    return nn.Parameter(tensor, requires_grad=False)


class RandomFeatures(nn.Module):
    """Random features φ(z) = σ(s·W¹z + b) − μ of windows z, drawn once and never trained.

    β-Xavier (our reading of the paper): W¹ has entries N(0, (1−β²)/fan_in) and b has entries N(0, β²), so that an
    input of squared norm fan_in gives pre-activations of unit variance. The scale s and the mean μ are ours: they are
    calibrated on the training rows when the block starts, and kept.

    Args:
        fan_in: Length of a window z.
        n_features: Number q of features.
        beta: Share of the pre-activation's standard deviation that comes from the bias, in [0, 1).
        activation: σ, a key of `ACTIVATIONS`.
        bias: `gaussian` (β-Xavier) or `uniform_phase` (uniform on [0, 2π), for cosine features; ours).
        generator: Source of the draw; torch's global one when None.
    """

    def __init__(
        self,
        fan_in: int,
        n_features: int,
        beta: float = 0.5,
        activation: str = "relu",
        bias: str = "gaussian",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        weight = torch.randn(n_features, fan_in, generator=generator) * math.sqrt((1 - beta**2) / fan_in)
        if bias == "gaussian":
            offset = torch.randn(n_features, generator=generator) * beta
        else:
            offset = torch.rand(n_features, generator=generator) * 2 * math.pi
        self.weight = frozen(weight)
        self.bias = frozen(offset)
        self.scale = frozen(torch.ones(()))
        self.mean = frozen(torch.zeros(n_features))

    def forward(self, windows: Tensor) -> Tensor:
        """Maps windows [..., fan_in] to centred features [..., q]."""
        return self.activation(F.linear(windows, self.weight * self.scale, self.bias)) - self.mean
