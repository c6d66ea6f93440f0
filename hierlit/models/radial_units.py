"""A block's first layer of radial units, one around each of some training rows (ours)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hierlit.models.first_layer import FirstLayer, frozen


def squared_distances(points: Tensor, centres: Tensor) -> Tensor:
    """Squared distances [P, q] of points [P, d] to centres [q, d], accurate where they are small."""
    exact, others = points.double(), centres.double()
    squares = exact.square().sum(-1, keepdim=True) + others.square().sum(-1)
    return squares.sub_(exact @ others.T, alpha=2).clamp_(min=0).to(points)


def profile(distances: Tensor, power: Tensor | float) -> Tensor:
    """exp(−r^p / p) of squared distances r²: Gaussian at p = 2, Laplace's at p = 1; in place where p is a number."""
    if isinstance(power, Tensor):
        return (-distances.pow(power / 2) / power).exp()
    return distances.div_(-2).exp_() if power == 2 else distances.sqrt_().neg_().exp_()


class RadialUnits(FirstLayer):
    """Features φ_i(z) − μ_i = exp(−r^p / p) − μ_i, r = s‖c ∘ (z − w_i)‖, of windows z.

    The units w_i are windows of training rows, so that q of them are a kernel machine: as good as ever so many random
    features of that kernel, where these approach it with an error of 1/√q. Nothing is drawn before the rows are known:
    `CrossFittedSolver` fills all of this in when a block starts.

    Args:
        fan_in: Length of a window z.
        n_features: Number q of features.

    Attributes:
        n_used: Units that are computed, where the others are known to have weights of zero; q after loading.
        weight: w [q, fan_in].
        coordinates: c [fan_in], zero for a coordinate that is not read.
        power: p, 1 or 2.
    """

    def __init__(self, fan_in: int, n_features: int) -> None:
        super().__init__(torch.zeros(n_features, fan_in), "fan_in")
        self.n_used = n_features
        self.coordinates = frozen(torch.ones(fan_in))
        self.power = frozen(torch.full((), 2.0))

    def uncentred(self, windows: Tensor) -> Tensor:
        """exp(−r^p / p) [..., q] of windows z [..., fan_in], zero for units out of use."""
        read = (windows * self.coordinates).flatten(0, -2)
        squared = squared_distances(read, self.weight[: self.n_used] * self.coordinates) * self.scale.square()
        used = profile(squared, self.power).view(*windows.shape[:-1], self.n_used)
        return F.pad(used, (0, self.n_features - self.n_used))

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self.n_used = self.n_features
