"""The random hierarchy model: classes made of symbols, made of symbols, down to the leaves of a tree."""

import math
import warnings

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hierlit.data.base import HierarchyDataModule
from hierlit.draws import Draws, split_tables
from hierlit.models.checks import at_least

Symbols = NDArray[np.int64]
MAX_CODES = 2**20
"""Most tuples of symbols, v^s, among which rules are drawn."""
MAX_LEAVES = 2**16
MAX_ARGUMENTS = 16
"""Arguments of a label, v·s, up to which it is given as a function of them: ξ is a matter of 2^(v·s) corners."""


class RandomHierarchyModel(HierarchyDataModule):
    """The random hierarchy model of Cagnetta et al. (arXiv 2307.02129), with every latent symbol as a label.

    A class is a symbol of level n_levels. A symbol of level i is rewritten as one of its ``n_synonyms`` tuples of
    ``n_children`` symbols of level i − 1, until the leaves at level 0. Tuples are drawn without repetition, so that two
    symbols share none, and each is chosen as likely as the others.

    Locations are the leaves, from the left; see `TreeWindows` for windows. A leaf's inputs are its symbol, one channel
    a symbol, 1 or −1. Its labels are the symbols of its ancestors, level after level from the bottom, likewise: a label
    of level i is 1 in about one of ``n_symbols`` rows, of the last level in one of ``n_classes``. In the paper's terms
    r = n_levels, and a label is a polynomial threshold function of degree K ≤ n_children of the level below: a sum over
    the tuples of its symbol of the product of their symbols' labels. Of the v^s tuples a level has only those of its
    symbols, and on them many labels are of a smaller degree: ``hierlit describe`` works it out.

    Rows are distinct, so train, val and test never share one. If there are fewer than n_train + n_val + n_test data,
    that is n_classes · n_synonyms^((s^L − 1)/(s − 1)), they repeat, also between splits, with a warning.

    Attributes:
        rules: For each level from the last to the first the tuples [symbols, n_synonyms, n_children].

    Args:
        n_symbols: Symbols v of each level below the classes.
        n_classes: Classes n_c.
        n_synonyms: Tuples m of each symbol; n_symbols^n_children must be enough for all.
        n_children: Children s of a node.
        n_levels: Levels L above the leaves, of which there are s^L, at most 65,536.
        flat: One location with all leaves as its input and the class alone as labels, for baselines.
        n_train: Training rows.
        n_val: Validation rows.
        n_test: Test rows.
        batch_size: Rows in a batch.
        acceptance_fraction: Share of the training rows set aside for acceptance decisions, in [0, 1).
        data_seed: Seed of the rules and of all the randomness in the data.

    Raises:
        ValueError: If arguments are out of range; one line names them all.
    """

    levels: list[int]

    def __init__(
        self,
        n_symbols: int = 8,
        n_classes: int = 8,
        n_synonyms: int = 4,
        n_children: int = 2,
        n_levels: int = 3,
        flat: bool = False,
        n_train: int = 2000,
        n_val: int = 500,
        n_test: int = 500,
        batch_size: int = 200,
        acceptance_fraction: float = 0.2,
        data_seed: int = 0,
    ) -> None:
        problems = at_least(2, n_symbols=n_symbols, n_classes=n_classes, n_children=n_children)
        problems += at_least(1, n_synonyms=n_synonyms, n_levels=n_levels)
        problems += [] if isinstance(flat, bool) else [f"flat must be true or false, got {flat!r}"]
        problems = problems or _rule_problems(n_symbols, n_classes, n_synonyms, n_children, n_levels)
        super().__init__(batch_size, acceptance_fraction, data_seed, (n_train, n_val, n_test), problems)
        self.n_symbols, self.n_classes, self.n_synonyms = n_symbols, n_classes, n_synonyms
        self.n_children, self.n_levels, self.flat = n_children, n_levels, flat
        # one channel a symbol, of every leaf if flat, and one label a symbol of each level, if flat of the last alone
        self.n_inputs, self.n_locations = (n_symbols * self.n_leaves, 1) if flat else (n_symbols, self.n_leaves)
        below = [] if flat else [level for level in range(1, n_levels) for _ in range(n_symbols)]
        self.levels = [*below, *[n_levels] * n_classes]
        self.n_labels = len(self.levels)
        n_parents = [*[n_symbols] * (n_levels - 1), n_classes]
        self.rules = [self._draw_rules(n_parents[level - 1], level) for level in range(n_levels, 0, -1)]

    def _draw_rules(self, n_parents: int, level: int) -> Symbols:
        """Return the tuples [n_parents, n_synonyms, n_children] of the symbols of a level, none of them twice."""
        codes = Draws(self.data_seed, "rules", level).permutation(self.n_symbols**self.n_children)
        digits = codes[: n_parents * self.n_synonyms, None] // self.n_symbols ** np.arange(self.n_children)
        return (digits % self.n_symbols).reshape(n_parents, self.n_synonyms, self.n_children)

    @property
    def n_leaves(self) -> int:
        """s^L."""
        return int(self.n_children**self.n_levels)

    @property
    def n_data(self) -> int:
        """Distinct data there are: n_c · m^((s^L − 1)/(s − 1))."""
        n_nodes = (self.n_leaves - 1) // (self.n_children - 1)
        return int(self.n_classes * self.n_synonyms**n_nodes)

    def label_function(self, label: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return the symbol's tuples among those of its level, as one-hot labels of the level below, leaf by leaf.

        None if a class is to be learned from the leaves alone, or ``n_symbols`` · ``n_children`` is above 16.
        """
        n_arguments = self.n_symbols * self.n_children
        if n_arguments > MAX_ARGUMENTS or (self.flat and self.n_levels > 1):
            return None
        level, first = self.levels[label], self.levels.index(self.levels[label])
        tuples = self.rules[self.n_levels - level].reshape(-1, self.n_children)
        own = np.arange(len(tuples)) // self.n_synonyms == label - first
        arguments = np.eye(self.n_symbols, dtype=np.uint8)[tuples].reshape(-1, n_arguments)
        return np.where(arguments, 1.0, -1.0), np.where(own, 1.0, -1.0)

    def make_tables(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Draw data: inputs [rows, |G|, n_inputs] and labels [rows, |G|, n_labels], in {-1, 1}."""
        symbols = self.derive(self._draw_choices(sum(self.sizes)))
        of_symbol = np.eye(self.n_symbols, dtype=np.uint8)
        leaves, classes = of_symbol[symbols[-1]], np.eye(self.n_classes, dtype=np.uint8)[symbols[0]]
        if self.flat:
            inputs, labels = leaves.reshape(len(leaves), 1, -1), classes
        else:
            latent = [of_symbol[level] for level in symbols[-2:0:-1]]
            spread = [np.repeat(level, self.n_leaves // level.shape[1], axis=1) for level in [*latent, classes]]
            inputs, labels = leaves, np.concatenate(spread, axis=2)
        return split_tables(inputs, labels, self.sizes)

    def derive(self, choices: list[Symbols]) -> list[Symbols]:
        """Symbols of every level, [rows, 1] classes first and [rows, s^L] leaves last.

        Args:
            choices: The classes [rows, 1], then for each level from the last the number [rows, nodes] of the tuple that
                each node is rewritten as.
        """
        symbols = [choices[0]]
        for rules, chosen in zip(self.rules, choices[1:], strict=True):
            symbols.append(rules[symbols[-1], chosen].reshape(len(chosen), -1))
        return symbols

    def _draw_choices(self, n_rows: int) -> list[Symbols]:
        """Choices of distinct data, of any where there are too few."""
        if n_rows > self.n_data:
            text = f"{n_rows} rows were asked for, but there are only {self.n_data} data"
            warnings.warn(f"{text}: rows repeat, also between train, val and test", stacklevel=2)
        draws = Draws(self.data_seed, "rows")
        n_nodes = [self.n_children**depth for depth in range(self.n_levels)]
        width = 1 + sum(n_nodes)
        codes = np.zeros((0, width), dtype=np.int64)
        distinct = min(n_rows, self.n_data) if 2 * n_rows <= self.n_data else 0
        if not distinct and n_rows <= self.n_data:
            numbers = draws.permutation(self.n_data)[:n_rows]
            radices = np.array([self.n_classes, *[self.n_synonyms] * (width - 1)])
            codes = np.stack(np.unravel_index(numbers, radices), axis=1).astype(np.int64)
        while len(codes) < n_rows:
            n_more = n_rows - len(codes)
            classes = draws.integers(n_more, self.n_classes)[:, None]
            tuples = draws.integers(n_more * (width - 1), self.n_synonyms).reshape(n_more, -1)
            codes = np.concatenate([codes, np.concatenate([classes, tuples], axis=1)])
            if distinct:
                codes = codes[np.sort(np.unique(codes, axis=0, return_index=True)[1])]
        return np.split(codes, np.cumsum([1, *n_nodes])[:-1], axis=1)


def _rule_problems(n_symbols: int, n_classes: int, n_synonyms: int, n_children: int, n_levels: int) -> list[str]:
    if n_levels * math.log(n_children) > math.log(MAX_LEAVES) + 1e-9:
        return [f"n_levels must leave at most {MAX_LEAVES} leaves of n_children = {n_children}, got {n_levels}"]
    n_tuples = n_symbols**n_children
    if n_tuples > MAX_CODES:
        return [f"n_children must leave at most {MAX_CODES} tuples of n_symbols = {n_symbols}, got {n_children}"]
    most = n_tuples // max(n_symbols, n_classes)
    if n_synonyms > most:
        return [f"n_synonyms must be at most {most}, so that {n_tuples} tuples are enough, got {n_synonyms}"]
    return []
