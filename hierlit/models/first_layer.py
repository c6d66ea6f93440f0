"""The frozen first layer of a residual block: what every kind of features offers to those that train W² on it."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

INPUT_SCALES = ("fan_in", "live", "rms")
ROUNDINGS = {"bfloat16": torch.bfloat16, "float16": torch.float16, "tf32": torch.float32}
"""What features are computed in by what they are rounded to; TF32 has float32's range, and 10 bits of its fraction."""
TILE = {"cpu": 2**19, "cuda": 2**28}
"""Features computed at a time: on a CPU they then stay in its cache between one operation and the next."""
ALIGNED_ROWS = 16
"""Rows of a tile come in this multiple, so that every tile starts at an aligned address: products then round alike."""


def frozen(tensor: Tensor) -> nn.Parameter:
    """Parameter that is never trained: kept in checkpoints, and not broadcast at every step as a buffer would be."""
    return nn.Parameter(tensor, requires_grad=False)


class FirstLayer(nn.Module):
    """Features φ(z) − μ of windows z, drawn once and never trained. A subclass writes φ: its method `uncentred`.

    The scale s and the mean μ are calibrated on the training rows when the block starts, and kept (ours). All that is
    made of features, μ among it, has the precision of the weights. A state dict may hold another number of features.

    Args:
        weight: W¹ [q, …], as a rule [q, fan_in]. Further tensors of a subclass are `frozen`, and [q, …] or have no q.
        input_scale: What gives a window squared norm fan_in; see `GaussianFeatures`.

    Attributes:
        scale: s [], a factor of the windows.
        mean: μ [q].
        rounding: A key of `ROUNDINGS`: what the features, or with `tf32` the factors of W¹z, are rounded to; None in
            full precision. It belongs to a trained network: a W² fitted to the features of one rounding fails on
            those of another.
        compiled: Whether torch.compile is to compile them; `RandomFeatures` alone can be.
        n_centres: Windows of training rows that `place` asks for, at most; 0 for features that need none.
        is_kept: Whether a solver goes over the features, so that they are worth keeping.
        channels: Channels of the stream whose windows are read, [c], fan_in being w·c; all when None.
        noise: Largest noise that is added to each coordinate of a window, [fan_in], while W² is fitted; none when
            None. See `SizedDraw`.
    """

    n_centres: int = 0
    is_kept: bool = True

    def __init__(self, weight: Tensor, input_scale: str = "live") -> None:
        super().__init__()
        self.weight = frozen(weight)
        self.scale = frozen(torch.ones(()))
        self.mean = frozen(torch.zeros(len(weight)))
        self.input_scale = input_scale
        self.channels: nn.Parameter | None = None
        self.noise: nn.Parameter | None = None
        self.rounding: str | None = None
        self.compiled = False

    @property
    def n_features(self) -> int:
        """Number q of features."""
        return len(self.mean)

    @property
    def dtype(self) -> torch.dtype:
        """What features are computed and kept in."""
        return self.weight.dtype if self.rounding is None else ROUNDINGS[self.rounding]

    def uncentred(self, windows: Tensor) -> Tensor:
        """Features φ(z) [..., q] of windows z [..., fan_in], which are to be multiplied by `scale`; in their dtype."""
        raise NotImplementedError(f"{type(self).__name__} must define uncentred(windows)")

    def forward(self, windows: Tensor) -> Tensor:
        """Map windows [..., fan_in] to centred features [..., q] of `dtype`, computed in the weights' precision."""
        return (self.uncentred(windows.to(self.weight)) - self.mean).to(self.dtype)

    def place(self, windows: Tensor) -> None:
        """Take what is needed from windows [P, fan_in] of training rows drawn at random, scale and mean among it."""
        raise NotImplementedError(f"{type(self).__name__} must define place(windows), or leave n_centres at 0")

    def opened(self) -> "FirstLayer":
        """Features that the weight of the block is found for, in other coordinates perhaps; these by default."""
        return self

    def settled(self, weight: Tensor) -> Tensor:
        """Return the weight [..., q+1] that is kept, in the place of one for opened features that does the same."""
        return weight

    def rows_at_once(self) -> int:
        """Windows whose features fit into one tile; a multiple of `ALIGNED_ROWS`."""
        rows = TILE.get(self.weight.device.type, TILE["cpu"]) // max(1, self.n_features)
        return max(ALIGNED_ROWS, rows // ALIGNED_ROWS * ALIGNED_ROWS)

    def tiles(self, windows: Tensor) -> Iterator[Tensor]:
        """Return the features of windows [P, fan_in], a tile of rows at a time."""
        return map(self, torch.split(windows, self.rows_at_once()))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        width, mean = self.n_features, state_dict.get(f"{prefix}mean")
        for name, own in self.named_parameters(recurse=False):
            if isinstance(mean, Tensor) and own.shape[:1] == (width,) and f"{prefix}{name}" in state_dict:
                take_shape(own, state_dict[f"{prefix}{name}"], (len(mean), *own.shape[1:]))
        super()._load_from_state_dict(state_dict, prefix, *others)


def take_shape(parameter: Tensor, loaded: Tensor, valid: tuple[int, ...]) -> None:
    """Give a parameter or buffer that is about to be loaded the shape of what is loaded, if that is valid."""
    if parameter.shape != loaded.shape == valid:
        parameter.data = parameter.new_empty(valid)
