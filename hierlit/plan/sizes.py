"""What a run takes, from its sizes alone: parameters, cache and memory of a process, and the depth bound (ours)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from hierlit.layerwise.moments import FOLD_PAIRS
from hierlit.layerwise.solvers.kernel import LATER_UNITS
from hierlit.models.radial_units import SOLVED_ROWS

SPLITS = ("fit", "held", "val")
LARGEST_SHARE = 0.2
"""Share of a Gram matrix's trace that its largest eigenvalue takes; 0.03 to 0.7 were measured."""
TRIED_BYTES = 30
"""Bytes for each entry of the Gram matrix that a kernel is chosen by: distances, kernels, a factor and copies."""
COUNTED_BYTES = 30
"""Bytes for each pair of labels, while it is found which implies which: counts, products, links; measured."""
HEAP_SHARE = 0.5
"""Freed memory that the allocator does not give back, as a share of the matrices'; 0 to 0.8 were measured."""


@dataclass(frozen=True)
class Cache:
    """Where `StreamCache` puts the streams and features of a process.

    Attributes:
        streams: Bytes of streams and labels in memory.
        mapped: Bytes of those in memory-mapped files.
        features: Bytes of features kept.
        recomputed: Pairs of each split whose features are computed at every visit.
    """

    streams: int
    mapped: int
    features: int
    recomputed: dict[str, int]


