"""Elementary cellular automata: the state after i steps is the label of level i."""

import numpy as np
from torch import Tensor

from hierlit.data.base import HierarchyDataModule
from hierlit.draws import Draws, draw_rows, split_tables
from hierlit.models.checks import at_least, integers


class CellularAutomaton(HierarchyDataModule):
    """Rings of cells under an elementary (Wolfram) rule, the paper's kind of hierarchy with |G| = n_cells locations.

    The input at a cell is its initial state, the label of level i its state after i steps, both in {-1, 1}. A state
    is a function of three neighbouring states one step before. That level i is no simpler than that is not checked:
    it fails for rules such as 0 (constant), 170 (shift) and 204 (identity).

    Initial states are uniform and distinct, so train, val and test never share one. If there are fewer than
    n_train + n_val + n_test states, that is 2^n_cells, they repeat, also between splits, with a warning.

    Args:
        rule: Wolfram's number of the rule, 0..255.
        n_levels: Steps of the automaton, and labels of a cell.
        n_cells: Cells on the ring, at least 3.
        n_train: Training rings.
        n_val: Validation rings.
        n_test: Test rings.
        batch_size: Rings in a batch.
        acceptance_fraction: Share of the training rings set aside for acceptance decisions, in [0, 1).
        data_seed: Seed of all the randomness in the data.

    Raises:
        ValueError: If arguments are out of range; one line names them all.
    """

    def __init__(
        self,
        rule: int = 110,
        n_levels: int = 8,
        n_cells: int = 64,
        n_train: int = 400,
        n_val: int = 100,
        n_test: int = 100,
        batch_size: int = 64,
        acceptance_fraction: float = 0.2,
        data_seed: int = 0,
    ) -> None:
        problems = integers(0, 255, rule=rule) + at_least(3, n_cells=n_cells) + at_least(1, n_levels=n_levels)
        super().__init__(batch_size, acceptance_fraction, data_seed, (n_train, n_val, n_test), problems)
        self.rule, self.n_levels, self.n_cells = rule, n_levels, n_cells
        self.n_inputs, self.n_labels, self.n_locations = 1, n_levels, n_cells
        self.levels, self.parent_labels = steps(n_levels)

    def truth_table(self, label: int) -> tuple[int, ...]:
        """Return the rule, a function of the right, the own and the left cell one step before."""
        return tuple(2 * (self.rule >> neighbours & 1) - 1 for neighbours in range(8))

    def make_tables(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Draw the rings and run them: inputs [rows, n_cells, 1], labels [rows, n_cells, n_levels], in {-1, 1}."""
        states = draw_rows(sum(self.sizes), self.n_cells, Draws(self.data_seed, "rows"))
        next_state = np.array([self.rule >> neighbours & 1 for neighbours in range(8)], dtype=np.uint8)
        history = [states]
        for _ in range(self.n_levels):
            left, right = np.roll(states, 1, axis=1), np.roll(states, -1, axis=1)
            states = next_state[4 * left + 2 * states + right]
            history.append(states)
        cells = np.stack(history, axis=2)
        return split_tables(cells[..., :1], cells[..., 1:], self.sizes)


def steps(n_steps: int) -> tuple[list[int], list[list[int]]]:
    """Levels and parents of the labels of a cell: its states after 1..n_steps steps, each of the state before."""
    return list(range(1, n_steps + 1)), [[label - 1] if label else [] for label in range(n_steps)]
