"""Rows that pairs of labels share, and how likely chance would share as many."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_matrix
from scipy.special import gammaln, rel_entr

from hierlit.discovery.structure.columns import Floats, LabelColumns, Places
from hierlit.discovery.structure.margins import SetSizes

MOST_TERMS = 200
LEAST_RATE = 1e-3
"""Of a label's frequency: the lowest rate that chance is taken to give it in some rows, for logarithms to be exact."""
FEWEST_POSITIVES = 10
"""Of a label whose positives an example are looked at."""


class PairCounts:
    """Counts of label pairs; what is not observed is not counted.

    Args:
        columns: The labels.
        margins: What chance keeps, as in `StructureOptions`.

    Attributes:
        columns: What they are the counts of.
        positives: Rows where a label is 1, [n].
        negatives: Rows where it is −1, [n].
        both: Rows where two labels are 1, [n, n].
        weight: Independent rows a row. Locations of one example may have labels in common; how much so is seen in how
            much the positives of an example vary.
    """

    def __init__(self, columns: LabelColumns, margins: str = "columns") -> None:
        self.columns, positive, hidden = columns, columns.positive, columns.hidden
        self.positives = np.asarray(positive.sum(0)).ravel()
        self._hidden = np.asarray(hidden.sum(0)).ravel()
        self.negatives = columns.n_rows - self.positives - self._hidden
        self.both: csr_matrix = (positive.T @ positive).tocsr()
        self.weight = 1 / design_effect(columns, self.positives)
        self._sizes = SetSizes(columns) if margins == "both" else None
        # rows where the first label is 1 and the second not observed, and where neither is observed
        self._half: csr_matrix = (positive.T @ hidden).tocsr()
        self._neither: csr_matrix = (hidden.T @ hidden).tocsr()

    def shared(self, first: Places, second: Places) -> Places:
        """Rows where both labels of each pair are 1."""
        return at(self.both, first, second)

    def support(self, first: Places, second: Places) -> Places:
        """Rows where the first label of each pair is 1 and the second observed."""
        n_seen: Places = self.positives[first] - at(self._half, first, second)
        return n_seen

    def seen(self, first: Places, second: Places) -> Places:
        """Rows where both are observed."""
        n_hidden: Places = self._hidden[first] + self._hidden[second] - at(self._neither, first, second)
        return self.columns.n_rows - n_hidden

    def log_p_implied(self, first: Places, second: Places) -> Floats:
        """Log-probability that chance leaves no more rows of the first label without the second (Fisher's exact test).

        The second label is shuffled among the rows where both are observed.
        """
        seen, of_second, support = self._urn(first, second)
        return self.tail(seen, of_second, support, support - self.shared(first, second))

    def log_p_within(self, first: int, second: Places, third: Places) -> Floats:
        """Log-probability [second, third] of the same among the rows of third labels, which the first label implies."""
        support = self.support(np.full(len(second), first), second)
        exceptions = support - self.shared(np.full(len(second), first), second)
        seen = self.support(third[None], second[:, None])
        drawn = np.minimum(support[:, None], seen)
        of_second = self.both[second][:, third].toarray()
        return self.tail(seen, of_second, drawn, np.minimum(exceptions[:, None], drawn))

    def log_p_excluded(self, first: Places, second: Places) -> Floats:
        """Log-probability that chance lets both labels share no more rows."""
        found = []
        for one, other in ((first, second), (second, first)):
            seen, of_other, support = self._urn(one, other)
            found.append(self.tail(seen, seen - of_other, support, self.shared(one, other)))
            if self._sizes is None:
                break  # Fisher's test is the same either way
        return np.asarray(np.max(found, axis=0))

    def _urn(self, first: Places, second: Places) -> tuple[Floats, Places, Places]:
        """Return what chance draws from for each pair: rows, those of the second label, and how many are drawn.

        Where the sizes of label sets are kept, there are as many rows as make the second label as frequent as it is
        expected to be in the first one's rows. Of all distributions of so many rows with that mean, one of equal
        rates has the heaviest tails (Hoeffding 1956).
        """
        of_second, support = self.support(second, first), self.support(first, second)
        seen = self.seen(first, second).astype(float)
        if self._sizes is not None:
            rate = np.maximum(self._sizes.rate(first, second), LEAST_RATE * of_second / np.maximum(seen, 1))
            seen = np.maximum(np.divide(of_second, rate, out=seen, where=of_second > 0), support)
        return seen, of_second, support

    def tail(self, seen: ArrayLike, marked: ArrayLike, drawn: ArrayLike, exceptions: ArrayLike) -> Floats:
        """Return `log_tail` of rows, or of as many as are independent."""
        if self.weight < 1:  # as many examples, an exception remaining one
            seen, marked, drawn = (np.floor(np.multiply(n, self.weight) + 1e-6) for n in (seen, marked, drawn))
            exceptions = np.minimum(np.ceil(np.multiply(exceptions, self.weight) - 1e-6), drawn)
        return log_tail(seen, marked, drawn, exceptions)


