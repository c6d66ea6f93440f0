"""A block's first layer of radial units, one around each of some training rows (ours)."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierlit.models.first_layer import ALIGNED_ROWS, FirstLayer, frozen, take_shape
from hierlit.models.random_features import RandomFeatures

JITTER = {torch.float32: 1e-7, torch.float64: 1e-10}
"""Added to the diagonal of the units' own kernel, for each unit: about what rounding of the features takes away."""
COSINE = 0.0
"""The power of units that are cosines."""
SOLVED_ROWS = 1024
"""Least rows that are whitened at a time: a triangular solve of fewer waits for its matrix."""


class Kernel(NamedTuple):
    """A radial kernel exp(−r^p / p).

    Attributes:
        power: p: 2, Gaussian, or 1, Laplace's.
        bandwidth: The distance that is r = 1, in units of the standard deviation of all that is read.
        on_sphere: Whether each window is first divided by the root mean square of what is read of it, so that only its
            direction counts.
    """

    power: float = 2.0
    bandwidth: float = 1.0
    on_sphere: bool = False


def squared_distances(points: Tensor, centres: Tensor) -> Tensor:
    """Squared distances [P, q] of points [P, d] to centres [q, d], accurate where they are small."""
    exact, others = points.double(), centres.double()
    squares = exact.square().sum(-1, keepdim=True) + others.square().sum(-1)
    return squares.sub_(exact @ others.T, alpha=2).clamp_(min=0).to(points)


def profile(squared: Tensor, power: Tensor | float) -> Tensor:
    """exp(−r^p / p) of squared distances r², p 1 or 2."""
    if isinstance(power, Tensor):  # an exported graph has no branches
        return torch.where(power == 2, squared / 2, squared.sqrt()).neg_().exp_()
    return (squared / 2 if power == 2 else squared.sqrt()).neg_().exp_()


def points_of(read: Tensor, on_sphere: Tensor | bool) -> Tensor:
    """Divide what is read of windows [P, r] by its root mean square, each, if so asked; zeros stay zeros."""
    size = read.square().mean(-1, keepdim=True).sqrt().clamp(min=torch.finfo(read.dtype).tiny)
    return read / size.where(torch.as_tensor(on_sphere, device=read.device), 1.0)


