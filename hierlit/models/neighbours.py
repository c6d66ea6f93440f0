"""What a location knows of the labels of its neighbours."""

import torch
from torch import Tensor, nn

from hierlit.models.proximity import Windows


class Neighbours(nn.Module):
    """What a location knows of the labels of its neighbours, and they of its own (ours).

    Args:
        table: Windows [|G|, w] that are symmetric: the location itself in the middle, and place i of a window opposite
            place w−1−i.

    Raises:
        ValueError: The windows are not.
    """

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.windows = Windows(table)
        if not is_symmetric(table):
            raise ValueError("neighbours must be windows around each location, as Window1d and Window2d are")

    def places(self, values: Tensor) -> Tensor:
        """Values [B, |G|, w, C] of each location's neighbours, of values [B, |G|, C]; 0 where there is none."""
        seen: Tensor = self.windows(values)
        return seen.view(*values.shape[:2], self.windows.size, values.shape[2])

    def labels(self, labels: Tensor, exists: Tensor) -> Tensor:
        """Return a location's labels, then its neighbours', [B, |G|, n·w], of labels [B, |G|, n]."""
        own, seen = labels[..., None, :], self.places(labels)
        seen = seen.where(self.places(exists.to(labels)) > 0, -own.abs())
        centre = self.windows.size // 2
        return torch.cat([own, seen[:, :, :centre], seen[:, :, centre + 1 :]], 2).flatten(2) * exists

    def mean(self, scores: Tensor, exists: Tensor) -> Tensor:
        """Scores [B, |G|, n] of labels: the mean of what they and their neighbours say, of scores [B, |G|, n·w]."""
        size = self.windows.size
        said = scores.view(*scores.shape[:2], size, scores.shape[2] // size)
        centre, total, number = size // 2, said[:, :, 0], torch.ones_like(exists)
        there, parts = self.places(exists), [place for place in range(size) if place != centre]
        for slot, place in enumerate(parts, 1):  # what this place's location says of the place opposite
            total = total + self.places(said[:, :, size - slot])[:, :, place]
            number = number + there[:, :, place]
        return total / number * exists


def is_symmetric(table: Tensor) -> bool:
    """Return whether windows [|G|, w] have their location in the middle, and opposite places see one another."""
    n, size = table.shape
    if size % 2 == 0 or not torch.equal(table[:, size // 2], torch.arange(n)):
        return False
    there, back = table.flip(1), table.where(table >= 0, n)
    padded = torch.cat([there, torch.full((1, size), -1)])
    found = padded[back, torch.arange(size)]
    return bool(((found == torch.arange(n)[:, None]) | (table < 0)).all())
