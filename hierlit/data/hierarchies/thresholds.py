"""Hierarchies of explicit polynomial threshold functions with a prescribed coefficient norm."""

import numpy as np
from numpy.typing import NDArray

from hierlit.data.hierarchies.graphs import GraphHierarchy, depends_on_all, wiring_problems
from hierlit.draws import Draws, as_signs, draw_rows
from hierlit.models.checks import at_least, integers, within
from hierlit.theory import Polynomial, cube, threshold_constants
from hierlit.theory.polynomial import monomial_values, monomials

Array = NDArray[np.float64]
MAX_FAN_IN = 8
N_TRIES = 500
N_PROBES = 4096
BISECTIONS = 60
BALANCE = 0.15
"""Largest distance from ½ of a label's share of 1."""


class ThresholdHierarchy(GraphHierarchy):
    """Each label is sign p(z) of a few labels of the level before, p an explicit polynomial of a given norm M (ours).

    A label of level 1 has ``fan_in`` inputs as arguments z, one of level i ≥ 2 as many labels of level i − 1: any, or,
    as a tree, those that no other label has. p is multilinear of at most ``degree``, without a constant, and scaled so
    that 1 ≤ y·p(z) on {-1, 1}^fan_in; its coefficients then have the l2 norm ``coefficient_norm`` exactly. In the
    paper's terms these are K and M; B and ξ are the attributes ``bounds`` and ``robustness``, r is ``n_levels``. The
    larger M, the closer p comes to changing sign, and the more features and rows a block is predicted to need. The
    function may have another PTF of smaller norm: ``hierlit describe`` prints the constants of the least.

    Coefficients are drawn, at random in place, sign and size, until p's norm is at most M; then p is pushed towards 0
    at the point where it is smallest, which raises the norm, until it is M. Each p depends on all its arguments; labels
    are 1 in 35% to 65% of the inputs, and no two of a level are equal or each other's negation. Inputs are uniform in
    {-1, 1}, rows distinct.

    Attributes:
        monomials: The sets of arguments that p's coefficients belong to.
        parents: For each label the indices of its arguments, inputs or labels.
        coefficients: For each label p's coefficients [len(monomials)], at margin 1.

    Args:
        n_inputs: Input coordinates; for a tree, fan_in^n_levels of them or a multiple.
        n_levels: Levels of the hierarchy.
        labels_per_level: Labels at each level; a tree has n_inputs/fan_in^i at level i instead.
        fan_in: Arguments of a label, 2..8.
        degree: K, 1..fan_in; 2 for a fan_in of 2, whose linear functions follow one argument alone.
        coefficient_norm: M, at least 1.
        wiring: "random" or "tree".
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
        n_levels: int = 3,
        labels_per_level: int = 16,
        fan_in: int = 3,
        degree: int = 2,
        coefficient_norm: float = 2.0,
        wiring: str = "random",
        n_train: int = 10000,
        n_val: int = 2000,
        n_test: int = 2000,
        batch_size: int = 1000,
        acceptance_fraction: float = 0.2,
        data_seed: int = 0,
    ) -> None:
        problems = at_least(1, n_levels=n_levels, labels_per_level=labels_per_level)
        problems += within("coefficient_norm", coefficient_norm, "[1, 1e9]")
        if fan_in_problems := integers(2, MAX_FAN_IN, fan_in=fan_in):
            problems += fan_in_problems
        else:
            least = 2 if fan_in == 2 else 1
            problems += at_least(fan_in, n_inputs=n_inputs)
            if integers(least, fan_in, degree=degree):
                problems.append(f"degree must be an integer in {least}..{fan_in} for fan_in = {fan_in}, got {degree!r}")
        problems = problems or wiring_problems(wiring, n_inputs, n_levels, labels_per_level, fan_in, "fan_in")
        super().__init__(batch_size, acceptance_fraction, data_seed, (n_train, n_val, n_test), problems)
        self.n_inputs, self.fan_in, self.degree, self.wiring = n_inputs, fan_in, degree, wiring
        self.coefficient_norm = coefficient_norm
        self._lay_out(wiring, n_levels, labels_per_level, fan_in)
        self.monomials = monomials(fan_in, degree)[1:]
        self._cube = cube(fan_in)
        self.parents: list[list[int]] = []
        self.coefficients: list[Array] = []
        self._draw_labels()
        self.parent_labels = [own if level > 1 else [] for own, level in zip(self.parents, self.levels, strict=True)]

    def _draw_labels(self) -> None:
        """Draw parents and coefficients, judged by at most `N_PROBES` inputs."""
        draws = Draws(self.data_seed, "thresholds")
        probes = draw_rows(min(2**self.n_inputs, N_PROBES), self.n_inputs, Draws(self.data_seed, "probes"))
        states: Array = as_signs(probes.T).double().numpy()
        first = 0
        for level, size in enumerate(self.level_sizes, start=1):
            own: list[Array] = []
            free = draws.permutation(len(states))
            for number in range(size):
                for _ in range(N_TRIES):
                    order = free[number * self.fan_in :] if self.wiring == "tree" else draws.permutation(len(states))
                    chosen = np.sort(order[: self.fan_in])
                    coefficients = draw_polynomial(self._cube, self.monomials, self.coefficient_norm, draws)
                    values = np.sign(self._values(states[chosen].T) @ coefficients)
                    share = float((values > 0).mean())
                    if abs(share - 0.5) <= BALANCE and all(abs(values @ other) < len(values) for other in own):
                        break
                else:
                    raise ValueError(
                        f"labels_per_level must be small enough for level {level} to be filled, got {size}: lower it, "
                        f"or raise n_inputs = {self.n_inputs} or coefficient_norm = {self.coefficient_norm}"
                    )
                own.append(values)
                self.parents.append((chosen + first).tolist())
                self.coefficients.append(coefficients)
            first = first + len(states) if level > 1 else 0
            states = np.array(own)

    def _values(self, points: Array) -> Array:
        """Monomials [rows, len(monomials)] of arguments [rows, fan_in]."""
        return monomial_values(points, self.monomials)

    @property
    def bounds(self) -> list[float]:
        """B of each label, max |p| at margin 1."""
        return [float(np.abs(self._values(self._cube) @ own).max()) for own in self.coefficients]

    @property
    def robustness(self) -> list[float]:
        """ξ of each label: within it of every ±1 point, p keeps half its margin."""
        polynomials = [Polynomial(self.monomials, own) for own in self.coefficients]
        return [threshold_constants(p, self._cube, np.sign(p(self._cube))).robustness for p in polynomials]

    def truth_table(self, label: int) -> tuple[int, ...]:
        """Sign p on {-1, 1}^fan_in."""
        return tuple(np.sign(self._values(self._cube) @ self.coefficients[label]).astype(int).tolist())


def draw_polynomial(points: Array, sets: list[tuple[int, ...]], norm: float, draws: Draws) -> Array:
    """Coefficients of norm `norm` at margin 1 of a random polynomial whose sign depends on every argument.

    Raises:
        ValueError: If none of the polynomials drawn has so small a norm.
    """
    values = monomial_values(points, sets)
    least = np.inf
    for _ in range(N_TRIES):
        spread, (sizes, signs, kept) = draws.uniform(1), draws.uniform(3 * len(sets)).reshape(3, -1)
        coefficients = np.where(signs < 0.5, -1, 1) * (kept < 0.6) * (1 - spread * sizes)
        found = values @ coefficients
        if not depends_on_all(np.sign(found)):
            continue
        own = norm_at_margin_one(coefficients, values)
        least = min(least, own)
        if own <= norm:
            worst = int(np.abs(found).argmin())
            push = np.sign(found[worst]) * values[worst]
            return raise_norm(coefficients, push, norm, values)
    of = f"of {N_TRIES} polynomials drawn with fan_in = {points.shape[1]}, degree = {len(sets[-1])}"
    raise ValueError(f"coefficient_norm must be larger, the least {of} has {least:.3g}, got {norm}")


def raise_norm(start: Array, push: Array, norm: float, values: Array) -> Array:
    """Return the polynomial start − t·push of a given norm, at margin 1: the norm grows without limit as p nears 0."""
    low, high = 0.0, float(np.abs(values @ start).min()) / len(push)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        is_above = norm_at_margin_one(start - middle * push, values) > norm
        low, high = (low, middle) if is_above else (middle, high)
    coefficients = start - low * push
    return coefficients / float(np.abs(values @ coefficients).min())


def norm_at_margin_one(coefficients: Array, values: Array) -> float:
    """‖c‖₂ once p is scaled to margin 1; infinite if p is 0 somewhere."""
    margin = float(np.abs(values @ coefficients).min())
    return float(np.linalg.norm(coefficients)) / margin if margin > 0 else np.inf
