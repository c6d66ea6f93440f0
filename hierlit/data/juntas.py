"""Random hierarchies of juntas: each label is a Boolean function of a few labels of earlier levels."""

from itertools import chain, combinations
from math import comb

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hierlit.data.base import HierarchyDataModule
from hierlit.data.checks import at_least, loader_problems, raise_problems, set_aside_problems, within
from hierlit.data.draws import Draws, draw_rows, split_tables

TABLES = ("random", "parity", "majority")
MAX_DEGREE = 10
MAX_PARENT_SETS = 1_000_000
N_PROBES = 4096
N_TRIES = 300
N_RESTARTS = 30


class JuntaHierarchy(HierarchyDataModule):
    """A random hierarchy with known levels, at one location (|G| = 1).

    Inputs are uniform in {-1, 1}. A label of level 1 is a Boolean function of ``degree`` inputs, one of level i ≥ 2 of
    ``degree`` labels of levels below i, at least one of them of level i - 1. Every function is balanced (as often 1 as
    -1 over its 2^degree arguments) and depends on each argument; at degree 2 only XOR and its negation do.

    Levels are true by construction, checked, and drawn again otherwise (our definition): no label is constant, equal
    to an input or an earlier label or the negation of one, and no label of level i ≥ 2 is a function of ``degree`` or
    fewer inputs and labels of levels up to i - 2. Each of these is proved by examples, among at most 4096 inputs (all
    inputs, if there are no more); a label for which they do not suffice is drawn again too.

    Rows are distinct, so train, val and test never share one. If there are fewer than n_train + n_val + n_test inputs,
    that is 2^n_inputs, they repeat, also between splits, with a warning.

    Attributes:
        parents: For each label the indices of its ``degree`` parents: inputs at level 1, else labels.
        truth_tables: For each label its 2^degree values in {-1, 1}; entry Σ_j 2^j [parent j is 1].

    Args:
        n_inputs: Input coordinates.
        n_levels: Levels of the hierarchy.
        labels_per_level: Labels at each level.
        degree: Parents of a label, 2..10.
        table: Functions to draw: "random" (uniform among those allowed), "parity" (the product with a random sign) or
            "majority" (of randomly negated arguments; needs an odd degree).
        n_train: Training rows.
        n_val: Validation rows.
        n_test: Test rows.
        flip_probability: Chance of each training label being flipped, in [0, 0.5]; set-aside rows are training rows,
            val and test stay clean.
        batch_size: Rows in a batch.
        acceptance_fraction: Share of the training rows set aside for acceptance decisions, in [0, 1).
        data_seed: Seed of the hierarchy and of all the randomness in the data.

    Raises:
        ValueError: If arguments are out of range, one line naming them all, or if no such hierarchy is found.
    """

    def __init__(
        self,
        n_inputs: int = 16,
        n_levels: int = 4,
        labels_per_level: int = 16,
        degree: int = 2,
        table: str = "random",
        n_train: int = 20000,
        n_val: int = 2000,
        n_test: int = 2000,
        flip_probability: float = 0.0,
        batch_size: int = 1000,
        acceptance_fraction: float = 0.2,
        data_seed: int = 0,
    ) -> None:
        problems = at_least(1, n_inputs=n_inputs, n_levels=n_levels, labels_per_level=labels_per_level)
        problems += at_least(1, n_train=n_train, n_val=n_val, n_test=n_test)
        if at_least(2, degree=degree) or degree > MAX_DEGREE:
            problems.append(f"degree must be an integer in 2..{MAX_DEGREE}, got {degree!r}")
        if table not in TABLES:
            problems.append(f"table must be one of {', '.join(TABLES)}, got {table!r}")
        problems += within("flip_probability", flip_probability, "[0, 0.5]")
        problems += loader_problems(batch_size, acceptance_fraction, data_seed)
        raise_problems(problems or _graph_problems(n_inputs, n_levels, labels_per_level, degree, table))
        raise_problems(set_aside_problems(n_train, acceptance_fraction))
        super().__init__(batch_size, acceptance_fraction, data_seed)
        self.save_hyperparameters()
        self._n_inputs = n_inputs
        self.n_levels = n_levels
        self.labels_per_level = labels_per_level
        self.degree = degree
        self.table = table
        self.sizes = (n_train, n_val, n_test)
        self.flip_probability = flip_probability
        graph = _GraphDraw(n_inputs, labels_per_level, degree, table, data_seed).graph(n_levels)
        self.parents = [parents for parents, _ in graph]
        self.truth_tables = [tuple(2 * bit - 1 for bit in bits) for _, bits in graph]

    @property
    def n_inputs(self) -> int:
        """Input coordinates."""
        return self._n_inputs

    @property
    def n_labels(self) -> int:
        """Labels of all levels."""
        return self.n_levels * self.labels_per_level

    @property
    def n_locations(self) -> int:
        """One."""
        return 1

    @property
    def levels(self) -> list[int]:
        """The level of each label, ascending from 1."""
        return [1 + label // self.labels_per_level for label in range(self.n_labels)]

    def truth_table(self, label: int) -> tuple[int, ...]:
        """Its entry of `truth_tables`, a function of its `parents`."""
        return self.truth_tables[label]

    def make_tables(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Draw inputs [rows, 1, n_inputs] and compute labels [rows, 1, n_labels], in {-1, 1}."""
        inputs = draw_rows(sum(self.sizes), self.n_inputs, Draws(self.data_seed, "rows"))
        labels: list[NDArray[np.uint8]] = []
        for label, (parents, values) in enumerate(zip(self.parents, self.truth_tables, strict=True)):
            earlier = inputs.T if label < self.labels_per_level else labels
            bits = tuple((value + 1) // 2 for value in values)
            labels.append(apply_table(bits, [earlier[parent] for parent in parents]))
        answers = np.stack(labels, axis=1)
        return split_tables(
            inputs[:, None],
            answers[:, None],
            self.sizes,
            self.flip_probability,
            shuffle_labels=False,
            seed=self.data_seed,
        )


Label = tuple[tuple[int, ...], tuple[int, ...]]


def _graph_problems(n_inputs: int, n_levels: int, labels_per_level: int, degree: int, table: str) -> list[str]:
    """Say which arguments, each valid by itself, allow no hierarchy."""
    if table == "majority" and degree % 2 == 0:
        return [f"degree must be odd for table='majority', got {degree}"]
    if n_inputs < degree:
        return [f"n_inputs must be an integer >= degree = {degree}, got {n_inputs}"]
    if n_levels > 1 and labels_per_level < degree:
        return [f"labels_per_level must be an integer >= degree = {degree}, got {labels_per_level}"]
    n_earlier = n_inputs + max(0, n_levels - 2) * labels_per_level
    if n_levels > 1 and comb(n_earlier, degree) > MAX_PARENT_SETS:
        sets = f"{comb(n_earlier, degree)} sets of {degree} among {n_earlier} inputs and labels"
        return [f"degree must leave at most {MAX_PARENT_SETS} parent sets to rule out, got {sets} for degree={degree}"]
    n_functions = comb(n_inputs, degree) * _count_tables(degree, table)
    if labels_per_level > n_functions:
        most = f"{n_functions}, the distinct level-1 labels of degree {degree} on {n_inputs} inputs"
        return [f"labels_per_level must be at most {most} for table={table!r}, got {labels_per_level}"]
    return []


def _count_tables(degree: int, table: str) -> int:
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
        cube = bits.reshape((2,) * degree)
        if all((np.diff(cube, axis=axis) != 0).any() for axis in range(degree)):
            return tuple(bits.tolist())


def apply_table(bits: tuple[int, ...], arguments: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Look a truth table up for arguments in {0, 1}, each [rows]; return [rows]."""
    code = sum(argument.astype(np.intp) << j for j, argument in enumerate(arguments))
    values: NDArray[np.uint8] = np.array(bits, dtype=np.uint8)[code]
    return values


class _GraphDraw:
    """Draws parents and truth tables.

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
        seen = {_up_to_sign(values) for values in [np.zeros_like(nodes[0]), *nodes]}
        labels: list[Label] = []
        for _ in range(self.labels_per_level):
            for _ in range(N_TRIES):
                parents = self._draw_parents(pool, newest)
                bits = draw_table(self.degree, self.table, self.draws)
                values = apply_table(bits, [nodes[parent] for parent in parents])
                if _up_to_sign(values) not in seen and not (level > 1 and self.is_junta(values, simple, parent_sets)):
                    break
            else:
                return labels
            seen.add(_up_to_sign(values))
            nodes.append(values)
            labels.append((tuple(int(parent - pool[0]) for parent in parents), bits))
        return labels

    def _draw_parents(self, pool: NDArray[np.int64], newest: NDArray[np.int64]) -> list[int]:
        first = newest[self.draws.integers(1, len(newest))]
        others = pool[self.draws.permutation(len(pool))]
        return sorted([*first.tolist(), *others[others != first][: self.degree - 1].tolist()])

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


def _up_to_sign(values: NDArray[np.uint8]) -> bytes:
    """Return the same key for values in {0, 1} and their negation."""
    flipped: NDArray[np.uint8] = values ^ values[0]
    return flipped.tobytes()
