"""Which functions to keep so that labels have levels, and what the table leaves open (ours)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import networkx as nx

from hierlit.discovery.structure.search import Explanation


@dataclass(frozen=True)
class Reading:
    """A function that explains a label, and whether it is the one kept.

    Attributes:
        label: The label.
        explanation: The function and its evidence.
        parents: Labels whose variables it reads.
        is_kept: Whether the label's level follows from it.
        is_reversible: Whether the same relation explains one of its parents too: the table has no direction for it.
        reason: Why it is not kept; empty if it is.
    """

    label: int
    explanation: Explanation
    parents: frozenset[int]
    is_kept: bool
    is_reversible: bool
    reason: str


def choose(
    explanations: Mapping[int, Sequence[Explanation]], label_of: Sequence[int], names: Sequence[str]
) -> list[Reading]:
    """Keep a function a label, so that none is a function of itself.

    Functions of fewer variables come first, and of these counts of labels, then an or or and that negates labels, then
    tables. Where all this is equal, as for the three labels of a parity, the label that is last in the table is
    taken to be the function of the others, and of those which hold as well of the ones that come first: a convention,
    and no evidence.

    Args:
        explanations: The functions that explain each label.
        label_of: The label of each variable.
        names: Of the labels.
    """
    offered = [(label, own) for label, found in explanations.items() for own in found]

    def parents(own: Explanation) -> frozenset[int]:
        return frozenset(label_of[variable] for variable in own.function.variables)

    def kind(offer: tuple[int, Explanation]) -> tuple[int, int, int]:
        label, own = offer
        function = own.function
        strange = 2 if function.at_least is None else int(any(function.negated) and function.kind in ("or", "and"))
        return len(function.variables), strange, -label

    best: dict[tuple[int, int, int], Explanation] = {}
    for offer in sorted(offered, key=lambda offer: -offer[1].bits):
        best.setdefault(kind(offer), offer[1])

    def order(offer: tuple[int, Explanation]) -> tuple[tuple[int, int, int], list[float], float]:
        own = offer[1]
        is_best = holds_as_well(own, best[kind(offer)])
        return kind(offer), sorted(parents(own), reverse=True) if is_best else [math.inf], -own.bits

    relations = {(label, parents(own)) for label, own in offered}
    kept: dict[int, Explanation] = {}
    graph, readings = nx.DiGraph(), []
    for label, own in sorted(offered, key=order):
        above = parents(own)
        through = next(
            (x for x in sorted(above) if graph.has_node(label) and x in graph and nx.has_path(graph, label, x)), None
        )
        reason = f"{names[label]} has a function" if label in kept else ""
        if not reason and through is not None:
            reason = f"{names[through]} is a function of {names[label]}"
        if not reason:
            kept[label] = own
            graph.add_edges_from((parent, label) for parent in above)
        is_reversible = any((x, (above | {label}) - {x}) in relations for x in above)
        readings.append(Reading(label, own, above, not reason, is_reversible, reason))
    return readings


def holds_as_well(own: Explanation, other: Explanation) -> bool:
    """Return whether one function has exceptions as rarely as another, by two standard errors, and half its rows."""
    n, m = own.rows + own.held_rows, other.rows + other.held_rows
    exceptions, others = own.exceptions + own.held_exceptions, other.exceptions + other.held_exceptions
    share = (exceptions + others) / (n + m)
    error = math.sqrt(share * (1 - share) * (1 / n + 1 / m))
    return 2 * n >= m and exceptions / n - others / m <= 2 * error


def levels_of(readings: Sequence[Reading], n_labels: int) -> list[int]:
    """Return the level of each label: 1 for one without a function, otherwise one above the highest of its parents.

    These are the paper's L_i (definition 3.1), read off the labels alone.
    """
    graph = nx.DiGraph()
    graph.add_nodes_from(range(n_labels))
    graph.add_edges_from((parent, own.label) for own in readings if own.is_kept for parent in own.parents)
    return longest_ways(graph, n_labels)


def longest_ways(graph: nx.DiGraph, n_labels: int) -> list[int]:
    """Return the number of labels on the longest way that ends at each, in a graph without cycles."""
    levels = [1] * n_labels
    for label in nx.topological_sort(graph):
        levels[label] = 1 + max((levels[parent] for parent in graph.predecessors(label)), default=0)
    return levels
