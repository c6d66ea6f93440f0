"""What a block takes, from the sizes of its run alone: operations, memory traffic and messages (ours)."""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import NamedTuple

from hierlit.layerwise.acceptance import SetAsideSums
from hierlit.layerwise.adaptive_draw import AGOP_PAIRS
from hierlit.layerwise.calibration import n_rows_read
from hierlit.layerwise.moments import MEAN_PAIRS, PANELS
from hierlit.layerwise.solvers.ridge import POWER_STEPS
from hierlit.layerwise.solvers.stretch import MOST_LABELS, MOST_POINTS
from hierlit.plan.sizes import SPLITS, Sizes

RADIAL_BYTES = 100
"""Bytes that pass through memory for each unit of a row: distances in float64 and their profile; measured."""
CHECKED = 4
"""Tensors of a block whose checksums processes compare, besides the weights of all blocks."""


class Work(NamedTuple):
    """Operations, of which a multiplication with an addition is two, and traffic; works add up.

    Attributes:
        products: Operations of matrix products over rows, and on matrices that are not float64, in the run's precision.
        cholesky: Operations on [q+1, q+1] float64 matrices, and where a kernel is chosen: n³/3 a Cholesky
            factorisation, 2n²k for k right-hand sides.
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
        parts = {"choices": self.choices} if s.choice_pairs and (s.is_radial or s.is_first) else {}
        parts |= {f"{s.redraws} draws of W¹": self.draw.times(s.redraws)} if s.redraws else {}
        if s.by_rows:
            parts |= {"features": self._distances, "Gram matrix": self._distances}
        else:
            mean = self._placed if s.is_radial else self._features(s.leading(MEAN_PAIRS))
            parts["features"] = total(scale, mean, self._features(fit + held - again["held"]))
            parts["Gram matrix"] = self._gram(fit)
            parts["cross products"] = total(self._readout(fit, s.n_labels), self._rotate(2 * fit))
        if s.n_candidates:
            left_out = self._path(s.n_candidates, steps=0).times(s.by_folds * (s.n_folds + 1))
            steps = 0 if s.is_radial and s.choice_pairs else POWER_STEPS
            parts["factorisations"] = total(self._path(s.n_candidates, s.gcv, steps), left_out)
            if held and not s.gcv:
                parts["their errors"] = self._errors(held, again["held"], s.n_candidates)
        else:
            parts["eigenvalues"] = self._eigenvalues.times(s.n_eigenvalues)
        if s.n_folds:
            eigenvalues = self._eigenvalues.times(s.n_eigenvalues)
            rest = BlockWork(replace(s, n_features=int(s.by_rows * (1 - 1 / s.n_folds)))) if s.by_rows else self
            without = total(rest._path(s.n_fold_candidates, steps=0), eigenvalues, Work(moved=3.0 * s.square))
            parts[f"{s.n_folds} fits without a fold"] = total(without, self.epoch.times(s.epochs)).times(s.n_folds)
        parts["1 epoch" if s.epochs == 1 else f"{s.epochs} epochs"] = self.epoch.times(s.epochs)
        judged = total(self._features(again["held"]), self._readout(held, s.n_labels), self._rotate(held))
        moved_on = total(self._advanced, self._readout(fit + held + val, s.n_labels))
        written = self._product(fit + held + val, s.n_labels, s.channels) if s.rotated else Work()
        parts["accept, advance"] = total(judged, moved_on, written, self._rotate(fit + held + val))
        return parts

    @cached_property
    def epoch(self) -> Work:
        """One pass over the fitted rows or their products, and the exact solver's step where another one follows."""
        s, fit = self.sizes, self.sizes.pairs("fit")
        step = self._solve(s.n_labels).times(1 - 1 / s.epochs) if s.n_candidates else Work()
        if s.by_rows:  # scores, and the norm of the gradient
            return total(self._product(s.n_labels, s.n_features, s.n_features).times(3 - 1 / s.epochs), step)
        return total(
            self._features(s.cache.recomputed["fit"]),
            self._rotate(fit),
            self._readout(fit, s.n_labels).times(2),
            step,
        )

    @cached_property
    def draw(self) -> Work:
        """One adaptive draw of W¹: moments and a ridge path on some rows, errors on set-aside rows, AGOP diagonals."""
        s = self.sizes.drawn
        held, pairs, seen = s.pairs("held"), s.leading(s.draw_pairs), s.leading(min(AGOP_PAIRS, s.draw_pairs))
        scale = self._rotate(s.pairs("fit")) if s.calibrated else Work()
        weights = Work(products=4.0 * s.n_features * s.fan_in * s.channels) if s.rotated else Work()
        return total(
            scale,
            self._features(s.leading(MEAN_PAIRS) + pairs),
            self._gram(pairs),
            self._readout(pairs, s.n_labels),
            self._path(s.draw_candidates),
            self._errors(held, held, s.draw_candidates),
            self._features(seen),
            self._product(seen, s.n_features, s.fan_in).times(s.n_targets),
            self._rotate(pairs + seen),
            weights,
        )

    @cached_property
    def choices(self) -> Work:
        """Kernels and λ tried on rows left out, some of them on half of the rows; before the first block a network.

        Later blocks, and labels' own λ, are fitted without one of the folds, which judges them. In the first block
        coordinates are stretched by a fit, and the bandwidth and λ of its kernel chosen once more.
        """
        s, pairs = self.sizes, self.sizes.choice_pairs
        chosen, stretch = 1 + s.is_first, self._stretch(pairs * (1 - 1 / s.n_folds)) if s.is_first else Work()
        rest, n_folds = 1 - 1 / s.n_folds, s.n_folds * s.is_first
        share = 1 if s.is_first else rest
        return total(
            total(*BlockWork(s.tried).parts.values()).times(s.n_blocks) if s.tried else Work(),
            stretch,
            self._kernel(pairs // 2).times(chosen),
            self._kernel(pairs).times(chosen),
            self._left_out(share * pairs / 2, n_folds).times(s.few_trials + s.is_first * s.stretched_trials),
            self._left_out(share * pairs, n_folds).times(chosen * s.trials),
            self._left_out(rest * pairs, s.n_folds - 1).times(s.label_trials),
        )

    @cached_property
    def messages(self) -> dict[str, float]:
        """Bytes that a process adds up with the others for one block, by part; none where it is alone.

        What Lightning, torchmetrics and `Diagnostics` send is not in it: some numbers a label, 8 bytes a batch, and the
        moments of blocks that are tried. The calibration is that of the last block, where no label is a class of a
        column; earlier ones read less.
        """
        s, n = self.sizes, self.sizes.n_labels
        if s.n_processes == 1:
            return {}
        passes, draws, sums = s.epochs * (s.n_folds + 1), s.redraws * (not s.by_folds), max(1, s.n_folds)
        gradients = s.minibatch_epochs * len(s.batches["fit"]) * (s.n_folds + 1)
        counts = 3 * n * (s.n_folds + 1) + (s.n_folds > 0)
        means = s.side + 1 + 3 * s.channels * s.calibrated
        errors = draws * (s.draw_candidates + 3) * n
        errors += (s.n_candidates + 3) * n if s.n_candidates and s.batches["held"] and not s.gcv else 0
        errors += draws * (s.n_targets + 3) * s.fan_in + (draws > 0)
        unseen = [*s.batches["held"], *s.batches["val"], *(s.batches["fit"] if s.n_folds else ())]
        rows = s.by_folds * sum(map(sum, s.drawn.batches.values())) * s.n_locations + s.choice_pairs
        gathered = s.is_radial * s.n_features * s.fan_in + rows * (s.channels + n)
        judged, counted = min(sum(unseen), n_rows_read(s.n_locations * n)), 2 * (2 * n**2 + n) * 4 * (n > 1)
        own = judged * (2 * s.n_locations * n * s.itemsize + 8)
        if s.by_rows:
            sums, gathered = 0, gathered + s.by_rows * (2 * n + 1)
        return {
            "Gram matrix": draws * 8 * s.side**2 + sums * s.square,
            "cross products, means": ((draws + sums) * (n * s.side + 2) + (draws + 1) * means + counts) * 8,
            "errors, draws": errors * 8,
            "rows gathered": gathered * s.itemsize,
            "mini-batch gradients": gradients * s.n_trained * s.itemsize,
            "gradients, objectives": passes * n * (s.side + 1) * 8,
            "calibration": 3 * len(unseen) * s.n_processes * 8 + own + counted,
            "acceptance, checksums": (len(fields(SetAsideSums)) * n + s.n_processes * (s.n_blocks + CHECKED)) * 8,
        }

    def _product(self, pairs: int, inputs: int, outputs: int) -> Work:
        """Rows [pairs, inputs], read once, times a matrix [inputs, outputs]."""
        return Work(products=2.0 * pairs * inputs * outputs, moved=float(pairs * inputs * self.sizes.itemsize))

    def _features(self, pairs: int) -> Work:
        """Features of windows, written once; those of units made white, of a factor that each entry of them reads."""
        s = self.sizes
        white = Work(products=pairs * s.n_features**2 * (s.is_radial and not s.by_rows))
        return total(self._seen(pairs), Work(moved=float(pairs * s.n_features * s.feature_itemsize)), white)

    def _seen(self, pairs: int) -> Work:
        """Features of windows as the network has them."""
        s = self.sizes
        profile = Work(moved=float(pairs * s.n_features * RADIAL_BYTES * s.is_radial))
        return total(self._product(pairs, s.n_read, s.n_features), profile)

    @property
    def _advanced(self) -> Work:
        """Features of rows that move past the block: those not kept, and all of units, kept in other coordinates."""
        again = self.sizes.cache.recomputed
        if self.sizes.is_radial:
            return self._seen(sum(map(self.sizes.pairs, SPLITS)))
        return self._features(sum(again.values()))

    @property
    def _distances(self) -> Work:
        """Profiles of the distances of units from each other."""
        return self._seen(self.sizes.n_features)

    @property
    def _placed(self) -> Work:
        """Distances of units from each other, for their mean and for their factor, and that factor."""
        return total(self._distances.times(2), Work(cholesky=self.sizes.n_features**3 / 3))

    @property
    def _eigenvalues(self) -> Work:
        return Work(eigen=4 * self.sizes.side**3 / 3, moved=2.0 * self.sizes.square)

    def _kernel(self, pairs: int) -> Work:
        """Gram matrix of some pairs; there are as many kernels as need one, which is little, and one is counted."""
        s = self.sizes
        if pairs <= s.n_features:
            return self._product(pairs, s.n_read, pairs)
        return total(self._placed, self._features(pairs), self._product(pairs, s.n_features, pairs))

    def _left_out(self, pairs: float, n_folds: int) -> Work:
        """Fit by the Gram matrix of some pairs, and what it says of each fold left out.

        In the run's precision matrices so small take about as long as large ones in float64.
        """
        folds, k = range(1, n_folds + 1), max(1, n_folds)
        inverse = sum((fold / k) ** 2 + 2 * fold / k**2 for fold in folds) / k
        operations = (1 / 3 + inverse) * pairs**3 + 2.0 * pairs**2 * self.sizes.n_labels
        return Work(cholesky=operations, moved=float(pairs**2 * RADIAL_BYTES))

    def _stretch(self, pairs: float) -> Work:
        """Fit some pairs, judge this and a later fit, and take the slopes at some of the pairs."""
        s, points = self.sizes, min(pairs, MOST_POINTS)
        slopes = self._product(int(points), int(pairs), s.n_read).times(min(s.n_labels, MOST_LABELS))
        return total(self._product(int(pairs), s.n_read, int(pairs)), self._left_out(pairs, 0).times(3), slopes)

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

    def _factored(self, operations: float, n_matrices: int) -> Work:
        """Operations on square matrices, so many of which pass through memory."""
        moved = float(n_matrices * self.sizes.square)
        return Work(cholesky=operations, moved=moved) if self.sizes.sum_itemsize == 8 else Work(operations, moved=moved)

    def _solve(self, n_sides: int) -> Work:
        return self._factored(2.0 * self.sizes.side**2 * n_sides, 1)

    def _path(self, n_candidates: int, gcv: bool = False, steps: int = POWER_STEPS) -> Work:
        """Power steps to the largest eigenvalue; for each candidate a factorisation and a solution, and its score.

        Scores need all eigenvalues, once.
        """
        s, n = self.sizes, self.sizes.n_labels
        candidate = total(self._factored(s.side**3 / 3, 2), self._solve(n).times(1 + gcv))
        return total(self._solve(1).times(steps), self._eigenvalues.times(gcv), candidate.times(n_candidates))

    def _errors(self, pairs: int, recomputed: int, n_candidates: int) -> Work:
        """Return what candidate weights leave on set-aside pairs."""
        read = self._readout(pairs, n_candidates * self.sizes.n_labels)
        return total(self._features(recomputed), read, self._rotate(pairs))
