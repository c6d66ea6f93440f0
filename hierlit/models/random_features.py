"""Random features: a first layer W¹, b and an activation, and how it is computed and compiled."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hierlit.models.first_layer import FirstLayer, frozen, take_shape

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


class CompileError(RuntimeError):
    """torch.compile fails on this machine."""


def rounded_to_tf32(tensor: Tensor) -> Tensor:
    """Float32 numbers rounded to TF32."""
    return (tensor.view(torch.int32) + 0x1000).bitwise_and_(~0x1FFF).view(torch.float32)


@contextmanager
def tf32_products(allowed: bool) -> Iterator[None]:
    """Let CUDA's float32 products inside use TF32 if that is allowed, and those outside no more than before."""
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


class RandomFeatures(FirstLayer):
    """Random features φ(z) − μ = σ(s·W¹z + b) − μ of windows z.

    Args:
        weight: W¹ [q, fan_in].
        bias: b [q].
        activation: σ, elementwise; it may work in place.
        spread: Standard deviation of the entries of W¹, for `redraw`.
        input_scale: See `GaussianFeatures`.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        activation: Callable[[Tensor], Tensor],
        spread: float,
        input_scale: str = "live",
    ) -> None:
        super().__init__(weight, input_scale)
        self.bias = frozen(bias)
        self.activation, self.spread = activation, spread

    def preactivations(self, windows: Tensor) -> Tensor:
        """s·W¹z + b [..., q] of windows z [..., fan_in], of `dtype`."""
        tf32 = self.rounding == "tf32"
        with tf32_products(tf32 and windows.is_cuda):
            return preactivations(windows, self.weight, self.scale, self.bias, self.dtype, tf32)

    def forward(self, windows: Tensor) -> Tensor:
        """Map windows [..., fan_in] to centred features [..., q], of `dtype`.

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

    @torch.no_grad()
    def redraw(self, coordinates: Tensor, generator: torch.Generator) -> None:
        """Draw W¹ again, row i with the standard deviations of the first draw times a row of `coordinates` (ours).

        Args:
            coordinates: Factors [T, fan_in] of the standard deviations; row i of W¹ takes row i mod T.
            generator: Source of the draw.
        """
        self.weight.copy_(torch.randn(self.weight.shape, generator=generator).to(self.weight) * self.spread)
        self.lean(coordinates)

    @torch.no_grad()
    def lean(self, coordinates: Tensor) -> None:
        """Multiply row i of W¹ by row i mod T of `coordinates` [T, fan_in]."""
        self.weight.mul_(coordinates[torch.arange(self.n_features, device=coordinates.device) % len(coordinates)])

    @torch.no_grad()
    def become(self, drawn: "RandomFeatures", channels: Tensor, noise: Tensor) -> None:
        """Take the place of a layer: as many features as another has, which read some channels of the stream (ours).

        Args:
            drawn: Features of windows of these channels, [q, w·c].
            channels: See `FirstLayer`.
            noise: See `FirstLayer`.
        """
        for name in ("weight", "bias", "mean"):
            own = getattr(self, name)
            own.data = getattr(drawn, name).data.to(own)
        self.channels, self.noise = frozen(channels), frozen(noise.to(self.weight))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        names = ("channels", "noise", "weight", "mean")
        channels, noise, weight, mean = (state_dict.get(f"{prefix}{name}") for name in names)
        self.channels = None if channels is None else frozen(channels.clone())
        self.noise = None if noise is None else frozen(noise.clone())
        if noise is not None and weight is not None and mean is not None:
            take_shape(self.weight, weight, (len(mean), len(noise)))
        super()._load_from_state_dict(state_dict, prefix, *others)
