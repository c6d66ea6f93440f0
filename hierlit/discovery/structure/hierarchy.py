"""A label table beside a hierarchy of its labels: which rows violate it, and which of its edges were found."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd

from hierlit.discovery.agreement import Share
from hierlit.discovery.structure.columns import LabelColumns
from hierlit.discovery.structure.counts import PairCounts

FEWEST_POSITIVES = 10
"""Rows in which labels of an edge must be 1 for it to be judged whether it was found."""


def violations(labels: Any, edges: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """List the rows that have a label without its parent, e.g. 01/01/03 without 01/01.

    Args:
        labels: As `label_structure` takes them, or `LabelColumns`.
        edges: Names of parent and child. Edges of labels that the table does not have are left out.

    Returns:
        A row each: `row`, the number of the example, from 0 in a table; `label`; `lacks`, the parent that is −1 there.
    """
    columns = labels if isinstance(labels, LabelColumns) else LabelColumns.of(labels)
    place = {name: number for number, name in enumerate(columns.names)}
    positive, observed = columns.positive.tocsc(), (columns.positive + columns.hidden).tocsc()
    found = []
    for parent, child in edges:
        if parent in place and child in place:
            has = positive[:, [place[child]]]
            rows = (has - has.multiply(observed[:, [place[parent]]])).nonzero()[0]
            found += [(row, child, parent) for row in np.unique(columns.example[rows]).tolist()]
    return pd.DataFrame(sorted(found), columns=["row", "label", "lacks"])


@dataclass(frozen=True)
class EdgesFound:
    """How edges that were found agree with those of a known hierarchy, of which the search knew nothing.

    Edges are those of the transitive reduction, between labels of `FEWEST_POSITIVES` rows or more. Labels with equal
    columns are one label, and what a table cannot show is counted apart.

    Attributes:
        precision: Edges found that are known.
        recall: Known edges that were found.
        lineage: Edges found that lead from an ancestor.
        between_equal: Known edges between labels whose columns are equal.
        from_constant: Known edges from a label that is 1 in all rows, which everything implies.
        violations: Rows that have a label without its parent in the known hierarchy, as `violations` lists them.
    """

    precision: Share
    recall: Share
    lineage: Share
    between_equal: int
    from_constant: int
    violations: pd.DataFrame

    @classmethod
    def of(
        cls,
        counts: PairCounts,
        stands_for: Sequence[int],
        found: Collection[tuple[int, int]],
        known: Collection[tuple[int, int]],
    ) -> EdgesFound:
        """Compare edges, parent and child by number.

        Args:
            counts: Of the labels.
            stands_for: For each label the first of those with an equal column.
            found: Edges found.
            known: Edges of the hierarchy.

        Raises:
            ValueError: If the hierarchy has a cycle.
        """
        frequent = counts.positives >= FEWEST_POSITIVES
        constant = counts.negatives == 0
        merged = {(int(stands_for[p]), int(stands_for[c])) for p, c in known if stands_for[p] != stands_for[c]}
        graph = nx.DiGraph(sorted(merged))
        if not nx.is_directed_acyclic_graph(graph):
            raise ValueError("the known hierarchy must have no cycle once labels with equal columns are one")

        def judged(edges: Collection[tuple[int, int]]) -> set[tuple[int, int]]:
            return {(p, c) for p, c in edges if frequent[p] and frequent[c]}

        reduced = judged(nx.transitive_reduction(graph).edges)
        possible = {(p, c) for p, c in reduced if not constant[p]}
        own = judged(found)
        above = {(p, c) for p, c in own if p in graph and c in graph and nx.has_path(graph, p, c)}
        return cls(
            Share(len(own & possible), len(own)),
            Share(len(own & possible), len(possible)),
            Share(len(above), len(own)),
            sum(bool(stands_for[p] == stands_for[c] and frequent[p] and frequent[c]) for p, c in known),
            len(reduced - possible),
            violations(counts.columns, [(counts.columns.names[p], counts.columns.names[c]) for p, c in known]),
        )

    def sentences(self) -> list[str]:
        """Return what there is to say."""
        said = [
            f"of the implications that are edges, known: {self.precision}",
            f"of them, from an ancestor: {self.lineage}",
            f"known edges found: {self.recall}",
        ]
        if len(self.violations):
            n_rows = self.violations["row"].nunique()
            said.append(f"rows that have a label without its known parent: {n_rows}, listed in violations.csv")
        if self.between_equal:
            said.append(f"known edges between labels with equal columns, not counted: {self.between_equal}")
        if self.from_constant:
            said.append(f"known edges from a label that is always 1, not counted: {self.from_constant}")
        return said
