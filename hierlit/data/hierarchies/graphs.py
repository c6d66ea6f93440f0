"""Random graphs of Boolean functions: who is a function of whom, and which."""

from abc import abstractmethod
from collections.abc import Sequence
from itertools import chain, combinations
from math import comb
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hierlit.data.base import HierarchyDataModule
from hierlit.draws import Draws, draw_rows, split_tables
from hierlit.models.checks import one_of

WIRINGS = ("random", "tree")
MAX_PARENT_SETS = 1_000_000
N_PROBES = 4096
N_TRIES = 300
N_RESTARTS = 30

Label = tuple[tuple[int, ...], tuple[int, ...]]


def graph_problems(n_inputs: int, n_levels: int, labels_per_level: int, degree: int, table: str) -> list[str]:
    """Say which arguments, each valid by itself, allow no random hierarchy."""
    n_earlier = n_inputs + max(0, n_levels - 2) * labels_per_level
    if n_levels > 1 and comb(n_earlier, degree) > MAX_PARENT_SETS:
        sets = f"{comb(n_earlier, degree)} sets of {degree} among {n_earlier} inputs and labels"
        return [f"degree must leave at most {MAX_PARENT_SETS} parent sets to rule out, got {sets} for degree={degree}"]
    n_functions = comb(n_inputs, degree) * count_tables(degree, table)
    if labels_per_level > n_functions:
        most = f"{n_functions}, the distinct level-1 labels of degree {degree} on {n_inputs} inputs"
        return [f"labels_per_level must be at most {most} for table={table!r}, got {labels_per_level}"]
    return []


def count_tables(degree: int, table: str) -> int:
    """Count the functions of given arguments that may be drawn, one of each pair of negations."""
    if table == "parity":
        return 1
    if table == "majority":
        return 1 << degree - 1
    signed = [comb(degree, j) * (1 - 2 * ((degree - j) % 2)) for j in range(1, degree + 1)]
    return sum(sign * comb(1 << j, 1 << j - 1) for j, sign in enumerate(signed, start=1)) // 2


