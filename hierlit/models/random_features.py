"""The frozen first layer of a residual block: W¹, b and the activation."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

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
ROUNDINGS = {"bfloat16": torch.bfloat16, "float16": torch.float16, "tf32": torch.float32}
"""What features are computed in by what they are rounded to; TF32 has float32's range, and 10 bits of its fraction."""
TILE = {"cpu": 2**19, "cuda": 2**28}
"""Features computed at a time: on a CPU they then stay in its cache between one operation and the next."""


def frozen(tensor: Tensor) -> nn.Parameter:
    """A parameter that is never trained: kept in checkpoints, and not broadcast at every step as a buffer would be."""
    return nn.Parameter(tensor, requires_grad=False)


class CompileError(RuntimeError):
    """torch.compile fails on this machine."""


def rounded_to_tf32(tensor: Tensor) -> Tensor:
    """Float32 numbers rounded to TF32."""
    return (tensor.view(torch.int32) + 0x1000).bitwise_and_(~0x1FFF).view(torch.float32)


@contextmanager
def tf32_products(allowed: bool) -> Iterator[None]:
    """Lets CUDA's float32 products inside use TF32 if that is allowed, and those outside no more than before."""
    if not allowed:
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def preactivations(
    windows: Tensor, weight: Tensor, scale: Tensor, bias: Tensor, dtype: torch.dtype, tf32: bool
) -> Tensor:
    """s·W¹z + b [..., q] of windows z [..., fan_in], computed in a dtype."""
    windows, weight = windows.to(dtype), (weight * scale).to(dtype)
    if tf32:
        # here, not by the device: the features are then the same on all of them
        windows, weight = rounded_to_tf32(windows), rounded_to_tf32(weight)
    return F.linear(windows, weight, bias.to(dtype))


def centred_features(
    windows: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    activation: Callable[[Tensor], Tensor],
    dtype: torch.dtype,
    tf32: bool,
) -> Tensor:
    """σ(s·W¹z + b) − μ [..., q] of windows z [..., fan_in], computed in a dtype."""
    features = activation(preactivations(windows, weight, scale, bias, dtype, tf32))
    mean = mean.to(dtype)
    return features - mean if features.requires_grad else features.sub_(mean)


@cache
def compiled_features() -> Callable[..., Tensor]:
    """`centred_features`, compiled for any number of rows when it is first called; it rounds where that does."""
    return torch.compile(centred_features, dynamic=True, options={"emulate_precision_casts": True})


def run_compiled(*arguments: Any) -> Tensor:
    """`centred_features`, compiled; a failure to compile is a `CompileError` of one line."""
    try:
        return compiled_features()(*arguments)
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = str(error).strip().partition("\n")[0]
        raise CompileError(f"model.compile must be false where torch.compile fails, got true: {reason}") from error


class RandomFeatures(nn.Module):
    """Random features φ(z) = σ(s·W¹z + b) − μ of windows z, drawn once and never trained.

    β-Xavier (our reading of the paper): W¹ has entries N(0, (1−β²)/fan_in) and b has entries N(0, β²), so that an
    input of squared norm fan_in gives pre-activations of unit variance. The scale s and the mean μ are ours: they are
    calibrated on the training rows when the block starts, and kept. All that is made of features, μ among it, has the
    precision of the weights.

    Args:
        fan_in: Length of a window z.
        n_features: Number q of features.
        beta: Share of the pre-activation's standard deviation that comes from the bias, in [0, 1).
        activation: σ, a key of `ACTIVATIONS`.
        bias: `gaussian` (β-Xavier) or `uniform_phase` (uniform on [0, 2π), for cosine features; ours).
        generator: Source of the draw; torch's global one when None.

    Attributes:
        rounding: A key of `ROUNDINGS`: what the features, or with `tf32` the factors of W¹z, are rounded to; None in
            full precision. It belongs to a trained network: a W² fitted to the features of one rounding fails on
            those of another.
        compiled: Whether torch.compile compiles them.
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
        self.rounding: str | None = None
        self.compiled = False
        self.weight = frozen(weight)
        self.bias = frozen(offset)
        self.scale = frozen(torch.ones(()))
        self.mean = frozen(torch.zeros(n_features))

    @property
    def n_features(self) -> int:
        return len(self.mean)

    @property
    def dtype(self) -> torch.dtype:
        """What features are computed and kept in."""
        return self.weight.dtype if self.rounding is None else ROUNDINGS[self.rounding]

    def preactivations(self, windows: Tensor) -> Tensor:
        """s·W¹z + b [..., q] of windows z [..., fan_in], of `dtype`."""
        tf32 = self.rounding == "tf32"
        with tf32_products(tf32 and windows.is_cuda):
            return preactivations(windows, self.weight, self.scale, self.bias, self.dtype, tf32)

    def forward(self, windows: Tensor) -> Tensor:
        """Maps windows [..., fan_in] to centred features [..., q], of `dtype`.

        Raises:
            CompileError: In one line, if they are to be compiled and cannot be.
        """
        compute, tf32 = run_compiled if self.compiled else centred_features, self.rounding == "tf32"
        drawn = (self.weight, self.scale, self.bias, self.mean)
        with tf32_products(tf32 and windows.is_cuda):
            return compute(windows, *drawn, self.activation, self.dtype, tf32)

    def slopes(self, windows: Tensor) -> Tensor:
        """σ' at the pre-activations [..., q] of windows [..., fan_in]."""
        with torch.enable_grad():
            at = self.preactivations(windows.detach()).to(self.weight.dtype).requires_grad_()
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
