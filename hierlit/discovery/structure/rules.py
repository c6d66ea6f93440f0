"""Rules of three labels: what is never together although each two of it are (ours)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass
from itertools import product
from math import comb

import numpy as np
from numpy.typing import NDArray

from hierlit.discovery.structure.columns import Floats, Places
from hierlit.discovery.structure.counts import PairCounts, adjusted
from hierlit.discovery.structure.options import StructureOptions

MOST_RULED = 100
"""Labels up to which rules are looked for: all sets of three are tried, in all signs."""


@dataclass(frozen=True)
class Rule:
    """Three literals, labels or their negations, that are never true together, but for the exceptions that are allowed.

    Attributes:
        labels: Of the literals, ascending.
        signs: Whether each is the label, True, or its negation.
        support: Rows where two of the literals are true and the third label is observed: the fewest of any two.
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
    counts: PairCounts,
    labels: list[int],
    options: StructureOptions,
    functions: Mapping[int, Set[int]],
    groups: Collection[Collection[int]],
) -> list[Rule] | None:
    """Find them, the surest first; None for more than `MOST_RULED` labels.

    In long tables they are looked for in some rows. Their support and exceptions are counted in all, and those with too
    many exceptions there are dropped.

    Args:
        counts: Of the labels.
        labels: Those to look at, which vary and are not the same.
        options: How to search; `exceptions` is a share of the rows of any two of the literals.
        functions: Labels that a label is a function of; rules of the label and two of these are left out.
        groups: Sets of labels of which each row has exactly one; rules within a set are left out.
    """
    if len(labels) > MOST_RULED:
        return None
    rows = counts.columns.take(counts.columns.spaced_rows()[0])
    positive, hidden = (matrix[:, labels].toarray() > 0 for matrix in (rows.positive, rows.hidden))
    literals, log_p = rare_triples(counts, np.stack([~positive & ~hidden, positive]), options.exceptions)
    q, rules = adjusted(log_p, 8 * comb(len(labels), 3)), []
    by_label = counts.columns.positive.tocsc(), counts.columns.hidden.tocsc()
    for number in np.argsort(log_p, kind="stable")[: np.count_nonzero(q <= options.rate)]:
        own, signs = tuple(labels[place] for place in literals[number, :3]), literals[number, 3:] > 0
        follows = any(functions.get(label, set()) >= set(own) - {label} for label in own)
        if follows or any(set(own) <= set(group) for group in groups):
            continue
        positive, hidden = (matrix[:, list(own)].toarray() > 0 for matrix in by_label)
        is_true = (positive == signs)[~hidden.any(1)]
        wrong = int(is_true.all(1).sum())
        support = wrong + int((~is_true[is_true.sum(1) == 2]).sum(0).min())
        if wrong <= options.exceptions * support:
            rules.append(Rule(own, tuple(signs.tolist()), support, wrong, float(log_p[number]), float(q[number])))
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


def cells_of(halves: NDArray[np.float32], first: int) -> Floats:
    """Rows [2, 2, 2, n, n] in which a label, a second and a third one are negative, 0, or positive, 1.

    Args:
        halves: Rows where labels are negative and where they are positive, [2, R, n].
        first: The label.
    """
    own = [half[half_of[:, first] > 0] for half_of in halves for half in halves]
    return np.array([[[one.T @ other for other in pair] for one in pair] for pair in (own[:2], own[2:])], dtype=float)


def log_p_given(counts: PairCounts, cells: Floats, axis: int) -> Floats:
    """Log-probabilities [P] of chance leaving as few rows of all three literals, in the rows of one of them.

    Args:
        counts: Of the labels.
        cells: Rows where each literal is false or true, [2, 2, 2, P].
        axis: Of the literal.
    """
    given = np.moveaxis(cells, axis, 0)[1]
    return counts.tail(given.sum((0, 1)), given[:, 0].sum(0), given[1].sum(0), given[1, 1])