def draw_table(degree: int, table: str, draws: Draws) -> tuple[int, ...]:
    """Draw a balanced truth table in {0, 1} that depends on every argument."""
    size = 2**degree
    codes = np.arange(size)[:, None] >> np.arange(degree) & 1
    if table == "parity":
        return tuple(((codes.sum(1) + draws.integers(1, 2)) % 2).tolist())
    if table == "majority":
        return tuple((2 * (codes ^ draws.bits(1, degree)).sum(1) > degree).astype(int).tolist())
    while True:
        bits = (draws.permutation(size) < size // 2).astype(int)
        if depends_on_all(bits):
            return tuple(bits.tolist())


def depends_on_all(values: NDArray[Any]) -> bool:
    """Return whether a function given by its truth table depends on every argument."""
    cube = values.reshape((2,) * (len(values).bit_length() - 1))
    return all(bool((np.diff(cube, axis=axis) != 0).any()) for axis in range(cube.ndim))


def apply_table(bits: ArrayLike, arguments: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Look a truth table up for arguments in {0, 1}, each [rows]; return [rows]."""
    code = sum(argument.astype(np.intp) << j for j, argument in enumerate(arguments))
    values: NDArray[np.uint8] = np.array(bits, dtype=np.uint8)[code]
    return values


class GraphHierarchy(HierarchyDataModule):
    """Labels at one location, each of which `truth_table` tells as a function of its ``parents``: of inputs at level 1.

    A subclass calls `_lay_out`, and then draws the parents.
    """

    levels: list[int]
    parents: Sequence[Sequence[int]]

    @abstractmethod
    def truth_table(self, label: int) -> tuple[int, ...]:
        """Return a label's 2^k values in {−1, 1} as a function of its k ``parents``."""

    def _lay_out(self, wiring: str, n_levels: int, labels_per_level: int, fan_in: int) -> None:
        """Set the labels' levels: as many of each as asked for, or, in a tree, as have parents of their own."""
        self.level_sizes = [labels_per_level] * n_levels
        if wiring == "tree":
            self.level_sizes = [self.n_inputs // fan_in**level for level in range(1, n_levels + 1)]
        self.levels = np.repeat(np.arange(1, n_levels + 1), self.level_sizes).tolist()
        self.n_labels = len(self.levels)

    def make_tables(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Draw inputs [rows, 1, n_inputs] and compute labels [rows, 1, n_labels], in {-1, 1}."""
        inputs = draw_rows(sum(self.sizes), self.n_inputs, Draws(self.data_seed, "rows"))
        labels: list[NDArray[np.uint8]] = []
        for level, own in zip(self.levels, self.parents, strict=True):
            earlier, table = inputs.T if level == 1 else labels, np.array(self.truth_table(len(labels)))
            labels.append(apply_table(table > 0, [earlier[parent] for parent in own]))
        return split_tables(inputs[:, None], np.stack(labels, axis=1)[:, None], self.sizes)


class GraphDraw:
    """Draw parents and truth tables.

    Nodes are the inputs, then the labels, each given by its values in {0, 1} on the probes, examples of the input.
    """

    def __init__(self, n_inputs: int, labels_per_level: int, degree: int, table: str, seed: int) -> None:
        self.n_inputs = n_inputs
        self.labels_per_level = labels_per_level
        self.degree = degree
        self.table = table
        self.draws = Draws(seed, "hierarchy")
        self.probes = draw_rows(min(2**n_inputs, N_PROBES), n_inputs, Draws(seed, "probes")).T

    def graph(self, n_levels: int) -> list[Label]:
        """Return all labels, starting afresh when a level cannot be filled."""
        stuck = 1
        for _ in range(N_RESTARTS):
            nodes = list(self.probes)
            graph: list[Label] = []
            while len(graph) < n_levels * self.labels_per_level:
                labels = self.level(nodes, 1 + len(graph) // self.labels_per_level)
                if len(labels) < self.labels_per_level:
                    stuck = max(stuck, 1 + len(graph) // self.labels_per_level)
                    break
                graph += labels
            else:
                return graph
        raise ValueError(
            f"labels_per_level must be small enough for level {stuck} to be filled, got {self.labels_per_level}: "
            f"none found in {N_RESTARTS} attempts with n_inputs={self.n_inputs}, degree={self.degree}, "
            f"table={self.table!r}; raise n_inputs, or lower labels_per_level or n_levels"
        )

    def level(self, nodes: list[NDArray[np.uint8]], level: int) -> list[Label]:
        """Draw a level's labels and append their values to the nodes; return fewer if tries run out."""
        pool = np.arange(self.n_inputs if level > 1 else 0, len(nodes))
        newest = pool[-self.labels_per_level :] if level > 1 else pool
        n_simple = self.n_inputs + (level - 2) * self.labels_per_level if level > 1 else 0
        simple = np.array(nodes[:n_simple])
        parent_sets = _subsets(n_simple, self.degree)
        seen = {up_to_sign(values) for values in [np.zeros_like(nodes[0]), *nodes]}
        labels: list[Label] = []
        for _ in range(self.labels_per_level):
            for _ in range(N_TRIES):
                first = newest[self.draws.integers(1, len(newest))]
                others = pool[self.draws.permutation(len(pool))]
                parents = sorted([*first.tolist(), *others[others != first][: self.degree - 1].tolist()])
                bits = draw_table(self.degree, self.table, self.draws)
                values = apply_table(bits, [nodes[parent] for parent in parents])
                if up_to_sign(values) not in seen and not (level > 1 and self.is_junta(values, simple, parent_sets)):
                    break
            else:
                return labels
            seen.add(up_to_sign(values))
            nodes.append(values)
            labels.append((tuple(int(parent - pool[0]) for parent in parents), bits))
        return labels

    def is_junta(self, values: NDArray[np.uint8], nodes: NDArray[np.uint8], parent_sets: NDArray[np.intp]) -> bool:
        """Say whether no proof was found that the values are not a function of any of the parent sets.

        The proof for a set of parents is a pair of probes on which they all agree and the values differ.

        Args:
            values: [probes], not constant.
            nodes: [nodes, probes].
            parent_sets: Indices of nodes, [sets, parents].
        """
        ones, zeros = np.flatnonzero(values == 1), np.flatnonzero(values == 0)
        n_pairs = 64 * 2**self.degree
        one = ones[self.draws.integers(n_pairs, len(ones))]
        zero = zeros[self.draws.integers(n_pairs, len(zeros))]
        agree = np.packbits(nodes[:, one] == nodes[:, zero], axis=1)
        for word in np.ascontiguousarray(agree).view(np.uint64).T:
            parent_sets = parent_sets[np.bitwise_and.reduce(word[parent_sets], axis=1) == 0]
            if len(parent_sets) == 0:
                return False
        return True


def _subsets(n: int, size: int) -> NDArray[np.intp]:
    """Return the subsets of 0..n-1 of the given size, or the whole of it if smaller, [subsets, size]."""
    size = min(n, size)
    indices = chain.from_iterable(combinations(range(n), size))
    return np.fromiter(indices, dtype=np.intp, count=comb(n, size) * size).reshape(comb(n, size), size)


def up_to_sign(values: NDArray[np.uint8]) -> bytes:
    """Return the same key for values in {0, 1} and their negation."""
    flipped: NDArray[np.uint8] = values ^ values[0]
    return flipped.tobytes()


def wiring_problems(
    wiring: str, n_inputs: int, n_levels: int, labels_per_level: int, fan_in: int, name: str
) -> list[str]:
    """Say which sizes do not go with the wiring; ``name`` is that of the argument ``fan_in``."""
    if problems := one_of(WIRINGS, wiring=wiring):
        return problems
    if n_inputs < fan_in:
        return [f"n_inputs must be an integer >= {name} = {fan_in}, got {n_inputs}"]
    if wiring == "tree" and n_inputs % fan_in**n_levels:
        multiple = f"a multiple of {name}^n_levels = {fan_in**n_levels}"
        return [f"n_inputs must be {multiple} for a tree, got {n_inputs}"]
    if wiring == "random" and n_levels > 1 and labels_per_level < fan_in:
        return [f"labels_per_level must be an integer >= {name} = {fan_in}, got {labels_per_level}"]
    return []


def draw_tree(n_inputs: int, n_levels: int, degree: int, table: str, draws: Draws) -> list[Label]:
    """Return a tree of functions: every input and label but the last level's has one child, drawn at random."""
    labels: list[Label] = []
    n_earlier, first = n_inputs, 0
    for level in range(n_levels):
        groups = draws.permutation(n_earlier).reshape(-1, degree) + first
        labels += [(tuple(sorted(group.tolist())), draw_table(degree, table, draws)) for group in groups]
        first = first + n_earlier if level else 0
        n_earlier = len(groups)
    return labels
