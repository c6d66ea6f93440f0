"""What a run takes, from its sizes alone: parameters, cache and memory of a process, and the depth bound (ours)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

SPLITS = ("fit", "held", "val")
LARGEST_SHARE = 0.2
"""Share of a Gram matrix's trace that its largest eigenvalue takes; 0.03 to 0.7 were measured."""
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
        draw_candidates: Regularisations that each of them factorises.
        draw_pairs: Pairs, of all processes, that each of them is fitted to.
        n_targets: Labels that W¹ is drawn for.
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
    draw_candidates: int = 0
    draw_pairs: int = 0
    n_targets: int = 0

    @property
    def channels(self) -> int:
        """d+n, the channels of the stream."""
        return self.n_inputs + self.n_labels

    @property
    def fan_in(self) -> int:
        """w·(d+n), the length of a window."""
        return self.window * self.channels

    @property
    def side(self) -> int:
        """q+1, the features with the constant one: the side of the square matrices."""
        return self.n_features + 1

    @property
    def square(self) -> int:
        """Bytes of a [q+1, q+1] float64 matrix."""
        return 8 * self.side**2

    @property
    def n_trained(self) -> int:
        """Parameters trained at a time, n·(q+1)."""
        return self.n_labels * self.side

    @property
    def n_frozen(self) -> int:
        """Parameters frozen in the end: W¹, b, mean, scale and weight of every block, and the rotation."""
        block = self.n_features * (self.fan_in + 2) + 1 + self.n_trained
        return self.n_blocks * block + self.rotated * self.channels**2

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
                kept = size <= left and split != "val"
                left, features = left - kept * size, features + kept * size
                recomputed[split] += (not kept) * pairs
        return Cache(streams, mapped, features, recomputed)

    @cached_property
    def memory(self) -> dict[str, float]:
        """Bytes of a process at its peak beyond its libraries, by part; memory-mapped files are not in it."""
        candidates = max(self.n_candidates, self.draw_candidates)
        matrices = self.squares * self.square + 3 * candidates * self.n_trained * 8
        return {
            "tables": 4 * self.n_rows * self.n_locations * self.channels,
            "network": (self.n_frozen + 2 * self.n_trained) * self.itemsize,
            "streams and labels": self.cache.streams,
            "features kept": self.cache.features,
            "matrices, factors": matrices,
            "a batch at work": self._batch(candidates) * self.itemsize,
            "freed, not given back": HEAP_SHARE * matrices * (self.square < self.heap),
        }

    @property
    def squares(self) -> float:
        """Most [q+1, q+1] float64 matrices at a time: sums and a copy to mirror, or factors and what is factorised."""
        candidates = max(self.n_candidates, self.draw_candidates)
        return max(2 + (1 if self.n_candidates else self.itemsize / 8), (candidates + 2) * (candidates > 0))

    def _batch(self, candidates: int) -> int:
        """Numbers of a batch's windows, streams before and after, candidates' errors, and tiles of features."""
        pairs, tiles = max(self.chunks("fit")), 4 if self.redraws else 2
        windows = self.fan_in * (self.window > 1)
        rows = pairs * (windows + 4 * self.channels + 3 * candidates * self.n_labels)
        return rows + tiles * min(self.tile, pairs * self.n_features)


def distinct_candidates(alphas: Sequence[float], resolution: float, n_features: int) -> int:
    """Regularisations left to factorise: those too small to resolve are raised to the same one, which is one.

    Args:
        alphas: Multiples of the Gram matrix's mean diagonal.
        resolution: Relative precision of the Gram matrix.
        n_features: q, the mean diagonals in its trace.
    """
    return len({max(alpha, resolution * LARGEST_SHARE * n_features) for alpha in alphas})