def design_effect(columns: LabelColumns, positives: Places) -> float:
    """Return how many rows make an independent one, by the label of which it takes most (Kish's design effect).

    It is the variance of the positives of an example over that of as many independent rows, at least 1.
    """
    if columns.n_examples == columns.n_rows:
        return 1.0
    of_example = np.unique(columns.example, return_inverse=True)[1]
    ones = np.ones(columns.n_rows, dtype=np.int64)
    sums = csr_matrix((ones, (of_example, np.arange(columns.n_rows)))) @ columns.positive
    rate, sizes = positives / columns.n_rows, np.bincount(of_example)
    judged = np.flatnonzero((positives >= FEWEST_POSITIVES) & (rate < 1))
    effects = [
        np.square(sums[:, [label]].toarray().ravel() - rate[label] * sizes).sum()
        / (columns.n_rows * rate[label] * (1 - rate[label]))
        for label in judged
    ]
    return float(max([1.0, *effects]))


def at(matrix: csr_matrix, first: Places, second: Places) -> Places:
    """Return a sparse matrix's entries at pairs of places, which are broadcast."""
    first, second = (places.copy() for places in np.broadcast_arrays(first, second))
    found = matrix[first.ravel(), second.ravel()] if first.size and matrix.nnz else np.zeros(first.size, np.int64)
    return np.asarray(found).reshape(first.shape)


def log_tail(seen: ArrayLike, marked: ArrayLike, drawn: ArrayLike, exceptions: ArrayLike) -> Floats:
    """Log-probability that of rows drawn without replacement no more are unmarked (hypergeometric).

    Where there are more than `MOST_TERMS` exceptions it is Hoeffding's bound, which is no smaller.

    Args:
        seen: Rows there are.
        marked: Those that are marked.
        drawn: Those drawn.
        exceptions: The number of unmarked rows among those drawn, or less.
    """
    seen, marked, drawn, exceptions = np.broadcast_arrays(
        *(np.asarray(n, float) for n in (seen, marked, drawn, exceptions))
    )
    found, is_many = np.full(seen.shape, -np.inf), exceptions > MOST_TERMS
    found[is_many] = bound(exceptions[is_many], drawn[is_many], 1 - marked[is_many] / seen[is_many])
    summed = np.where(is_many, -1, exceptions)
    for number in range(int(summed.max(initial=-1)) + 1):
        possible = (number <= summed) & (number <= seen - marked) & (drawn - number >= 0) & (drawn - number <= marked)
        own = [values[possible] for values in (seen, marked, drawn)]
        ways = log_choose(own[1], own[2] - number) + log_choose(own[0] - own[1], np.full(len(own[0]), float(number)))
        found[possible] = np.logaddexp(found[possible], ways - log_choose(own[0], own[2]))
    return np.asarray(np.minimum(found, 0.0))


def bound(exceptions: Floats, drawn: Floats, expected: Floats) -> Floats:
    """Hoeffding's bound of the log-probability of so few exceptions where a share of the rows is expected."""
    share = exceptions / drawn
    divergence = rel_entr(share, expected) + rel_entr(1 - share, 1 - expected)
    return np.asarray(np.where(share < expected, -drawn * divergence, 0.0))


def log_choose(n: Floats, k: Floats) -> Floats:
    """Return the logarithm of the binomial coefficient."""
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))


def cutoff(log_p: Floats, n_tests: float, rate: float) -> float:
    """Return the largest log p-value that Benjamini–Hochberg lets pass; −∞ if none does.

    Args:
        log_p: Those small enough to matter.
        n_tests: Tests there are in all.
        rate: False discovery rate.
    """
    passed = log_p[adjusted(log_p, n_tests) <= rate]
    return float(passed.max(initial=-np.inf))


def adjusted(log_p: Floats, n_tests: float) -> Floats:
    """Return Benjamini–Hochberg's q-values of the smallest p-values of so many tests, as logarithms of p are given.

    They are those of `scipy.stats.false_discovery_control` as long as all p-values below the largest are given.
    """
    order = np.argsort(log_p, kind="stable")
    shares = np.exp(log_p[order]) * n_tests / np.arange(1, len(order) + 1)
    q = np.empty(len(order))
    q[order] = np.minimum.accumulate(np.append(shares, 1.0)[::-1])[::-1][:-1]
    return q
