"""Implications between labels that chance would not make, and the edges that explain the others (ours)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from hierlit.discovery.structure.columns import Floats, Places
from hierlit.discovery.structure.counts import PairCounts, adjusted, cutoff, log_tail

FEWEST = 8
"""Rows in which two labels must be expected together by chance for it to matter that they never are."""
WEAK = np.log(0.3)
"""Log p-value above which an implication is explained by another one, whatever the other children of its parent say."""
FURTHER = np.log(0.01)
"""Of the limit of p-values: what the parent of a label that has another one must stay below."""
IDLE = 0.5
"""p-value from which a label is none of the reasons for a parent: other children explain the parent in its rows too.

These three were chosen on the curated hierarchies of cellcycle_FUN and cellcycle_GO.
"""


@dataclass(frozen=True)
class Implications:
    """Pairs of labels of which the second is 1 wherever the first is, but for the exceptions that are allowed.

    Of labels that imply one another, which a table cannot tell apart, the first stands for all.

    Attributes:
        child: [E], the first label of each pair.
        parent: [E], the second.
        log_p: [E], of chance making as few exceptions (Fisher's exact test).
        q: [E], false discovery rate at which each is let pass.
        log_within: [E], the same among the rows of the other label that explains it best; −∞ without another.
        needed: [E], p-value of the child being no reason for the parent: the parent's other children are as frequent in
            the child's rows as in the parent's others. NaN where there
            are none, or no other implication that might explain it.
        is_edge: [E], whether no other implication explains it.
        stands_for: [n], the first of the labels that each cannot be told from.
        limit: The largest log p-value that was let pass.
        n_tests: Pairs that were tested.
        undecided: [n], pairs of each label without too many exceptions that chance might have made.
        excluded: [X, 2], pairs of labels that are never 1 together, but for the exceptions that are allowed, and no
            pair of which one is implied by one of them.
        log_p_excluded: [X], of chance making as few rows of both.
        q_excluded: [X].
    """

    child: Places
    parent: Places
    log_p: Floats
    q: Floats
    log_within: Floats
    needed: Floats
    is_edge: NDArray[np.bool_]
    stands_for: Places
    limit: float
    n_tests: int
    undecided: Places
    excluded: Places
    log_p_excluded: Floats
    q_excluded: Floats

    def edges(self) -> set[tuple[int, int]]:
        """Return the edges, parent and child."""
        kept = self.is_edge
        return set(zip(self.parent[kept].tolist(), self.child[kept].tolist(), strict=True))

    def families(self) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
        """Return the children of each parent and the parents of each child, ascending."""
        children: dict[int, list[int]] = {}
        parents: dict[int, list[int]] = {}
        for parent, child in sorted(self.edges()):
            children.setdefault(parent, []).append(child)
            parents.setdefault(child, []).append(parent)
        return children, parents


def find_implications(counts: PairCounts, exceptions: float, rate: float) -> Implications:
    """Find them, and pairs that exclude each other.

    Args:
        counts: Of the labels.
        exceptions: Share of a label's rows, in [0, 1), that may lack what it implies.
        rate: False discovery rate over all pairs of labels that are neither always nor never 1, in either order for
            implications.
    """
    varies = (counts.positives > 0) & (counts.negatives > 0)
    pairs = counts.both.tocoo()
    child, parent = pairs.row.astype(np.int64), pairs.col.astype(np.int64)
    kept = (child != parent) & varies[child] & varies[parent]
    child, parent, shared = child[kept], parent[kept], pairs.data[kept]
    support = counts.support(child, parent)
    kept = support - shared <= exceptions * support
    child, parent = child[kept], parent[kept]
    log_p = counts.log_p_implied(child, parent)
    excluded = exclusions(counts, varies, exceptions)
    log_p_excluded = counts.log_p_excluded(*excluded.T)
    n_tests = 3 * int(varies.sum()) * (int(varies.sum()) - 1) // 2
    both = np.concatenate([log_p, log_p_excluded])
    limit, q = cutoff(both, n_tests, rate), adjusted(both, n_tests)
    passed, first = log_p <= limit, log_p_excluded <= limit
    excluded, log_p_excluded, q_excluded = excluded[first], log_p_excluded[first], q[len(log_p) :][first]
    undecided = np.bincount(child[~passed], minlength=len(varies))
    child, parent, log_p, q = child[passed], parent[passed], log_p[passed], q[: len(log_p)][passed]
    stands_for = same_labels(child, parent, len(varies))
    kept = np.flatnonzero((stands_for[child] == child) & (stands_for[parent] == parent))
    kept = kept[np.argsort(child[kept], kind="stable")]
    child, parent = child[kept], parent[kept]
    is_edge, within, needed = explain(counts, child, parent, limit)
    first = broadest(excluded, child, parent, stands_for)
    return Implications(
        child=child,
        parent=parent,
        log_p=log_p[kept],
        q=q[kept],
        log_within=within,
        needed=needed,
        is_edge=is_edge,
        stands_for=stands_for,
        limit=limit,
        n_tests=n_tests,
        undecided=undecided,
        excluded=excluded[first],
        log_p_excluded=log_p_excluded[first],
        q_excluded=q_excluded[first],
    )


def exclusions(counts: PairCounts, varies: NDArray[np.bool_], exceptions: float) -> Places:
    """Return the pairs of labels [X, 2] that are frequent enough and hardly ever 1 together."""
    frequent = np.flatnonzero(varies & (counts.positives**2 * counts.weight > FEWEST * counts.columns.n_rows))
    rate = counts.positives[frequent] / counts.columns.n_rows
    first, second = np.nonzero(np.triu(np.outer(rate, rate) * counts.columns.n_examples > FEWEST, 1))
    first, second = frequent[first], frequent[second]
    shared = counts.shared(first, second)
    kept = shared <= exceptions * np.minimum(counts.support(first, second), counts.support(second, first))
    return np.stack([first[kept], second[kept]], 1)


def broadest(excluded: Places, child: Places, parent: Places, stands_for: Places) -> NDArray[np.bool_]:
    """Return which pairs [X] follow from no other: a label excludes what its parents exclude."""
    pairs = set(map(tuple, excluded.tolist()))
    above: dict[int, list[int]] = {}
    for label, implied in zip(child.tolist(), parent.tolist(), strict=True):
        above.setdefault(label, []).append(implied)

    def follows(first: int, second: int) -> bool:
        lifted = [(upper, second) for upper in above.get(first, [])] + [
            (upper, first) for upper in above.get(second, [])
        ]
        return any((min(pair), max(pair)) in pairs for pair in lifted)

    same = (stands_for[excluded] == excluded).all(1) if len(excluded) else np.zeros(0, bool)
    return np.array([own and not follows(*pair) for own, pair in zip(same, excluded.tolist(), strict=True)], dtype=bool)


def same_labels(child: Places, parent: Places, n_labels: int) -> Places:
    """Return for each label [n] the first of those that imply it and that it implies, directly or by way of others."""
    graph = csr_matrix((np.ones(len(child)), (child, parent)), shape=(n_labels, n_labels))
    component = connected_components(graph, directed=True, connection="strong")[1]
    firsts = np.unique(component, return_index=True)[1]
    return np.asarray(firsts[component])


def explain(
    counts: PairCounts, child: Places, parent: Places, limit: float
) -> tuple[NDArray[np.bool_], Floats, Floats]:
    """Find which implications are edges.

    A label i implies many others: its parents, what these imply, and labels that merely go with them. An implication of
    j is explained by another one, of k, if chance would make it among the rows of k. Those explained best are left out
    one after the other. Evidence that i is needed counts too: in i's rows j has its other children less often than
    elsewhere, as though i had been the reason for j. Where several labels remain, those are left out for which
    i is no reason.

    Args:
        counts: Of the labels.
        child: [E], ascending.
        parent: [E].
        limit: The log p-value that an edge must have.

    Returns:
        Which are edges, log p-values within the rows of the best explanation, and those of not being needed: [E] each.
    """
    is_edge, within, needed = np.zeros(len(child), bool), np.full(len(child), -np.inf), np.full(len(child), np.nan)
    groups = np.split(np.arange(len(child)), np.flatnonzero(np.diff(child)) + 1) if len(child) else []
    tables = [counts.log_p_within(int(child[own[0]]), parent[own], parent[own]) for own in groups]
    for own, table in zip(groups, tables, strict=True):
        np.fill_diagonal(table, -np.inf)
        is_edge[own[unexplained(table, limit)]] = True
    reasons = Reasons(counts, child[is_edge], parent[is_edge])
    is_edge[:] = False
    for own, table in zip(groups, tables, strict=True):
        left = unexplained(table, WEAK)
        if len(left) > 1:
            needed[own[left]] = reasons.needed(child[own[left]], parent[own[left]])
        gain = np.log(np.clip(np.nan_to_num(needed[own[left]], nan=1.0), 1e-300, 1.0))
        table = table[np.ix_(left, left)]
        left = left[unexplained(table + gain[:, None], limit + FURTHER)]
        if len(left) > 1 and (needed[own[left]] >= IDLE).any() and not (needed[own[left]] >= IDLE).all():
            left = left[~(needed[own[left]] >= IDLE)]
        is_edge[own[left]] = True
    for own, table in zip(groups, tables, strict=True):
        others = np.where(is_edge[own][None], table, -np.inf)
        within[own] = others.max(1)
    return is_edge, within, needed


def unexplained(table: Floats, limit: float) -> Places:
    """Return which of the parents [m] remain when those that another explains are left out, the best explained first.

    Args:
        table: Log p-values [m, m] of each among the rows of each other; −∞ on the diagonal.
        limit: Where explanations begin.
    """
    left = np.arange(len(table))
    while len(left) > 1:
        best = table[np.ix_(left, left)].max(1)
        if best.max() <= limit:
            break
        left = np.delete(left, best.argmax())
    return left


class Reasons:
    """Whether a label is a reason for its parent, or the parent's other children are.

    Args:
        counts: Of the labels.
        child: [E], of edges.
        parent: [E].
    """

    def __init__(self, counts: PairCounts, child: Places, parent: Places) -> None:
        self._counts, self._columns = counts, counts.columns.positive.tocsc()
        order = np.argsort(parent, kind="stable")
        self._child, self._parent = child[order], parent[order]
        self._is_own, self._is_covered = (np.zeros(counts.columns.n_rows, bool) for _ in range(2))

    def needed(self, child: Places, parent: Places) -> Floats:
        """p-values [m] of the parent's other children being as frequent in the child's rows as in the parent's others.

        NaN if it has none that neither imply the child nor are implied by it.
        """
        counted = [self._count(*pair) for pair in zip(child.tolist(), parent.tolist(), strict=True)]
        rows, covered, own, own_covered = np.array(counted, dtype=np.int64).reshape(-1, 4).T
        return np.where(covered > 0, np.exp(log_tail(rows, rows - covered, own, own_covered)), np.nan)

    def _count(self, child: int, parent: int) -> tuple[int, int, int, int]:
        """Count the parent's rows, those with another child of it, the child's, and those of these with another."""
        first, last = np.searchsorted(self._parent, [parent, parent + 1])
        others = self._child[first:last]
        others = others[others != child]
        shared, positives = self._counts.shared(np.full(len(others), child), others), self._counts.positives
        others = others[(shared < positives[child]) & (shared < positives[others])]
        if not len(others):
            return 0, 0, 0, 0
        rows, own = self._rows(parent), self._rows(child)
        covered = np.concatenate([self._rows(other) for other in others.tolist()])
        self._is_covered[covered], self._is_own[own] = True, True
        is_covered, is_own = self._is_covered[rows], self._is_own[rows]
        counted = len(rows), int(is_covered.sum()), int(is_own.sum()), int((is_covered & is_own).sum())
        self._is_covered[covered], self._is_own[own] = False, False
        return counted

    def _rows(self, label: int) -> Places:
        first, last = self._columns.indptr[label], self._columns.indptr[label + 1]
        return np.asarray(self._columns.indices[first:last])
