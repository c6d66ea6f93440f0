"""Losses of margins z = y·ŷ: convex, with a continuous gradient and a known bound on their curvature."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

# near, far, far_weight, smoothing and ceiling of the practical preset: ours. By benchmarks/losses.py
# the near hinge takes rule 150's last level to 1.000 where the far one alone stops at 0.996, for twice the epochs.
PRACTICAL = {"near": 0.5, "far": 1.0, "far_weight": 1.0, "smoothing": 1.0, "ceiling": 1.0}
PAPER_SMOOTHING = 0.5
PRESETS = ("practical", "paper")


class MarginLoss(ABC):
    """A convex loss ℓ(z) of margins z = y·ŷ whose gradient is Lipschitz; immutable, and free of tensors."""

    def __init_subclass__(cls) -> None:
        """Let checkpoints, which hold a model's arguments, load with `weights_only`."""
        torch.serialization.add_safe_globals([cls])

    @abstractmethod
    def __call__(self, margins: Tensor) -> Tensor:
        """Elementwise losses ℓ(z) of margins z, in the same shape."""

    def derivative(self, margins: Tensor) -> Tensor:
        """Elementwise ℓ'(z) of margins z, in the same shape."""
        with torch.enable_grad():
            at = margins.detach().requires_grad_()
            return torch.autograd.grad(self(at).sum(), at)[0]

    @property
    @abstractmethod
    def curvature(self) -> float:
        """An upper bound on ℓ'', for step sizes."""

    @property
    def is_squared(self) -> bool:
        """Whether ℓ is the squared loss, whose objective has a closed-form minimiser."""
        return False

    def for_data(self, n_pairs: int) -> "MarginLoss":
        """Return this loss with its data-dependent constants filled in.

        Args:
            n_pairs: Number m·|G| of training examples times locations.
        """
        return self


def smoothed_hinge(margins: Tensor, margin: float, smoothing: float) -> Tensor:
    """Return the hinge h_η(z) = max(0, t), t = 1 − z/η, with its kink smoothed quadratically (ours).

    It is 0 for t ≤ 0, t²/(2s) for 0 < t < s and t − s/2 for t ≥ s.

    Args:
        margins: Margins z, any shape.
        margin: The margin η.
        smoothing: The smoothing s.
    """
    gap = 1 - margins / margin
    clipped = gap.clamp(0, smoothing)
    return clipped * (gap - clipped / 2) / smoothing