class RadialUnits(FirstLayer):
    """Features φ_i(z) − μ_i = exp(−r^p / p) − μ_i, r = s‖c ∘ (z − w_i)‖, of windows z.

    The units w_i are windows of training rows, so that q of them are a kernel machine: as good as ever so many random
    features of that kernel, where these approach it with an error of 1/√q. There are none until a block starts and
    `place` gives it some. The block's weight is found for their white features, see `WhiteUnits`.

    A solver may make cosines cos(s·w_i·z + b_i) of them instead, by `take`; a state dict says which they are.

    Args:
        fan_in: Length of a window z.
        n_centres: Units at most.

    Attributes:
        weight: What is read of the units, stretched: c ∘ w_i, [q, r].
        read: The coordinates of a window that are read, [r]; c is 0 at others.
        stretch: c at these coordinates, [r].
        on_sphere: Whether c ∘ z and c ∘ w_i are divided by their root mean squares, boolean [].
        power: p, 1 or 2; `COSINE` if they are cosines.
        bias: b, [q].
        amplitude: a of the white features.
    """

    def __init__(self, fan_in: int, n_centres: int) -> None:
        super().__init__(torch.zeros(0, fan_in), "fan_in")
        self.n_centres = n_centres
        self.read = frozen(torch.arange(fan_in))
        self.stretch = frozen(torch.ones(fan_in))
        self.power = frozen(torch.full((), 2.0))
        self.on_sphere = frozen(torch.zeros((), dtype=torch.bool))
        self.bias = frozen(torch.zeros(0))
        self.amplitude = frozen(torch.ones(()))
        self.are_cosines = False

    @property
    def dtype(self) -> torch.dtype:
        """Float64 whatever the rounding: a kernel's weights are large and cancel. Cosines have that of the weights."""
        return self.weight.dtype if self.are_cosines else torch.float64

    def uncentred(self, windows: Tensor) -> Tensor:
        """exp(−r^p / p), or cos(s·w·z + b), [..., q] of windows z [..., fan_in]."""
        if self.are_cosines:
            return F.linear(windows, self.weight * self.scale, self.bias).cos()
        read = windows.index_select(-1, self.read).flatten(0, -2).double()
        points = points_of(read * self.stretch, self.on_sphere)
        squared = squared_distances(points, self.weight).mul_(self.scale.square())
        return profile(squared, self.power).view(*windows.shape[:-1], self.n_features)

    def rows_at_once(self) -> int:
        """Windows whose features are computed at a time: as many as coordinates at least, for units are converted."""
        return max(super().rows_at_once(), min(SOLVED_ROWS, len(self.read) // ALIGNED_ROWS * ALIGNED_ROWS))

    @torch.no_grad()
    def place(
        self, windows: Tensor, kernel: Kernel | None = None, stretch: Tensor | None = None, amplitude: float = 1.0
    ) -> None:
        """Put a unit at each of some windows of training rows; scale and centre the features by these.

        Args:
            windows: [q, fan_in].
            kernel: The kernel; Gaussian of bandwidth 1 when None.
            stretch: c, [fan_in]; 1 for coordinates that vary, 0 for others when None.
            amplitude: a of the white features.
        """
        kernel = kernel or Kernel()
        seen = (windows if len(windows) else windows.new_zeros(1, windows.shape[1])).double()
        stretch = (seen.var(0, correction=0) > 0).to(self.weight) if stretch is None else stretch
        read = stretch.nonzero()[:, 0]
        seen = points_of(seen[:, read] * stretch[read], kernel.on_sphere)
        deviation = math.sqrt(float(seen.var(0, correction=int(len(seen) > 1)).sum())) if len(read) else 0.0
        self.read.data, self.stretch.data = read, stretch[read].to(self.weight)
        self.weight.data = seen[: len(windows)].to(self.weight)
        self.on_sphere.fill_(kernel.on_sphere)
        self.scale.fill_(1 / (kernel.bandwidth * deviation) if deviation > 0 else 1.0)
        self.power.fill_(kernel.power)
        self.amplitude.fill_(amplitude)
        self.mean.data, self.bias.data = self.mean.new_zeros(len(windows)), self.bias.new_zeros(len(windows))
        self.are_cosines = False
        total = sum((tile.sum(0) for tile in self.tiles(windows)), self.mean)
        self.mean.data = (total / max(1, len(windows))).to(self.mean)

    @torch.no_grad()
    def take(self, features: RandomFeatures) -> None:
        """Become cosines: random features that are drawn and calibrated."""
        self.read.data = torch.arange(features.weight.shape[1], device=self.read.device)
        self.stretch.data = torch.ones_like(features.weight[0])
        for name in ("weight", "bias", "scale", "mean"):
            getattr(self, name).data = getattr(features, name).data.to(self.weight)
        self.power.fill_(COSINE)
        self.on_sphere.fill_(False)
        self.are_cosines = True

    def opened(self) -> FirstLayer:
        """Their white features; cosines are what they are."""
        return self if self.are_cosines else WhiteUnits(self)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        own = {name: getattr(self, name) for name in ("weight", "read", "stretch", "mean", "bias")}
        given = {name: state_dict.get(f"{prefix}{name}") for name in own}
        loaded = {name: tensor for name, tensor in given.items() if isinstance(tensor, Tensor)}
        if loaded.keys() == own.keys():
            fits = loaded["weight"].shape == (*loaded["mean"].shape, *loaded["read"].shape)
            fits &= loaded["stretch"].shape == loaded["read"].shape
            for name, tensor in loaded.items():
                take_shape(own[name], tensor, tensor.shape if fits else own[name].shape)
            self.are_cosines = bool((state_dict.get(f"{prefix}power", self.power) == COSINE).all())
        super()._load_from_state_dict(state_dict, prefix, *others)


class OpenUnits(FirstLayer):
    """Radial units of a block in training, in coordinates in which its weight is found.

    Args:
        units: The units.
    """

    def __init__(self, units: RadialUnits) -> None:
        nn.Module.__init__(self)
        self.units, self.n_centres, self.input_scale = units, units.n_centres, units.input_scale
        self.weight, self.scale, self.mean = units.weight, units.scale, units.mean
        self.channels = self.noise = None

    @property
    def dtype(self) -> torch.dtype:
        """That of the weights."""
        return self.weight.dtype

    def rows_at_once(self) -> int:
        """Windows whose features are computed at a time."""
        return self.units.rows_at_once()

    def place(self, windows: Tensor, *arguments: Any, **options: Any) -> None:
        """Place the units."""
        self.units.place(windows, *arguments, **options)


class WhiteUnits(OpenUnits):
    """White features ψ(z) = a·L⁻¹(φ(z) − μ), with LLᵀ the units' own kernel.

    The Euclidean norm of a weight is that of its function in the space of the kernel, divided by a (Nyström's method:
    Williams and Seeger, "Using the Nyström method to speed up kernel machines", NeurIPS 2000). So the penalty of F_k is
    the kernel machine's. With a below 1, less of that penalty falls on the constant feature.
    """

    @cached_property
    def factor(self) -> Tensor:
        """L [q, q], computed in float64."""
        centres = self.weight.double()
        own = profile(squared_distances(centres, centres) * self.scale.double().square(), self.units.power)
        for jitter in (JITTER[self.weight.dtype] * len(own) * 10**step for step in range(4)):
            own.diagonal().fill_(1 + jitter)
            factor, failed = torch.linalg.cholesky_ex(own)
            if not failed:
                made: Tensor = factor.to(self.weight)
                return made
        raise FloatingPointError("the units' kernel is not finite: check the size of the inputs")

    def forward(self, windows: Tensor) -> Tensor:
        """Map windows [..., fan_in] to white features [..., q]."""
        centred = self.units(windows).flatten(0, -2).to(self.weight).T
        white: Tensor = torch.linalg.solve_triangular(self.factor, centred, upper=False).mul_(self.units.amplitude)
        return white.T.reshape(*windows.shape[:-1], self.n_features)

    def rows_at_once(self) -> int:
        """Windows whose features are computed at a time."""
        return max(SOLVED_ROWS, super().rows_at_once())

    def place(self, windows: Tensor, *arguments: Any, **options: Any) -> None:
        """Place the units."""
        super().place(windows, *arguments, **options)
        self.__dict__.pop("factor", None)

    def settled(self, weight: Tensor) -> Tensor:
        """Return, in the place of a weight [..., q+1] of white features, the one for the units that does the same."""
        factor = self.factor.double()
        for part in weight.view(-1, *weight.shape[-2:]):  # a fold at a time: its float64 is large where labels are many
            slopes = part[:, :-1].double() * self.units.amplitude
            part[:, :-1] = torch.linalg.solve_triangular(factor, slopes, upper=False, left=False)
        return weight


class DualUnits(OpenUnits):
    """Features ψ_i(z) = a²·k̄(z, w_i), k̄ the centred kernel, where each pair that is fitted has a unit.

    A weight [D, Σ_i D_i] of them is the combination with coefficients D of the pairs' own white features, the constant
    one among these: its squared norm is D(K + 1)Dᵀ, with K what `products` returns. So nothing is whitened.
    """

    is_kept = False

    def forward(self, windows: Tensor) -> Tensor:
        """Map windows [..., fan_in] to features [..., q]."""
        centred: Tensor = self.units(windows)
        centred = centred.sub_(centred.mean(-1, keepdim=True)).mul_(self.units.amplitude.square())
        return centred.to(self.weight)

    def products(self) -> Tensor:
        """Return a²·k̄ of the units with each other, [q, q]."""
        rows, factor, power = self.rows_at_once(), self.scale.double().square(), float(self.units.power)
        own = self.weight.new_empty(len(self.weight), len(self.weight))
        for place, points in zip(torch.split(own, rows), torch.split(self.weight, rows), strict=True):
            centred = profile(squared_distances(points, self.weight) * factor, power).sub_(self.mean)
            place.copy_(centred.sub_(centred.mean(1, keepdim=True)).mul_(self.units.amplitude.square()))
        return own

    def settled(self, weight: Tensor) -> Tensor:
        """Return, in the place of a weight [..., q+1], the one for the units that does the same."""
        slopes = weight[..., :-1]
        slopes.sub_(slopes.mean(-1, keepdim=True)).mul_(self.units.amplitude.square())
        return weight
