"""The whole search: levels, parents, null models, agreement."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hierlit.data.base import HierarchyDataModule, names_of
from hierlit.data.supervision import Supervision
from hierlit.data.tables import LabelTable
from hierlit.discovery.agreement import Agreement, Hierarchy
from hierlit.discovery.levels import Levels, find_levels
from hierlit.discovery.options import DiscoverOptions
from hierlit.discovery.parents import Edges, find_parents
from hierlit.discovery.rows import LabelledRows
from hierlit.discovery.significance import median_interval
from hierlit.discovery.structure import EdgesFound, LabelStructure
from hierlit.discovery.structure.structure import search_structure
from hierlit.models.proximity import Proximity


@dataclass(frozen=True)
class Discovery:
    """What a search found.

    Attributes:
        names: Of the labels; y0, y1, … where they have none.
        n_rows: Rows searched.
        levels: Of the labels.
        edges: Between them.
        null_levels: Labels found predictable with whole label rows permuted against the inputs; None if not tried.
        null_edges: Edges found with each label permuted by itself.
        known: The hierarchy that is known, if one is.
        agreement: With it.
        seconds: It took.
    """

    names: list[str]
    n_rows: int
    levels: Levels
    edges: Edges
    null_levels: int | None
    null_edges: int | None
    known: Hierarchy | None
    agreement: Agreement | None
    seconds: float

    @property
    def is_exact(self) -> bool | None:
        """Whether it is the known hierarchy, to the last level and edge; None where none is known."""
        if self.known is None or self.agreement is None:
            return None
        return self.agreement.is_exact(sum(level > 0 for level in self.known.levels))

    def level_table(self) -> pd.DataFrame:
        """List for each label its level and interval, shares of variance explained, p-values, parents, known level."""
        level, low, high = median_interval(self.levels.by_seed)
        best = self.levels.explained[:, -1]
        names = np.array(self.names, dtype=object)
        edges = self.edges.pairs()
        table = pd.DataFrame(
            {
                "label": names,
                "level": self.levels.level,
                "level_median": level,
                "level_low": low,
                "level_high": high,
                "explained": np.median(best, 0),
                "explained_low": best.min(0),
                "explained_high": best.max(0),
                "by_block_1": np.median(self.levels.explained[:, 0], 0),
                "by_one_wide_block": np.median(self.levels.one_block, 0),
                "by_parents": np.median(self.edges.explained, 0),
                "p": self.levels.p,
                "q": self.levels.q,
                "is_predictable": self.levels.found,
                "parents": [
                    " ".join(str(names[parent]) for parent, child in sorted(edges) if child == label)
                    for label in range(len(names))
                ],
            }
        )
        return table if self.known is None else table.assign(known_level=self.known.levels)

    def edge_table(self) -> pd.DataFrame:
        """List for each pair of labels that may have an edge what is lost without it, its interval and p-values."""
        names, edges = np.array(self.names, dtype=object), self.edges
        loss, low, high = median_interval(edges.loss)
        table = pd.DataFrame(
            {
                "parent": names[edges.parent],
                "label": names[edges.label],
                "agop_share": edges.reads.mean(0),
                "chosen": edges.chosen.mean(0),
                "lost_without": loss,
                "lost_low": low,
                "lost_high": high,
                "p": edges.p,
                "q": edges.q,
                "is_edge": edges.found,
            }
        )
        if self.known is None or self.known.parents is None:
            return table
        known = self.known.edges(set(range(len(names))))
        pairs = zip(edges.parent.tolist(), edges.label.tolist(), strict=True)
        return table.assign(is_known=[pair in known for pair in pairs])


def discover(data: HierarchyDataModule, options: DiscoverOptions, proximity: Proximity | None = None) -> Discovery:
    """Look for levels and parents in the training and validation rows of a data module.

    Args:
        data: Rows and labels. Its levels and parents are read after the search, to judge it.
        options: How to search.
        proximity: Windows E_g; those of the data's grid when None.

    Raises:
        ValueError: If there are too few rows.
    """
    start = time.perf_counter()
    rows = LabelledRows.of(data, proximity, options.n_rows)
    levels = find_levels(rows, options)
    edges = find_parents(rows, levels.level, options)
    null_levels = null_edges = None
    if options.null:
        null_levels = int(find_levels(rows.with_shuffled_rows(data.data_seed), options).found.sum())
        null_edges = int(find_parents(rows.with_shuffled_labels(data.data_seed), levels.level, options).found.sum())
    source, names = named_source(data)
    known = Hierarchy.of(source)
    agreement = None if known is None else Agreement.of(known, levels.level, edges.pairs(), levels.by_seed.mean(0))
    seconds = time.perf_counter() - start
    n_rows = len(rows.inputs)
    return Discovery(names, n_rows, levels, edges, null_levels, null_edges, known, agreement, seconds)


def discover_structure(
    data: HierarchyDataModule, options: DiscoverOptions, proximity: Proximity | None = None
) -> tuple[LabelStructure, EdgesFound | None]:
    """Look for what labels say of one another in the training and validation rows of a data module.

    Args:
        data: Labels; inputs are not read. Its parents are read after the search, to judge it.
        options: How to search: `n_rows` and `structure`.
        proximity: Windows whose labels a function may read; those of the data's grid when None.

    Returns:
        What was found, and how its edges agree with parents that are known; None if none are.

    Raises:
        ValueError: If there are too few rows.
    """
    source, names = named_source(data)
    rows = LabelledRows.of(data, proximity, options.n_rows)
    columns, windows = rows.columns(names, source.row_numbers if isinstance(source, LabelTable) else None)
    found = search_structure(columns, options.structure, windows)
    known = Hierarchy.of(source)
    if known is None or known.parents is None or not isinstance(source, LabelTable):
        return found, None
    # people's hierarchies are unions: a parent is implied by its children
    edges = known.edges(set(range(columns.n_labels)))
    stands_for = found.implications.stands_for.tolist()
    return found, EdgesFound.of(found.counts, stands_for, found.implications.edges(), edges)


def named_source(data: HierarchyDataModule) -> tuple[HierarchyDataModule, list[str]]:
    """Return the data whose hierarchy a search is judged by, and the names of its labels."""
    source = data.data if isinstance(data, Supervision) and not (data.n_added or data.shuffle_labels) else data
    return source, names_of(source, source.n_labels)
