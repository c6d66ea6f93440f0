"""Two-dimensional life-like automata run from random boards."""

import re
import warnings

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hierlit.data.base import HierarchyDataModule
from hierlit.data.hierarchies.cellular_automaton import steps
from hierlit.draws import Draws, first_occurrences, split_tables
from hierlit.models.checks import at_least, within

NEIGHBOURS = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]
CENTRE = NEIGHBOURS.index((0, 0))
N_TRIES = 100


class LifeAutomaton(HierarchyDataModule):
    """A life-like automaton on a torus: level i is every cell's state after i steps.

    A dead cell with as many living neighbours among its 8 as the rule's B names comes alive; a living one with as many
    as its S names stays so. Locations are the cells, row after row, as `Window2d` has them; inputs are the states at
    the start, each cell alive with probability ``density``, and labels the states after 1..n_levels steps.

    In the paper's terms r = n_levels, and with windows of 3×3 cells each level is a polynomial threshold function of
    the level before: of degree K = 2 for Conway's Life, since it is alive where 5 ≤ 2·(neighbours) + (self) ≤ 7.
    Predicting the board after many steps is P-complete, so no shallow model is expected to do it. Boards thin out
    from a density of 0.4: 36.2%, 31.4%, 30.1% and 28.5% of the cells are alive after 1 to 4 steps.

    Boards are distinct at the start, so train, val and test never share one. Where 100 draws do not find that many,
    they repeat, also between splits, with a warning.

    Args:
        rule: Births and survivals, as in "B3/S23", Conway's Life.
        n_levels: Steps, and labels of a cell.
        rows: Rows of the torus, at least 3.
        columns: Columns of the torus, at least 3.
        density: Chance of a cell being alive at the start, in (0, 1).
        n_train: Training boards.
        n_val: Validation boards.
        n_test: Test boards.
        batch_size: Boards in a batch.
        acceptance_fraction: Share of the training boards set aside for acceptance decisions, in [0, 1).
        data_seed: Seed of all the randomness in the data.

    Raises:
        ValueError: If arguments are out of range; one line names them all.
    """

    def __init__(
        self,
        rule: str = "B3/S23",
        n_levels: int = 4,
        rows: int = 16,
        columns: int = 16,
        density: float = 0.4,
        n_train: int = 400,
        n_val: int = 100,
        n_test: int = 100,
        batch_size: int = 40,
        acceptance_fraction: float = 0.2,
        data_seed: int = 0,
    ) -> None:
        counts = re.fullmatch(r"B([0-8]*)/S([0-8]*)", str(rule))
        problems = [] if counts else [f"rule must be like B3/S23, births and survivals of 0..8, got {rule!r}"]
        problems += at_least(3, rows=rows, columns=columns) + at_least(1, n_levels=n_levels)
        problems += within("density", density, "(0, 1)")
        super().__init__(batch_size, acceptance_fraction, data_seed, (n_train, n_val, n_test), problems)
        self.rule, self.n_levels, self.rows, self.columns, self.density = rule, n_levels, rows, columns, density
        self.n_inputs, self.n_labels, self.n_locations = 1, n_levels, rows * columns
        self.levels, self.parent_labels = steps(n_levels)
        births, survivals = ({int(count) for count in group} for group in (counts.groups() if counts else ("", "")))
        self._next = np.array(
            [[count in births for count in range(9)], [count in survivals for count in range(9)]], dtype=np.uint8
        )

    def truth_table(self, label: int) -> tuple[int, ...]:
        """Return the rule, a function of the 9 cells of a 3×3 window one step before, row after row."""
        cells = np.arange(2**9)[:, None] >> np.arange(9) & 1
        alive = self._next[cells[:, CENTRE], cells.sum(1) - cells[:, CENTRE]]
        return tuple((2 * alive.astype(int) - 1).tolist())

    def make_tables(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Draw the boards and run them: inputs [boards, cells, 1], labels [boards, cells, n_levels], in {-1, 1}."""
        history = [self._draw_boards(sum(self.sizes)).reshape(-1, self.rows, self.columns)]
        for _ in range(self.n_levels):
            history.append(self._step(history[-1]))
        states = np.stack(history, axis=3).reshape(len(history[0]), self.n_locations, -1)
        return split_tables(states[..., :1], states[..., 1:], self.sizes)

    def _draw_boards(self, n: int) -> NDArray[np.uint8]:
        """Boards [n, cells] of bits, those that were drawn before drawn again."""
        draws, boards = Draws(self.data_seed, "boards"), np.zeros((0, self.n_locations), dtype=np.uint8)
        for _ in range(N_TRIES):
            alive = draws.uniform((n - len(boards)) * self.n_locations) < self.density
            drawn = np.concatenate([boards, alive.reshape(-1, self.n_locations).astype(np.uint8)])
            boards = drawn[first_occurrences(drawn)]
            if len(boards) == n:
                return boards
        text = f"{n} boards were asked for, but {N_TRIES} draws found {len(boards)} at density = {self.density}"
        warnings.warn(f"{text}: boards repeat, also between train, val and test", stacklevel=3)
        return drawn

    def _step(self, boards: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the next state of boards [N, rows, columns] of bits."""
        window = sum(np.roll(boards, shift, axis=(1, 2)) for shift in NEIGHBOURS)
        next_state: NDArray[np.uint8] = self._next[boards, window - boards]
        return next_state
