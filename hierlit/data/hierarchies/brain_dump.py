"""BrainDump: a circuit whose neurons are seen as random majorities, layer by layer (the paper's Theorem 3.4)."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hierlit.data.base import HierarchyDataModule
from hierlit.data.hierarchies.graphs import apply_table, draw_table, up_to_sign
from hierlit.data.hierarchies.juntas import MAX_DEGREE
from hierlit.draws import Draws, draw_rows, split_tables
from hierlit.models.checks import at_least, integers, within
from hierlit.theory import random_majorities

Bits = NDArray[np.uint8]
N_PROBES = 4096
N_TRIES = 1000
BALANCE = 0.1
"""Largest distance from ½ of a neuron's share of ones."""


class BrainDump(HierarchyDataModule):
    """A random Boolean circuit as the teacher: its output is the target, majorities of its neurons auxiliary labels.

    A neuron of layer 1 is a Boolean function of ``fan_in`` inputs, one of layer i ≥ 2 of ``fan_in`` neurons of layer
    i − 1. Functions are balanced and depend on every argument; neurons that the circuit makes constant, equal to
    another of their layer or to its negation, or one in less than 40% or more than 60% of the inputs, are drawn again;
    this is judged by 4,096 inputs, the probes, or by all if there are no more.
    Inputs are uniform in {-1, 1}, rows distinct. The output is the first neuron of the last layer.

    An auxiliary label of level i is sign⟨w, z⟩ of layer i's states z, with w in {-1, 0, 1} of ``majority_size``
    nonzeros at random. The last layer has none: the target, its one neuron that counts, is of level ``depth``. In the
    paper's terms r = depth: from enough majorities of a layer every neuron there is a linear function of the labels to
    any accuracy (`hierlit.theory.reconstruct`), so that the next layer's majorities are functions of the labels too.
    Without auxiliary labels the target is a function of up to fan_in^depth inputs, and nothing leads to it.

    So neurons, and the target, are 1 in 40% to 60% of the probes, and their majorities nearly so.

    Attributes:
        parents: For each layer the indices [width, fan_in] of the neurons, or inputs, that feed its neurons.
        truth_tables: For each layer its neurons' 2^fan_in values in {0, 1}; entry Σ_j 2^j [argument j is 1].
        majorities: For each layer but the last the weights [labels, width] of its auxiliary labels.

    Args:
        n_inputs: Input coordinates, at least ``fan_in``.
        depth: Layers of the circuit.
        width: Neurons in a layer, at least ``fan_in``.
        fan_in: Arguments of a neuron, 2..10.
        labels_per_layer: Auxiliary labels of each layer, of which ``auxiliary_share`` are there.
        majority_size: Neurons in a majority, odd, at most ``width``.
        auxiliary_share: Share, in [0, 1], of the auxiliary labels; a smaller share's are among those of a larger.
        n_train: Training rows.
        n_val: Validation rows.
        n_test: Test rows.
        batch_size: Rows in a batch.
        acceptance_fraction: Share of the training rows set aside for acceptance decisions, in [0, 1).
        data_seed: Seed of the circuit and of all the randomness in the data.

    Raises:
        ValueError: If arguments are out of range, one line naming them all, or if no such circuit is found.
    """

    def __init__(
        self,
        n_inputs: int = 16,
        depth: int = 4,
        width: int = 16,
        fan_in: int = 3,
        labels_per_layer: int = 60,
        majority_size: int = 3,
        auxiliary_share: float = 1.0,
        n_train: int = 20000,
        n_val: int = 2000,
        n_test: int = 2000,
        batch_size: int = 1000,
        acceptance_fraction: float = 0.2,
        data_seed: int = 0,
    ) -> None:
        problems = integers(2, MAX_DEGREE, fan_in=fan_in) or at_least(fan_in, n_inputs=n_inputs, width=width)
        problems += at_least(1, majority_size=majority_size)
        if not problems and (majority_size % 2 == 0 or majority_size > width):
            problems = [f"majority_size must be odd and at most width = {width}, got {majority_size}"]
        problems += at_least(1, depth=depth, labels_per_layer=labels_per_layer)
        problems += within("auxiliary_share", auxiliary_share, "[0, 1]")
        super().__init__(batch_size, acceptance_fraction, data_seed, (n_train, n_val, n_test), problems)
        self.n_inputs, self.depth = n_inputs, depth
        self.parents: list[NDArray[np.int64]] = []
        self.truth_tables: list[Bits] = []
        states = draw_rows(min(2**n_inputs, N_PROBES), n_inputs, Draws(data_seed, "probes")).T
        for layer in range(depth):
            states = self._add_layer(states, width, fan_in, Draws(data_seed, "circuit", layer))
        n_kept = round(auxiliary_share * labels_per_layer)
        self.majorities = [
            random_majorities(labels_per_layer, width, majority_size, Draws(data_seed, "majorities", layer))[:n_kept]
            for layer in range(depth - 1)
        ]
        self.levels = [*np.repeat(np.arange(1, depth), n_kept).tolist(), depth]
        self.n_labels = len(self.levels)

    def _add_layer(self, below: Bits, width: int, fan_in: int, draws: Draws) -> Bits:
        """Draw a layer on the probes' states [neurons, probes] of the layer below; return its own."""
        parents, tables, states = [], [], []
        seen = {up_to_sign(np.zeros_like(below[0]))}
        for _ in range(N_TRIES):
            chosen = np.sort(draws.permutation(len(below))[:fan_in])
            table = draw_table(fan_in, "random", draws)
            values = apply_table(table, list(below[chosen]))
            if abs(float(values.mean()) - 0.5) > BALANCE or up_to_sign(values) in seen:
                continue
            seen.add(up_to_sign(values))
            parents.append(chosen)
            tables.append(table)
            states.append(values)
            if len(states) == width:
                self.parents.append(np.array(parents))
                self.truth_tables.append(np.array(tables, dtype=np.uint8))
                return np.array(states)
        sizes = f"n_inputs={self.n_inputs}, fan_in={fan_in}"
        raise ValueError(f"width must be small enough for a layer to be filled, got {width} with {sizes}")

    def neurons(self, inputs: Bits) -> list[Bits]:
        """States [rows, width] in {0, 1} of every layer, of inputs [rows, n_inputs] in {0, 1}."""
        layers, states = [], inputs.T
        for parents, tables in zip(self.parents, self.truth_tables, strict=True):
            neurons = zip(parents, tables, strict=True)
            states = np.array([apply_table(table, list(states[own])) for own, table in neurons])
            layers.append(states.T)
        return layers

    def make_tables(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Draw inputs [rows, 1, n_inputs] and compute labels [rows, 1, n_labels], in {-1, 1}."""
        inputs = draw_rows(sum(self.sizes), self.n_inputs, Draws(self.data_seed, "rows"))
        layers = self.neurons(inputs)
        told = zip(layers, self.majorities, strict=False)
        votes = [(2 * states.astype(int) - 1) @ weights.T > 0 for states, weights in told]
        labels = np.concatenate([*votes, layers[-1][:, :1]], axis=1).astype(np.uint8)
        return split_tables(inputs[:, None], labels[:, None], self.sizes)
