"""Random hierarchies of juntas: each label is a Boolean function of a few labels of earlier levels."""

from hierlit.data.hierarchies.graphs import GraphDraw, GraphHierarchy, draw_tree, graph_problems, wiring_problems
from hierlit.draws import Draws
from hierlit.models.checks import at_least, integers, one_of

TABLES = ("random", "parity", "majority")
MAX_DEGREE = 10


class JuntaHierarchy(GraphHierarchy):
    """A random hierarchy with known levels, at one location (|G| = 1).

    Inputs are uniform in {-1, 1}. A label of level 1 is a Boolean function of ``degree`` inputs, one of level i ≥ 2 of
    ``degree`` labels of levels below i, at least one of them of level i - 1. Every function is balanced (as often 1 as
    -1 over its 2^degree arguments) and depends on each argument; at degree 2 only XOR and its negation do.

    Levels are true by construction, checked, and drawn again otherwise (our definition): no label is constant, equal
    to an input or an earlier label or the negation of one, and no label of level i ≥ 2 is a function of ``degree`` or
    fewer inputs and labels of levels up to i - 2. Each of these is proved by examples, among at most 4096 inputs (all
    inputs, if there are no more); a label for which they do not suffice is drawn again too. In a tree all this holds,
    since a label reads inputs that no other label of its level does.

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
        wiring: "random", or "tree": each label has parents that no other label has, all of the level before, so that
            level i has n_inputs/degree^i labels and ``labels_per_level`` does not count.
        n_train: Training rows.
        n_val: Validation rows.
        n_test: Test rows.
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
        wiring: str = "random",
        n_train: int = 20000,
        n_val: int = 2000,
        n_test: int = 2000,
        batch_size: int = 1000,
        acceptance_fraction: float = 0.2,
        data_seed: int = 0,
    ) -> None:
        problems = at_least(1, n_inputs=n_inputs, n_levels=n_levels, labels_per_level=labels_per_level)
        problems += integers(2, MAX_DEGREE, degree=degree) + one_of(TABLES, table=table)
        if not problems and table == "majority" and degree % 2 == 0:
            problems = [f"degree must be odd for table='majority', got {degree}"]
        problems = problems or wiring_problems(wiring, n_inputs, n_levels, labels_per_level, degree, "degree")
        if not problems and wiring == "random":
            problems = graph_problems(n_inputs, n_levels, labels_per_level, degree, table)
        super().__init__(batch_size, acceptance_fraction, data_seed, (n_train, n_val, n_test), problems)
        self.n_inputs, self.n_levels, self.degree, self.table = n_inputs, n_levels, degree, table
        self._lay_out(wiring, n_levels, labels_per_level, degree)
        if wiring == "tree":
            graph = draw_tree(n_inputs, n_levels, degree, table, Draws(data_seed, "tree"))
        else:
            graph = GraphDraw(n_inputs, labels_per_level, degree, table, data_seed).graph(n_levels)
        self.parents = [parents for parents, _ in graph]
        self.truth_tables = [tuple(2 * bit - 1 for bit in bits) for _, bits in graph]
        self.parent_labels = [
            list(own) if level > 1 else [] for own, level in zip(self.parents, self.levels, strict=True)
        ]

    def truth_table(self, label: int) -> tuple[int, ...]:
        """Return its entry of `truth_tables`, a function of its `parents`."""
        return self.truth_tables[label]
