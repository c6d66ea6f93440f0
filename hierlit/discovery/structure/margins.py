"""Chance that keeps both margins of a table of labels: how frequent each label is, and how many labels each row has."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from hierlit.discovery.structure.columns import Floats, LabelColumns, Places

CLOSE, MOST_STEPS = 1e-6, 200
"""Relative change of the odds at which they are as good as found, and the steps that it may take."""
CHUNK = 10_000_000
"""Rates of pairs of labels, of rows of each size, that are looked at at once."""
TRADES = 10
"""Trades of each row with another one, by which a table forgets where it began (Strona et al. 2014)."""


class SetSizes:
    """How often chance gives one label to the rows of another one, by the number of labels that these rows have.

    A row of t labels has label j with odds x_t·y_j, where x and y reproduce the number of labels of each row and the
    frequency of each label: the distribution of greatest entropy that does (the bipartite configuration model, Saracco
    et al. 2015). A row that has label i has t − 1 places for the others. Entries that are not observed are taken to be
    like the others of their row and column.

    Args:
        columns: The labels.
    """

    def __init__(self, columns: LabelColumns) -> None:
        positive, n_rows = columns.positive, columns.n_rows
        positives, hidden = (np.asarray(own.sum(0)).ravel() for own in (positive, columns.hidden))
        frequency = positives / np.maximum(n_rows - hidden, 1)
        varies = (frequency > 0) & (frequency < 1)
        own = np.asarray(positive @ varies).ravel()
        observed = np.maximum(varies.sum() - np.asarray(columns.hidden @ varies).ravel(), 1)
        sizes = np.rint(own * varies.sum() / observed).astype(np.int64)
        rates = np.zeros((sizes.max(initial=0) + 1, columns.n_labels))
        if varies.any():
            rates[:, varies] = fitted_rates(np.bincount(sizes), frequency[varies] * n_rows)
        of_size = csr_matrix((np.ones(n_rows), (sizes, np.arange(n_rows))), shape=(len(rates), n_rows))
        with_label = (of_size @ positive).toarray()[1:]
        # In rows of t − 1 labels the rates of the others sum to t − 1 less the label's own rate r, in rows of t to
        # about one more. For them to sum to t − 1, a row of t labels counts as 1 − r rows of t − 1 and r rows of t.
        self._places = np.zeros_like(rates)
        self._places[:-1] += with_label * (1 - rates[:-1])
        self._places[1:] += with_label * rates[:-1]
        self._places /= np.maximum(with_label.sum(0), 1)
        self._rates = rates

    def rate(self, first: Places, second: Places) -> Floats:
        """Share of the rows with the first label of each pair that chance gives the second."""
        parts = np.array_split(np.arange(len(first)), 1 + len(first) * len(self._rates) // CHUNK)
        rates = [np.einsum("tp,tp->p", self._places[:, first[p]], self._rates[:, second[p]]) for p in parts]
        return np.asarray(np.concatenate(rates))


def fitted_rates(n_of_size: Places, positives: Floats) -> Floats:
    """Return the rate [T + 1, n] of each label in rows that have t labels.

    Args:
        n_of_size: Rows that have t labels, [T + 1].
        positives: Rows that have each label, [n]; all of them in (0, N).
    """
    sizes, n_rows = np.arange(len(n_of_size))[:, None], n_of_size.sum()
    odds, row_odds = positives / (n_rows - positives), np.ones((len(n_of_size), 1))
    for _ in range(MOST_STEPS):
        last, row_odds = row_odds, sizes / (odds / (1 + row_odds * odds)).sum(1, keepdims=True)
        odds = positives / (n_of_size[:, None] * row_odds / (1 + row_odds * odds)).sum(0)
        if np.allclose(row_odds, last, CLOSE, 0):
            break
    return np.asarray(row_odds * odds / (1 + row_odds * odds))


def table_by_chance(columns: LabelColumns, margins: str, seed: int) -> LabelColumns:
    """Return a table that chance makes which keeps these margins, as in `StructureOptions`."""
    draws = np.random.default_rng(seed)
    return columns.shuffled(draws) if margins == "columns" else traded(columns, draws)


def traded(columns: LabelColumns, draws: np.random.Generator) -> LabelColumns:
    """Return a table at random with the same margins, and the same entries not observed.

    Rows in pairs trade the labels that only one of them has (the global curveball algorithm, Carstens et al. 2018).
    """
    n = columns.n_labels
    rows, labels = columns.positive.nonzero()
    hidden_rows, hidden_labels = columns.hidden.nonzero()
    rows = rows.astype(np.int64)
    for _ in range(TRADES):
        pair = draws.permutation(columns.n_rows) // 2
        entries = np.concatenate([pair[rows] * n + labels, pair[hidden_rows] * n + hidden_labels])
        _, place, count = np.unique(entries, return_inverse=True, return_counts=True)
        free = np.flatnonzero(count[place[: len(rows)]] == 1)
        free = free[np.argsort(pair[rows[free]], kind="stable")]
        rows[free] = rows[free[np.lexsort((draws.random(len(free)), pair[rows[free]]))]]
    positive = csr_matrix((np.ones(len(rows), np.int64), (rows, labels)), shape=columns.positive.shape)
    return LabelColumns(positive, columns.hidden, columns.names, columns.example)
