"""Random majorities of neurons, and their states recovered from them (Daniely, arXiv 2601.00455, Theorem 3.4)."""

import math
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from hierlit.draws import Draws, unpack, words_for

Array = NDArray[np.float64]


def check_sizes(d: int, k: int) -> None:
    """Raise ValueError unless k is odd and 1 ≤ k ≤ d."""
    if not 1 <= k <= d or k % 2 == 0:
        raise ValueError(f"k must be odd and in 1..{d}, the number of neurons, got {k}")


def alpha(d: int, k: int) -> float:
    """α_{d,k} = (k/d)·C(k−1, (k−1)/2)/2^{k−1}, by which E[w_j·sign⟨w, z⟩] = α_{d,k}·z_j for z in {−1, 1}^d.

    A neuron has weight ±1 in a share k/d of the majorities, and decides those in which the other k − 1 tie.

    Args:
        d: Neurons.
        k: Nonzero weights of a majority, odd.

    Raises:
        ValueError: If k is even or not in 1..d.
    """
    check_sizes(d, k)
    return k / d * math.comb(k - 1, (k - 1) // 2) * 0.5 ** (k - 1)


def alpha_by_enumeration(d: int, k: int) -> float:
    """α_{d,k} as the mean of w_1·sign⟨w, z⟩ over all w of k nonzeros in {−1, 0, 1}^d, at z = 1."""
    check_sizes(d, k)
    total = sum(
        signs[chosen.index(0)] * np.sign(sum(signs))
        for chosen in combinations(range(d), k)
        for signs in product((-1, 1), repeat=k)
        if 0 in chosen
    )
    return float(total) * 0.5**k / math.comb(d, k)


def random_majorities(n: int, d: int, k: int, draws: Draws) -> NDArray[np.int64]:
    """Weights [n, d] in {−1, 0, 1} of n majorities, each of k uniformly chosen neurons with uniform signs.

    Raises:
        ValueError: If k is even or not in 1..d.
    """
    check_sizes(d, k)
    words = draws.words(n * (words_for(k) + d)).reshape(n, -1)
    order = np.argsort(words[:, -d:], axis=1, kind="stable")
    weights = np.zeros((n, d), dtype=np.int64)
    np.put_along_axis(weights, order[:, :k], 2 * unpack(words[:, :-d], k).astype(np.int64) - 1, axis=1)
    return weights


def alpha_by_simulation(d: int, k: int, n: int = 100_000, seed: int = 0) -> float:
    """α_{d,k} as a mean over n random majorities and all neurons, at z = 1."""
    weights = random_majorities(n, d, k, Draws(seed, "alpha"))
    return float((weights * np.sign(weights.sum(1, keepdims=True))).mean())


def reconstruct(weights: NDArray[np.int64], labels: Array) -> Array:
    """Estimates of neurons' states [rows, d] from their majorities: the mean of w_j·y_w, divided by α_{d,k}.

    Args:
        weights: [n, d] of n majorities, k nonzeros each.
        labels: Their values [rows, n] in {−1, 1}.

    Raises:
        ValueError: If there are no majorities, or some are larger than others.
    """
    sizes = np.unique(np.count_nonzero(weights, axis=1)).tolist()
    if len(sizes) != 1:
        raise ValueError(f"weights must have rows of equally many nonzeros, got {sizes}")
    n, d = weights.shape
    estimates: Array = labels @ weights / (n * alpha(d, sizes[0]))
    return estimates


def reconstruction_error(n: int, d: int, k: int) -> float:
    """Root mean square error of `reconstruct` over the draw of n majorities (ours): √((k/d − α²)/n)/α.

    Raises:
        ValueError: If n is not positive, or k is even or not in 1..d.
    """
    if n < 1:
        raise ValueError(f"n must be an integer >= 1, got {n}")
    scale = alpha(d, k)
    return math.sqrt((k / d - scale**2) / n) / scale


def labels_for_error(error: float, d: int, k: int) -> int:
    """Return the number of majorities that brings the root mean square error down to `error` (ours).

    Raises:
        ValueError: If `error` is not positive, or k is even or not in 1..d.
    """
    if not error > 0:
        raise ValueError(f"error must be positive, got {error}")
    scale = alpha(d, k)
    return math.ceil((k / d - scale**2) / (error * scale) ** 2)