def positive(name: str, value: float) -> None:
    """Raise ValueError unless the argument `name` is positive and finite."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")


def in_unit_interval(name: str, value: float) -> None:
    """Raise ValueError unless the argument `name` lies in (0, 1]."""
    if not 0 < value <= 1:
        raise ValueError(f"{name} must be in (0, 1], got {value}")


@dataclass(frozen=True)
class SquaredLoss(MarginLoss):
    """ℓ(z) = ½(1 − z)², which for labels ±1 is half the squared error of the scores."""

    def __call__(self, margins: Tensor) -> Tensor:
        """Elementwise losses of margins."""
        return (1 - margins).square() / 2

    def derivative(self, margins: Tensor) -> Tensor:
        """Elementwise z − 1."""
        return margins - 1

    @property
    def curvature(self) -> float:
        """ℓ'' = 1."""
        return 1.0

    @property
    def is_squared(self) -> bool:
        """True."""
        return True


@dataclass(frozen=True)
class HingeLoss(MarginLoss):
    """The paper's h_η(z) = max(0, 1 − z/η), its kink smoothed quadratically (ours); 0 from z = η on.

    Args:
        margin: η > 0.
        smoothing: Width s in (0, 1] of the smoothed part, as a share of the margin.

    Raises:
        ValueError: An argument is out of range.
    """

    margin: float = 1.0
    smoothing: float = 0.5

    def __post_init__(self) -> None:
        positive("margin", self.margin)
        in_unit_interval("smoothing", self.smoothing)

    def __call__(self, margins: Tensor) -> Tensor:
        """Elementwise losses of margins."""
        return smoothed_hinge(margins, self.margin, self.smoothing)

    @property
    def curvature(self) -> float:
        """ℓ'' ≤ 1/(sη²)."""
        return 1 / (self.smoothing * self.margin**2)


@dataclass(frozen=True)
class SquaredHingeLoss(MarginLoss):
    """ℓ(z) = ½ max(0, 1 − z/η)², 0 from z = η on.

    Args:
        margin: η > 0.

    Raises:
        ValueError: The margin is out of range.
    """

    margin: float = 1.0

    def __post_init__(self) -> None:
        positive("margin", self.margin)

    def __call__(self, margins: Tensor) -> Tensor:
        """Elementwise losses of margins."""
        return F.relu(1 - margins / self.margin).square() / 2

    @property
    def curvature(self) -> float:
        """ℓ'' ≤ 1/η²."""
        return 1 / self.margin**2


@dataclass(frozen=True)
class LogisticLoss(MarginLoss):
    """ℓ(z) = log(1 + e^−z)."""

    def __call__(self, margins: Tensor) -> Tensor:
        """Elementwise losses of margins."""
        return -F.logsigmoid(margins)

    @property
    def curvature(self) -> float:
        """ℓ'' ≤ 1/4."""
        return 0.25


def check_hybrid(constants: dict[str, float]) -> None:
    """Raise ValueError unless the constants of a `HybridMarginLoss` make a convex loss; `far_weight` may be open."""
    near, far, ceiling = constants["near"], constants["far"], constants["ceiling"]
    positive("near", near)
    positive("far", far)
    in_unit_interval("smoothing", constants["smoothing"])
    if not 0 <= constants.get("far_weight", 0) < math.inf:
        raise ValueError(f"far_weight must be at least 0 and finite, got {constants['far_weight']}")
    if far < near:
        raise ValueError(f"far must be at least near = {near}, got {far}")
    if not ceiling >= far:
        raise ValueError(f"ceiling must be at least far = {far} (inf for none), got {ceiling}")


@dataclass(frozen=True)
class HybridMarginLoss(MarginLoss):
    """The paper's hybrid of margin losses: ℓ = h_near + far_weight · h_far, plus ½ max(0, z − ceiling)².

    The hinges are smoothed as in `HingeLoss`. The ceiling is ours: the next block wants its inputs near ±1. Constants
    left at None take the preset's value, also in the fields:

    - `practical` (ours): the constants in `PRACTICAL`.
    - `paper` (our reading): near = 1/(2B), far = 1 − ξ/2, far_weight = 1/(4m|G|), no ceiling. m|G| comes from the
      data, by `for_data`.

    Args:
        preset: `practical` or `paper`.
        bound: The PTF bound B ≥ 1; read by the paper preset only.
        robustness: The robustness ξ in (0, 1]; read by the paper preset only.
        smoothing: Smoothing s in (0, 1] of both hinges.
        ceiling: Margin, at least `far`, beyond which larger margins are penalised; inf for no ceiling.
        n_pairs: Number m·|G| of training examples times locations; read by the paper preset only.
        near: Margin η of the first hinge.
        far: Margin η of the second hinge, at least `near`.
        far_weight: Weight, at least 0, of the second hinge; None in the paper preset before `for_data`.

    Raises:
        ValueError: An argument is out of range.
    """

    preset: Literal["practical", "paper"] = "practical"
    bound: float = 1.0
    robustness: float = 1.0
    smoothing: float | None = None
    ceiling: float | None = None
    n_pairs: int | None = None
    near: float | None = None
    far: float | None = None
    far_weight: float | None = None

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {self.preset!r}")
        if not 1 <= self.bound < math.inf:
            raise ValueError(f"bound must be at least 1 and finite, got {self.bound}")
        in_unit_interval("robustness", self.robustness)
        if self.n_pairs is not None and self.n_pairs < 1:
            raise ValueError(f"n_pairs must be a positive integer, got {self.n_pairs}")
        given = {name: value for name in PRACTICAL if (value := getattr(self, name)) is not None}
        constants = self._preset_constants() | given
        check_hybrid(constants)
        for name, value in constants.items():
            object.__setattr__(self, name, value)

    def _preset_constants(self) -> dict[str, float]:
        if self.preset == "practical":
            return PRACTICAL
        constants = {"near": 1 / (2 * self.bound), "far": 1 - self.robustness / 2}
        constants |= {"smoothing": PAPER_SMOOTHING, "ceiling": math.inf}
        if self.n_pairs is not None:
            constants["far_weight"] = 1 / (4 * self.n_pairs)
        return constants

    def _constants(self) -> tuple[float, float, float, float, float]:
        """`near`, `far`, `far_weight`, `smoothing` and `ceiling`, of which `far_weight` may still be open."""
        near, far, weight, smoothing, ceiling = self.near, self.far, self.far_weight, self.smoothing, self.ceiling
        if near is None or far is None or weight is None or smoothing is None or ceiling is None:
            raise ValueError("far_weight of the paper preset is 1/(4·n_pairs): give n_pairs or call for_data(n_pairs)")
        return near, far, weight, smoothing, ceiling

    def __call__(self, margins: Tensor) -> Tensor:
        """Elementwise losses of margins."""
        near, far, weight, smoothing, ceiling = self._constants()
        losses = smoothed_hinge(margins, near, smoothing) + weight * smoothed_hinge(margins, far, smoothing)
        if ceiling < math.inf:
            losses = losses + F.relu(margins - ceiling).square() / 2
        return losses

    @property
    def curvature(self) -> float:
        """The hinges' bounds added up, or the ceiling's 1 if larger: beyond the ceiling the hinges are 0."""
        near, far, weight, smoothing, ceiling = self._constants()
        hinges = (1 / near**2 + weight / far**2) / smoothing
        return max(hinges, 1.0) if ceiling < math.inf else hinges

    def for_data(self, n_pairs: int) -> "HybridMarginLoss":
        """Return this loss with far_weight = 1/(4·n_pairs) if it is still open (paper preset), else this loss."""
        return self if self.far_weight is not None else replace(self, n_pairs=n_pairs)
