"""One block of the network: frozen features of windows of the stream, and the weight that is found for them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierlit.models.first_layer import FirstLayer, frozen, take_shape
from hierlit.models.proximity import Windows


class Block(NamedTuple):
    """Frozen features of windows of the stream: all of a block but the weight that is to be found.

    Attributes:
        features: Its first layer.
        windows: The windows that it reads.
        index: Its number, from 0.
        labels: Labels whose scores it may change, [n']; all when None.
    """

    features: FirstLayer
    windows: Windows
    index: int  # type: ignore[assignment]
    labels: Tensor | None = None

    def seen(self, stream: Tensor) -> Tensor:
        """Return what the features read, [B, |G|, fan_in], of a stream [B, |G|, d+n]."""
        return windows_read(self.features, self.windows, stream)

    def of_labels(self, values: Tensor) -> Tensor:
        """Return the columns [..., n'] of the block's labels, of values [..., n]."""
        return values if self.labels is None else values[..., self.labels]

    def of_all(self, values: Tensor, n_labels: int) -> Tensor:
        """Return values [n, ...] of all labels, 0 where a label is not the block's, of values [n', ...]."""
        if self.labels is None:
            return values
        return values.new_zeros(n_labels, *values.shape[1:]).index_copy_(0, self.labels, values)


def windows_read(features: FirstLayer, windows: Windows, stream: Tensor) -> Tensor:
    """Return the windows [B, |G|, w·c] of the channels that features read, of a stream [B, |G|, d+n]."""
    seen: Tensor = windows(stream if features.channels is None else stream.index_select(-1, features.channels))
    return seen


class ResidualBlock(nn.Module):
    """One block Γ + W²σ(W¹E_g(Γ) + b): frozen features, and W² = 0 until the block has been trained.

    `weight` [n, q+1] is the image A = W^D W² of W² in label coordinates, the only part of W² that receives gradient.
    Its last column multiplies a constant feature, which gives back the intercept that centring took away (ours).
    Where the block changes some labels alone, `labels` [n'] says which, and `weight` [n', q+1] has their rows only.
    A state dict may hold another width q, and other labels.
    """

    def __init__(self, features: FirstLayer, n_labels: int) -> None:
        super().__init__()
        self.features = features
        self.weight = frozen(torch.zeros(n_labels, features.n_features + 1))
        self.labels: nn.Parameter | None = None

    def forward(self, windows: Tensor) -> Tensor:
        """Return the change of the scores [..., n] that this block makes to windows [..., fan_in]."""
        return self.change(windows, self.weight)

    def change(self, windows: Tensor, weight: Tensor) -> Tensor:
        """Change [..., n] that a weight [n, q+1] in this block's place would make, a tile of rows at a time."""
        changes = [readout(features, weight) for features in self.features.tiles(windows.flatten(0, -2))]
        return torch.cat(changes).view(*windows.shape[:-1], len(weight))

    def set_weight(self, weight: Tensor, labels: Tensor | None = None) -> None:
        """Put a weight [n, q+1] in this block's place, also of another width q, or one of some labels, [n', q+1]."""
        self.weight.data = weight.detach().to(self.weight, copy=True, memory_format=torch.contiguous_format)
        self.labels = None if labels is None else frozen(labels.clone())

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *others: Any) -> None:
        loaded, labels = (state_dict.get(f"{prefix}{name}") for name in ("weight", "labels"))
        self.labels = frozen(labels.clone()) if isinstance(labels, Tensor) else None
        if isinstance(loaded, Tensor) and loaded.dim() == 2:
            n_labels = len(self.weight) if self.labels is None else len(self.labels)
            take_shape(self.weight, loaded, (n_labels, loaded.shape[1]))
        super()._load_from_state_dict(state_dict, prefix, *others)


def readout(features: Tensor, weight: Tensor) -> Tensor:
    """Scores [..., n] of features [..., q] under a weight [n, q+1] whose last column is the intercept; in its dtype.

    They are summed in the wider of both dtypes.
    """
    wide = weight.to(torch.promote_types(features.dtype, weight.dtype))
    return F.linear(features.to(wide), wide[:, :-1], wide[:, -1]).to(weight.dtype)
