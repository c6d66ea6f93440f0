"""Features: how the first layers of all blocks are made, one class for each kind."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from hierlit.models.checks import one_of, raise_problems
from hierlit.models.first_layer import INPUT_SCALES, FirstLayer
from hierlit.models.radial_units import RadialUnits
from hierlit.models.random_features import ACTIVATIONS, RandomFeatures

BIASES = ("gaussian", "uniform_phase")


class Features(ABC):
    """How the first layers of all blocks are made; immutable, and free of tensors."""

    is_drawn: ClassVar[bool] = True
    """Whether first layers are ready once they are made; a solver fills others in, in coordinates of [x, scores]."""

    def __init_subclass__(cls) -> None:
        """Let checkpoints, which hold a model's arguments, load with `weights_only`."""
        torch.serialization.add_safe_globals([cls])

    @abstractmethod
    def first_layer(self, fan_in: int, n_features: int, generator: torch.Generator) -> FirstLayer:
        """Make a block's first layer.

        Args:
            fan_in: Length w·(d+n) of a window.
            n_features: Number q of features.
            generator: Source of every draw; the blocks' layers are made in their order.
        """

    @property
    def kind(self) -> str:
        """What two networks must have in common for one to take the other's first layers; the class by default."""
        return type(self).__name__

    def kernel(self) -> tuple[str, float, str] | None:
        """Arguments (activation, β, bias) of `theory.expansion` for the kernel of infinitely many; None if unknown."""
        return None


@dataclass(frozen=True)
class GaussianFeatures(Features):
    """Random features σ(s·W¹z + b) with Gaussian W¹, the paper's.

    β-Xavier (our reading of the paper): W¹ has entries N(0, (1−β²)/fan_in) and b has entries N(0, β²), so that an
    input of squared norm fan_in gives pre-activations of unit variance.

    Args:
        beta: β in [0, 1), the standard deviation of a Gaussian bias, whose share of the pre-activation's variance is
            then β². With `uniform_phase` it sets the spread of W¹ alone.
        activation: σ: relu, gelu, tanh, erf, sigmoid, softplus or cos.
        bias: `gaussian`, or `uniform_phase`, uniform on [0, 2π); see `CosineFeatures` (ours).
        input_scale: What gives a window squared norm fan_in: `fan_in` leaves it alone (the letter), `live` counts the
            coordinates that vary, `rms` measures it; the last two are calibrated when a block starts (ours).

    Raises:
        ValueError: One line for each argument out of range.
    """

    beta: float = 0.5
    activation: str = "relu"
    bias: str = "gaussian"
    input_scale: str = "live"

    def __post_init__(self) -> None:
        problems = [] if 0 <= self.beta < 1 else [f"beta must be in [0, 1), got {self.beta}"]
        problems += one_of(tuple(ACTIVATIONS), activation=self.activation) + one_of(BIASES, bias=self.bias)
        raise_problems(problems + one_of(INPUT_SCALES, input_scale=self.input_scale))

    def first_layer(self, fan_in: int, n_features: int, generator: torch.Generator) -> RandomFeatures:
        """Draw W¹ [q, fan_in], then b [q]."""
        spread = math.sqrt((1 - self.beta**2) / fan_in)
        weight = torch.randn(n_features, fan_in, generator=generator) * spread
        if self.bias == "gaussian":
            bias = torch.randn(n_features, generator=generator) * self.beta
        else:
            bias = torch.rand(n_features, generator=generator) * 2 * math.pi
        return RandomFeatures(weight, bias, ACTIVATIONS[self.activation], spread, self.input_scale)

    @property
    def kind(self) -> str:
        """The activation: all else is in the tensors."""
        return self.activation

    def kernel(self) -> tuple[str, float, str] | None:
        """(activation, β, bias); None for uniform phases of something else than cos."""
        known = self.bias == "gaussian" or self.activation == "cos"
        return (self.activation, self.beta, self.bias) if known else None


@dataclass(frozen=True)
class CosineFeatures(GaussianFeatures):
    """Random Fourier features cos(s·W¹z + b) with phases b uniform on [0, 2π) (ours).

    Their kernel is Gaussian, ½·exp(−(1−β²)‖z − z'‖²/(2·fan_in)) at s = 1 (Rahimi and Recht, "Random features for
    large-scale kernel machines", NeurIPS 2007); the higher β, the wider. Arguments are those of `GaussianFeatures`.
    """

    activation: str = field(default="cos", init=False, repr=False)
    bias: str = field(default="uniform_phase", init=False, repr=False)


@dataclass(frozen=True)
class RadialFeatures(Features):
    """Radial units around training rows, at most q of them: a kernel machine; see `RadialUnits` (ours).

    The kernel is Gaussian, as wide as the standard deviation of all that a block reads, unless the solver chooses.
    `AutoSolver` may make cosines of them instead.
    """

    is_drawn = False

    def first_layer(self, fan_in: int, n_features: int, generator: torch.Generator) -> RadialUnits:
        """Make room for q units; they are placed when the block starts."""
        return RadialUnits(fan_in, n_features)

    @property
    def kind(self) -> str:
        """`radial`."""
        return "radial"
