"""Mixed precision as hierlit means it: random features in 16 bits, everything else in the weights' own precision."""

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from torch import nn

from hierlit.models import HierarchicalResNet

PRECISIONS = ("32-true", "64-true", "bf16-mixed")
CUDA_PRECISIONS = (*PRECISIONS, "16-mixed")
SHORT = {"None": "32-true", "32": "32-true", "64": "64-true", "16": "16-mixed", "bf16": "bf16-mixed"}
"""Lightning's other names of some precisions."""
ROUNDED = {"bf16-mixed": "bfloat16", "16-mixed": "float16"}


def check_precision(precision: str | int | None, device: torch.device) -> None:
    """Raise a ValueError unless a network can be fitted on a device in a precision, under any of Lightning's names."""
    valid = CUDA_PRECISIONS if device.type == "cuda" else PRECISIONS
    if SHORT.get(str(precision), precision) not in valid:
        raise ValueError(f"trainer.precision must be one of {', '.join(valid)} on {device.type}, got {precision}")


def rounding_of(precision: str | int | None, tf32: bool) -> str | None:
    """Return what features are rounded to in a run of this precision, as `HierarchicalResNet.rounding` names it."""
    name = SHORT.get(str(precision), str(precision))
    return ROUNDED.get(name, "tf32" if tf32 and name == "32-true" else None)


def set_rounding(net: HierarchicalResNet, rounding: str | None, is_trained: bool) -> None:
    """Set what a network's features are rounded to.

    Raises:
        ValueError: If some of it is trained already, on features of another rounding.
    """
    if rounding != net.rounding and is_trained:
        kinds = f"features rounded to {net.rounding}, got {rounding} (None is full precision)"
        raise ValueError(f"trainer.precision and model.tf32 must be those of the blocks trained so far: {kinds}")
    net.rounding = rounding


def matmul_precision() -> str:
    """Return what torch may compute float32 products in; `high` if set for one backend alone, in newer torch."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return "high"


class FeaturePrecision(Precision):
    """Lightning's part of a run in float32 or mixed precision: to leave the precision of all products alone.

    Autocast would compute scores, Gram matrices and gradients in 16 bits; so would, on some devices, a call of
    `torch.set_float32_matmul_precision`, which Lightning advises. Gradients are summed in float32 and none passes
    through 16 bits, so that there is no loss to scale either.

    Args:
        precision: Lightning's name of the run's precision.
    """

    def __init__(self, precision: str) -> None:
        self.precision = precision  # type: ignore[assignment]
        self._before: str | None = None

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Start a run: leave the module as it is, and compute all float32 products in float32."""
        self._before = matmul_precision()
        torch.set_float32_matmul_precision("highest")
        return module

    def teardown(self) -> None:
        """End the run, also after an error."""
        if self._before is not None:
            torch.set_float32_matmul_precision(self._before)
            self._before = None


def keep_precision(trainer: Trainer) -> None:
    """Put a `FeaturePrecision` in the place of the plugin with which Lightning would lower a run's precision."""
    if type(trainer.precision_plugin) in (Precision, MixedPrecision):
        trainer.strategy.precision_plugin = FeaturePrecision(str(trainer.precision))
