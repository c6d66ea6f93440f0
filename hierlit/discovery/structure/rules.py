"""Rules of three labels: what is never together although each two of it are (ours)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import product
from math import comb

import numpy as np
from numpy.typing import NDArray

from hierlit.discovery.structure.columns import Places
from hierlit.discovery.structure.counts import Floats, PairCounts, adjusted

MOST_RULED = 100
"""Labels up to which rules are looked for: all sets of three are tried, in all signs."""
MOST_ROWS = 20_000
"""Rows that they are looked for in."""


@dataclass(frozen=True)
class Rule:
    """Three literals, labels or their negations, that are never true together, but for the exceptions that are allowed.

    Attributes:
        labels: Of the literals, ascending.
        signs: Whether each is the label, True, or its negation.
        support: Rows where all labels that are not negated are 1, and the others observed.
        exceptions: Rows where all three literals are true.
        log_p: Of chance leaving as few, in the rows of the literal that explains it best: what follows from two of the
            labels is no rule.
        q: False discovery rate at which it is let pass, over all rules of three labels.
    """

    labels: tuple[int, ...]
    signs: tuple[bool, ...]
    support: int
    exceptions: int
    log_p: float
    q: float

    def text(self, names: list[str]) -> str:
        """Write it, with the names of labels: the premise has the labels that are not negated."""
        premise, conclusion = (
            [names[label] for label, sign in zip(self.labels, self.signs, strict=True) if sign == wanted]
            for wanted in (True, False)
        )
        if not premise:
            return "always " + " or ".join(conclusion)
        if not conclusion:
            return "never " + " and ".join(premise)
        return f"{' and '.join(premise)} {'implies' if len(premise) == 1 else 'imply'} {' or '.join(conclusion)}"


def find_rules(
    counts: PairCounts, labels: list[int], exceptions: float, rate: float, known: Collection[frozenset[int]]
) -> list[Rule]:
    """Find them, the surest first; none of more than `MOST_RULED` labels.

    Args:
        counts: Of the labels.
        labels: Those to look at, which vary and are not the same.
        exceptions: Share of the rows of any two of the literals, in [0, 1), that may have the third.
        rate: False discovery rate.
        known: Sets of labels with a function that says how they hang together; rules of these are left out.
    """
    if not 3 <= len(labels) <= MOST_RULED:
        return []
    stride = -(-counts.columns.n_rows // MOST_ROWS)
    rows = counts.columns.take(np.flatnonzero(counts.columns.example % stride == 0))
    positive, hidden = (matrix[:, labels].toarray() > 0 for matrix in (rows.positive, rows.hidden))
    literals, log_p = rare_triples(counts, np.stack([~positive & ~hidden, positive]), exceptions)
    q, rules = adjusted(log_p, 8 * comb(len(labels), 3)), []
    for number in np.argsort(log_p, kind="stable")[: np.count_nonzero(q <= rate)]:
        places, signs = literals[number, :3], literals[number, 3:] > 0
        own = tuple(labels[place] for place in places)
        if not any(of.issuperset(own) for of in known):
            premise = positive[:, places[signs]].all(1) & ~hidden[:, places].any(1)
            wrong = premise & ~positive[:, places[~signs]].any(1)
            sizes = int(premise.sum()), int(wrong.sum())
            rules.append(Rule(own, tuple(signs.tolist()), *sizes, float(log_p[number]), float(q[number])))
    return rules


def rare_triples(counts: PairCounts, halves: NDArray[np.bool_], exceptions: float) -> tuple[Places, Floats]:
    """Return the triples of literals [T, 6] that have no more exceptions than are allowed, and their log-probabilities.

    Args:
        counts: Of the labels.
        halves: Where labels are negative and where they are positive, [2, R, n].
        exceptions: Share that may be wrong.

    Returns:
        Numbers of three labels, ascending, and their signs, 0 for a negation; log-probabilities [T] of chance.
    """
    counted = halves.astype(np.float32)
    triples, log_p = [np.zeros((0, 6), np.int64)], [np.zeros(0)]
    for first in range(halves.shape[2] - 2):
        second, third = np.triu_indices(halves.shape[2] - first - 1, 1) + np.int64(first + 1)
        cells = cells_of(counted, first)[:, :, :, second, third]
        for signs in product((0, 1), repeat=3):
            own = np.flip(cells, tuple(axis for axis in range(3) if not signs[axis]))
            fewest = np.min([own.sum(axis)[1, 1] for axis in range(3)], axis=0)
            kept = np.flatnonzero(own[1, 1, 1] <= exceptions * fewest)
            log_p.append(np.max([log_p_given(counts, own[..., kept], axis) for axis in range(3)], axis=0))
            same = np.tile((first, *signs), (len(kept), 1))
            triples.append(np.column_stack([same[:, :1], second[kept], third[kept], same[:, 1:]]))
    return np.concatenate(triples), np.concatenate(log_p)


def cells_of(halves: NDArray[np.float32], first: int) -> NDArray[np.float32]:
    """Rows [2, 2, 2, n, n] in which a label, a second and a third one are negative, 0, or positive, 1.

    Args:
        halves: Rows where labels are negative and where they are positive, [2, R, n].
        first: The label.
    """
    own = [half[half_of[:, first] > 0] for half_of in halves for half in halves]
    return np.array([[[one.T @ other for other in pair] for one in pair] for pair in (own[:2], own[2:])])


def log_p_given(counts: PairCounts, cells: NDArray[np.float32], axis: int) -> Floats:
    """Log-probabilities [P] of chance leaving as few rows of all three literals, in the rows of one of them.

    Args:
        counts: Of the labels.
        cells: Rows where each literal is false or true, [2, 2, 2, P].
        axis: Of the literal.
    """
    given = np.moveaxis(cells, axis, 0)[1]
    return counts.tail(given.sum((0, 1)), given[:, 0].sum(0), given[1].sum(0), given[1, 1])
