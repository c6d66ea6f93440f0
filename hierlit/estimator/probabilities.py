"""Log-odds that are consistent with a hierarchy, where one is given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path

from hierlit.models.checks import listed

Floats = NDArray[np.float64]


def numbered(hierarchy: Iterable[Any], names: Sequence[Any]) -> list[tuple[int, int]]:
    """Return edges of a hierarchy, parent and child, by the numbers of the labels, of their names.

    Raises:
        ValueError: One is no pair of names.
    """
    numbers, edges = {name: number for number, name in enumerate(names)}, []
    for edge in hierarchy if isinstance(hierarchy, Iterable) else [hierarchy]:
        try:
            parent, child = edge
            edges.append((numbers[parent], numbers[child]))
        except (TypeError, ValueError, KeyError):
            valid = f"pairs (parent, child) of labels, among {listed([repr(name) for name in names])}"
            raise ValueError(f"hierarchy must have {valid}, got {edge!r}") from None
    return edges


def descendants(edges: Sequence[tuple[int, int]], n_labels: int) -> NDArray[np.bool_]:
    """Return which labels are below which, or the same: [n, n], a row for each label above.

    Args:
        edges: Parent and child, by number.
        n_labels: Labels n.

    Raises:
        ValueError: The edges have a cycle.
    """
    pairs = np.array(edges, np.int32).reshape(-1, 2).T  # older SciPy takes no larger ones
    graph = csr_array((np.ones(len(edges)), tuple(pairs)), (n_labels, n_labels))
    below: NDArray[np.bool_] = np.isfinite(shortest_path(graph, "D", unweighted=True))
    cyclic = np.flatnonzero((below & below.T).sum(1) > 1)
    if len(cyclic):
        raise ValueError(f"hierarchy must have no cycle, got one through label {cyclic[0]}")
    return below


def consistent(log_odds: Floats, below: NDArray[np.bool_]) -> Floats:
    """Log-odds [..., n] raised to the largest of their descendants: no child is above its parent.

    Args:
        log_odds: Of labels.
        below: What `descendants` returned.
    """
    return np.stack([log_odds[..., row].max(-1) for row in below], -1)
