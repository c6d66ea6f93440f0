"""What a block takes, from the sizes of its run alone: operations, memory traffic and messages (ours)."""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import NamedTuple

from hierlit.layerwise.acceptance import SetAsideSums
from hierlit.layerwise.adaptive_draw import AGOP_PAIRS
from hierlit.layerwise.calibration import n_rows_read
from hierlit.layerwise.moments import MEAN_PAIRS, PANELS
from hierlit.layerwise.solvers.ridge import POWER_STEPS
from hierlit.plan.sizes import SPLITS, Sizes

CHECKED = 4
"""Tensors of a block whose checksums processes compare, besides the weights of all blocks."""


class Work(NamedTuple):
    """Operations, of which a multiplication with an addition is two, and traffic; works add up.

    Attributes:
        products: Operations of matrix products over rows, in the run's precision.
        cholesky: Operations on [q+1, q+1] float64 matrices: n³/3 a Cholesky factorisation, 2n²k for k right-hand sides.
        eigen: Operations of float64 eigenvalues, 4n³/3.
        moved: Bytes of rows, features and square matrices that pass through memory.
    """

    products: float = 0.0
    cholesky: float = 0.0
    eigen: float = 0.0
    moved: float = 0.0

    @property
    def operations(self) -> float:
        """All operations."""
        return self.products + self.cholesky + self.eigen

    def times(self, number: float) -> "Work":
        """Return the work of doing this several times."""
        return Work(*(number * value for value in self))


def total(*works: Work) -> Work:
    """Return the sum of works."""
    return Work(*map(sum, zip(*works, strict=True)))


@dataclass(frozen=True)
class Rates:
    """What a device does in a second.

    Attributes:
        products: Operations of matrix products in the run's precision.
        cholesky: Operations of float64 Cholesky factorisations.
        eigen: Operations of float64 eigenvalues.
        bandwidth: Bytes read from memory or written to it.
    """

    products: float
    cholesky: float
    eigen: float
    bandwidth: float

    def seconds(self, work: Work) -> float:
        """Time of a work: of its operations, then of its traffic."""
        operations = work.products / self.products + work.cholesky / self.cholesky + work.eigen / self.eigen
        return operations + work.moved / self.bandwidth


