"""Windows on the leaves of a tree, for labels that are symbols of the leaves' ancestors."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hierlit.models.checks import at_least, raise_problems
from hierlit.models.proximity import Proximity


@dataclass(frozen=True)
class TreeWindows(Proximity):
    """A leaf sees one leaf of each child's subtree of each of its ancestors: w = n_children · n_levels (ours).

    Leaves are numbered from the left. A leaf's ancestor at level i has n_children subtrees of n_children^(i−1) leaves;
    the first of each stands for it. So what the leaves know of the symbols at level i − 1 is in the window of level i.

    Args:
        n_children: Children s of a node, at least 2.
        n_levels: Levels L above the leaves, at least 1; |G| = s^L.

    Raises:
        ValueError: One line for each argument out of range.
    """

    n_children: int = 2
    n_levels: int = 3

    def __post_init__(self) -> None:
        raise_problems(at_least(2, n_children=self.n_children) + at_least(1, n_levels=self.n_levels))

    def table(self, n_locations: int) -> Tensor:
        """Return the windows [|G|, s·L], level after level; ValueError unless |G| = s^L."""
        leaves = self.n_children**self.n_levels
        if n_locations != leaves:
            shape = f"n_children^n_levels = {self.n_children}^{self.n_levels} = {leaves}"
            raise ValueError(f"{shape} must be n_locations = {n_locations}")
        leaf, child = torch.arange(leaves)[:, None], torch.arange(self.n_children)
        sizes = [self.n_children**level for level in range(self.n_levels)]
        return torch.cat(
            [leaf // (size * self.n_children) * size * self.n_children + child * size for size in sizes], 1
        )