@dataclass(frozen=True)
class Sizes:
    """All that the cost of a run depends on; pairs are those (row, location) of one process among equals.

    Attributes:
        batches: Rows of each batch, over all processes, of fit (rows that are fitted, in the order of the first
            epoch), held (set aside) and val.
        n_rows: Rows of all tables.
        n_locations: |G|.
        n_inputs: d.
        n_labels: n.
        n_features: q.
        n_blocks: D−1.
        budget: Bytes that the cache of a process may take.
        tile: Features computed at a time where they are not kept.
        heap: Bytes below which the allocator keeps what is freed, 0 if it never does.
        window: w.
        n_processes: Processes that share each batch.
        itemsize: Bytes of a number in the run's precision.
        feature_itemsize: Bytes of a feature as it is kept.
        rotated: Whether the stream is kept rotated (output: orthogonal).
        calibrated: Whether the input scale is measured (input_scale: live or rms).
        epochs: Passes over the fitted rows that a block takes.
        minibatch_epochs: Those of them that take a step a batch (gradient solver).
        n_eigenvalues: Times that a block's largest eigenvalue is worked out (gradient solver).
        n_candidates: Regularisations that are factorised (exact solver).
        gcv: Whether generalised cross-validation chooses among them.
        redraws: Adaptive draws of W¹ before the last one.
        read_channels: Channels of the stream that features read; all when 0.
        draw_candidates: Regularisations that each of them factorises.
        draw_pairs: Pairs, of all processes, that each of them is fitted to.
        n_targets: Labels that W¹ is drawn for.
        n_folds: K, folds of the rows that are left out in turn; 0 without.
        sum_itemsize: Bytes of a number in the sums of products, and in what is factorised.
        is_radial: Whether features are those of radial units, made white.
        is_first: Whether the block is the first.
        choice_pairs: Pairs, of all processes, that a kernel is chosen on, 0 if none is.
        few_trials: Kernels and λ that are tried on half of them.
        trials: And on all of them.
        label_trials: λ that are tried for each label.
        stretched_trials: Bandwidths and λ tried on half of the pairs again in the first block, with inputs stretched.
        by_folds: Whether λ is chosen on each fold left out (cosines of `AutoSolver`).
        tried: Sizes of a network that is tried before the first block.
    """

    batches: dict[str, tuple[int, ...]]
    n_rows: int
    n_locations: int
    n_inputs: int
    n_labels: int
    n_features: int
    n_blocks: int
    budget: float
    tile: int
    heap: int = 0
    window: int = 1
    n_processes: int = 1
    itemsize: int = 4
    feature_itemsize: int = 4
    rotated: bool = False
    calibrated: bool = True
    epochs: int = 1
    minibatch_epochs: int = 0
    n_eigenvalues: int = 0
    n_candidates: int = 0
    gcv: bool = False
    redraws: int = 0
    read_channels: int = 0
    draw_candidates: int = 0
    draw_pairs: int = 0
    n_targets: int = 0
    n_folds: int = 0
    sum_itemsize: int = 8
    is_radial: bool = False
    is_first: bool = True
    choice_pairs: int = 0
    few_trials: int = 0
    stretched_trials: int = 0
    trials: int = 0
    label_trials: int = 0
    by_folds: bool = False
    tried: "Sizes | None" = None

    @property
    def later(self) -> "Sizes":
        """Those of each block after the first."""
        most = LATER_UNITS if self.choice_pairs and self.is_radial else self.n_features
        return replace(self, n_features=min(self.n_features, most), is_first=not self.choice_pairs, tried=None)

    @property
    def drawn(self) -> "Sizes":
        """Those of the rows that W¹ is drawn on: where λ is chosen on folds, some rows, a fold of them set aside."""
        if not self.by_folds:
            return self
        rows = min(self.draw_pairs // self.n_locations, sum(self.batches["fit"])) * self.n_processes
        held = rows // self.n_folds
        return replace(self, batches={"fit": (rows - held,), "held": (held,), "val": ()})

    @property
    def channels(self) -> int:
        """d+n, the channels of the stream."""
        return self.n_inputs + self.n_labels

    @property
    def fan_in(self) -> int:
        """w·(d+n), the length of a window."""
        return self.window * (self.read_channels or self.channels)

    @property
    def side(self) -> int:
        """q+1, the features with the constant one: the side of the square matrices."""
        return self.n_features + 1

    @cached_property
    def by_rows(self) -> int:
        """Pairs of all processes where a kernel is fitted by their products, for it has as many units; else 0."""
        pairs = sum(self.batches["fit"]) * self.n_locations
        return pairs if self.is_radial and self.choice_pairs and pairs <= self.n_features else 0

    @property
    def square(self) -> int:
        """Bytes of a [q+1, q+1] matrix that is factorised."""
        return self.sum_itemsize * self.side**2

    @property
    def n_read(self) -> int:
        """Coordinates of a window that a feature reads: those that vary, or those that a kernel is chosen for."""
        if not self.is_radial:
            return self.fan_in
        scores_only = bool(self.choice_pairs) and not self.is_first
        return self.window * (self.n_inputs if self.is_first else self.n_labels if scores_only else self.channels)

    @property
    def n_fold_candidates(self) -> int:
        """Regularisations that a fit without a fold factorises, at most: those that labels have."""
        return min(self.n_candidates, self.n_labels)

    @property
    def n_trained(self) -> int:
        """Parameters trained at a time, n·(q+1)."""
        return self.n_labels * self.side

    @property
    def n_frozen(self) -> int:
        """Parameters frozen in the end: W¹, b, mean, scale and weight of every block, and the rotation."""
        blocks = (s.n_features * (s.n_read + 2) + 1 + s.n_trained for s in (self, self.later))
        first, later = (
            size + s.is_radial * (2 * s.n_read + 3) for s, size in zip((self, self.later), blocks, strict=True)
        )
        return first + (self.n_blocks - 1) * later + self.rotated * self.channels**2

    def chunks(self, split: str) -> list[int]:
        """Pairs in each batch of a split; the first process, which has the larger shares."""
        return [-(-rows // self.n_processes) * self.n_locations for rows in self.batches[split]]

    def pairs(self, split: str) -> int:
        """Pairs in a split."""
        return sum(self.chunks(split))

    def leading(self, n_pairs: int) -> int:
        """Pairs in the leading batches, so many that batches as large as the largest would hold `n_pairs` in all."""
        n_batches = math.ceil(n_pairs / (max(self.batches["fit"]) * self.n_locations))
        return sum(self.chunks("fit")[:n_batches])

    @cached_property
    def cache(self) -> Cache:
        """What the budget allows: streams and labels batch by batch, then features batch by batch."""
        left, streams, mapped, features = self.budget, 0, 0, 0
        recomputed = dict.fromkeys(SPLITS, 0)
        for split in SPLITS:
            for pairs in self.chunks(split):
                for width in (self.channels, self.n_labels):
                    size = pairs * width * self.itemsize
                    kept = size <= left
                    left, streams, mapped = left - kept * size, streams + kept * size, mapped + (not kept) * size
        for split in SPLITS:
            for pairs in self.chunks(split):
                size = pairs * self.n_features * self.feature_itemsize
                kept = size <= left and split != "val" and not self.by_rows
                left, features = left - kept * size, features + kept * size
                recomputed[split] += (not kept) * pairs
        return Cache(streams, mapped, features, recomputed)

    @cached_property
    def memory(self) -> dict[str, float]:
        """Bytes of a process at its peak beyond its libraries, by part; memory-mapped files are not in it."""
        candidates = max(self.n_candidates, self.draw_candidates)
        tried = max(TRIED_BYTES * self.choice_pairs**2, self.tried.matrices if self.tried else 0)
        matrices = max(self.matrices, tried)
        return {
            "tables": 4 * self.n_rows * self.n_locations * self.channels,
            "network": (self.n_frozen + (2 + self.n_folds) * self.n_trained) * self.itemsize,
            "streams and labels": self.cache.streams,
            "features kept": self.cache.features,
            "matrices, factors": max(matrices, COUNTED_BYTES * self.n_labels**2),
            "a batch at work": self._batch(candidates) * self.itemsize,
            "freed, not given back": HEAP_SHARE * matrices * (self.square < self.heap),
        }

    @property
    def matrices(self) -> float:
        """Most bytes of matrices of a block at a time, and of their candidate weights.

        [q+1, q+1] are sums and a copy to mirror, or factors and what is factorised. With folds, the sums of each and of
        all stay, and the factors of the fit to all; so does the factor of units. By rows, products of all pairs stay
        and their factors, beside those of the pairs that a fold leaves.
        """
        n, own = self.n_candidates, self.sum_itemsize
        sums: float = max(16 + own, own * (n + 2) * (n > 0))
        if self.by_rows:
            sums = own * (1 + n + (1 - 1 / self.n_folds) ** 2 * (2 + self.n_fold_candidates))
        elif self.n_folds:
            sums = own * (self.n_folds + 1 + n + 2 + self.n_fold_candidates)
        drawn = 8 * max(3, self.draw_candidates + 2) * (self.redraws > 0)
        entries = max(sums + self.itemsize * (self.is_radial and not self.by_rows), drawn)
        return entries * self.side**2 + 3 * max(n, self.draw_candidates) * self.n_trained * 8

    def _batch(self, candidates: int) -> int:
        """Numbers of a batch's windows, streams before and after, candidates' errors, and tiles of features."""
        pairs, tiles = max(self.chunks("fit")), 4 if self.redraws else 6 if self.is_radial else 2
        windows, drawn = self.fan_in * (self.window > 1), self.by_folds * self.drawn.pairs("fit")
        rows = pairs * (windows + 4 * self.channels + 3 * candidates * self.n_labels)
        tile = max(self.tile, SOLVED_ROWS * self.n_features * self.is_radial)
        waiting = (self.n_folds + 2) * FOLD_PAIRS * self.n_features * (self.n_folds > 0)
        at_once = max(tiles * min(tile, pairs * self.n_features), waiting)
        return rows + at_once + 2 * drawn * (self.channels + self.n_labels)


def distinct_candidates(alphas: Sequence[float], resolution: float, n_features: int) -> int:
    """Regularisations left to factorise: those too small to resolve are raised to the same one, which is one.

    Args:
        alphas: Multiples of the Gram matrix's mean diagonal.
        resolution: Relative precision of the Gram matrix.
        n_features: q, the mean diagonals in its trace.
    """
    return len({max(alpha, resolution * LARGEST_SHARE * n_features) for alpha in alphas})