@dataclass(frozen=True)
class BlockWork:
    """What one process does for one block, as `LayerwiseTask` and its solvers do it.

    Attributes:
        sizes: The sizes it follows from.
    """

    sizes: Sizes

    @cached_property
    def parts(self) -> dict[str, Work]:
        """The block's work by part."""
        s, again = self.sizes, self.sizes.cache.recomputed
        fit, held, val = (s.pairs(split) for split in SPLITS)
        scale = self._rotate(fit) if s.calibrated else Work()
        parts = {f"{s.redraws} draws of W¹": self.draw.times(s.redraws)} if s.redraws else {}
        parts["features"] = total(scale, self._features(s.leading(MEAN_PAIRS) + fit + held - again["held"]))
        parts["Gram matrix"] = self._gram(fit)
        parts["cross products"] = total(self._readout(fit, s.n_labels), self._rotate(2 * fit))
        if s.n_candidates:
            parts["factorisations"] = self._path(s.n_candidates, s.gcv)
            parts["their errors"] = Work() if s.gcv else self._errors(held, again["held"], s.n_candidates)
        else:
            parts["eigenvalues"] = Work(eigen=4 * s.side**3 / 3, moved=2 * s.square).times(s.n_eigenvalues)
        parts["1 epoch" if s.epochs == 1 else f"{s.epochs} epochs"] = self.epoch.times(s.epochs)
        judged = total(self._features(again["held"]), self._readout(held, s.n_labels), self._rotate(held))
        moved_on = total(self._features(sum(again.values())), self._readout(fit + held + val, s.n_labels))
        written = self._product(fit + held + val, s.n_labels, s.channels) if s.rotated else Work()
        parts["accept, advance"] = total(judged, moved_on, written, self._rotate(fit + held + val))
        return parts

    @cached_property
    def epoch(self) -> Work:
        """One pass over the fitted rows, scores and gradient; and the exact solver's step where another one follows."""
        s, fit = self.sizes, self.sizes.pairs("fit")
        step = self._solve(s.n_labels).times(1 - 1 / s.epochs) if s.n_candidates else Work()
        return total(
            self._features(s.cache.recomputed["fit"]),
            self._rotate(fit),
            self._readout(fit, s.n_labels).times(2),
            step,
        )

    @cached_property
    def draw(self) -> Work:
        """One adaptive draw of W¹: moments and a ridge path on some rows, errors on set-aside rows, AGOP diagonals."""
        s, held, pairs = self.sizes, self.sizes.pairs("held"), self.sizes.leading(self.sizes.draw_pairs)
        seen = self.sizes.leading(min(AGOP_PAIRS, self.sizes.draw_pairs))
        scale = self._rotate(s.pairs("fit")) if s.calibrated else Work()
        weights = Work(products=4.0 * s.n_features * s.fan_in * s.channels) if s.rotated else Work()
        return total(
            scale,
            self._features(s.leading(MEAN_PAIRS) + pairs),
            self._gram(pairs),
            self._readout(pairs, s.n_labels),
            self._path(s.draw_candidates, gcv=False),
            self._errors(held, held, s.draw_candidates),
            self._features(seen),
            self._product(seen, s.n_features, s.fan_in).times(s.n_targets),
            self._rotate(pairs + seen),
            weights,
        )

    @cached_property
    def messages(self) -> dict[str, float]:
        """Bytes that a process adds up with the others for one block, by part; none where it is alone.

        What Lightning, torchmetrics and `Diagnostics` send is not in it: some numbers a label, 8 bytes a batch, and the
        moments of blocks that are tried. The calibration is that of the last block; earlier ones read less.
        """
        s, n = self.sizes, self.sizes.n_labels
        if s.n_processes == 1:
            return {}
        gradients = s.minibatch_epochs * len(s.batches["fit"])
        means = s.side + 1 + 3 * s.channels * s.calibrated
        errors = s.redraws * (s.draw_candidates + 3) * n
        errors += (s.n_candidates + 3) * n if s.n_candidates and not s.gcv else 0
        draws = s.redraws * (s.n_targets + 2) * s.fan_in + (s.redraws > 0)
        unseen = [*s.batches["held"], *s.batches["val"]]
        judged = min(sum(unseen), n_rows_read(s.n_locations * n)) * s.n_locations * n
        return {
            "Gram matrix": (s.redraws + 1) * s.square,
            "cross products, means": ((s.redraws + 1) * (n * s.side + 2 + means) + 3 * n) * 8,
            "errors, draws": (errors + draws) * 8,
            "mini-batch gradients": gradients * s.n_trained * s.itemsize,
            "gradients, objectives": s.epochs * n * (s.side + 1) * 8,
            "calibration": 2 * (len(unseen) * s.n_processes * 8 + judged * s.itemsize),
            "acceptance, checksums": (len(fields(SetAsideSums)) * n + s.n_processes * (s.n_blocks + CHECKED)) * 8,
        }

    def _product(self, pairs: int, inputs: int, outputs: int) -> Work:
        """Rows [pairs, inputs], read once, times a matrix [inputs, outputs]."""
        return Work(products=2.0 * pairs * inputs * outputs, moved=float(pairs * inputs * self.sizes.itemsize))

    def _features(self, pairs: int) -> Work:
        """Features of windows, written once."""
        s, windows = self.sizes, self._product(pairs, self.sizes.fan_in, self.sizes.n_features)
        return total(windows, Work(moved=float(pairs * s.n_features * s.feature_itemsize)))

    def _readout(self, pairs: int, outputs: int) -> Work:
        return self._product(pairs, self.sizes.n_features, outputs)

    def _rotate(self, pairs: int) -> Work:
        """Scores of rotated streams."""
        return self._product(pairs, self.sizes.channels, self.sizes.channels) if self.sizes.rotated else Work()

    def _gram(self, pairs: int) -> Work:
        """Return the column panels of the product that are not below the diagonal: 62.5% of it."""
        s, step = self.sizes, -(-self.sizes.n_features // PANELS)
        entries = sum(
            min(step, s.n_features - first) * (s.n_features - first) for first in range(0, s.n_features, step)
        )
        return Work(products=2.0 * pairs * entries, moved=float(pairs * s.n_features * s.itemsize + s.square))

    def _solve(self, n_sides: int) -> Work:
        return Work(cholesky=2.0 * self.sizes.side**2 * n_sides, moved=float(self.sizes.square))

    def _path(self, n_candidates: int, gcv: bool) -> Work:
        """Power steps to the largest eigenvalue; for each candidate a factorisation and a solution, and its score."""
        s, n = self.sizes, self.sizes.n_labels
        factor = total(Work(cholesky=s.side**3 / 3, moved=2.0 * s.square), self._solve(n))
        score = total(Work(cholesky=2 * s.side**3 / 3, moved=2.0 * s.square), self._solve(n)) if gcv else Work()
        return total(self._solve(1).times(POWER_STEPS), total(factor, score).times(n_candidates))

    def _errors(self, pairs: int, recomputed: int, n_candidates: int) -> Work:
        """Return what candidate weights leave on set-aside pairs."""
        read = self._readout(pairs, n_candidates * self.sizes.n_labels)
        return total(self._features(recomputed), read, self._rotate(pairs))
