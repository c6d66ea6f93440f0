"""The frozen first layer of a residual block: W¹, b and the activation."""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# in place where torch can: their argument is always fresh
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "gelu": F.gelu,
    "tanh": torch.tanh_,
    "erf": torch.erf_,
    "sigmoid": torch.sigmoid_,
    "softplus": F.softplus,
    "cos": torch.cos_,
}
BIASES = ("gaussian", "uniform_phase")
ALIGNED_ROWS = 16
"""Rows of a tile come in this multiple, so that every tile starts at an aligned address: products then round alike."""
TILE = {"cpu": 2**20, "cuda": 2**28}
"""Features computed at a time: on a CPU they then stay in its cache between one operation and the next."""


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
        self.activation, self.spread = ACTIVATIONS[activation], math.sqrt((1 - beta**2) / fan_in)
        weight = torch.randn(n_features, fan_in, generator=generator) * self.spread
        if bias == "gaussian":
            offset = torch.randn(n_features, generator=generator) * beta
        else:
            offset = torch.rand(n_features, generator=generator) * 2 * math.pi
        self.weight = frozen(weight)
        self.bias = frozen(offset)
        self.scale = frozen(torch.ones(()))
        self.mean = frozen(torch.zeros(n_features))

    def preactivations(self, windows: Tensor) -> Tensor:
        """s·W¹z + b [..., q] of windows z [..., fan_in]."""
        return F.linear(windows, self.weight * self.scale, self.bias)

    def forward(self, windows: Tensor) -> Tensor:
        """Maps windows [..., fan_in] to centred features [..., q]."""
        features = self.activation(self.preactivations(windows))
        return features - self.mean if features.requires_grad else features.sub_(self.mean)

    def slopes(self, windows: Tensor) -> Tensor:
        """σ' at the pre-activations [..., q] of windows [..., fan_in]."""
        with torch.enable_grad():
            at = self.preactivations(windows.detach()).requires_grad_()
            return torch.autograd.grad(self.activation(at.clone()).sum(), at)[0]

    def rows_at_once(self) -> int:
        """Windows whose features fit into one tile; a multiple of `ALIGNED_ROWS`."""
        rows = TILE.get(self.weight.device.type, TILE["cpu"]) // len(self.weight)
        return max(ALIGNED_ROWS, rows // ALIGNED_ROWS * ALIGNED_ROWS)

    def tiles(self, windows: Tensor) -> Iterator[Tensor]:
        """The features of windows [P, fan_in], a tile of rows at a time."""
        return map(self, torch.split(windows, self.rows_at_once()))

    @torch.no_grad()
    def redraw(self, coordinates: Tensor, generator: torch.Generator) -> None:
        """Draws W¹ again, row i with the standard deviations of the β-Xavier draw times a row of `coordinates` (ours).

        Args:
            coordinates: Factors [T, fan_in] of the standard deviations; row i of W¹ takes row i mod T.
            generator: Source of the draw.
        """
        drawn = torch.randn(self.weight.shape, generator=generator).to(self.weight) * self.spread
        self.weight.copy_(drawn * coordinates[torch.arange(len(drawn), device=coordinates.device) % len(coordinates)])
