"""What labels say of one another: implications, exclusions, functions, levels."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd

from hierlit.discovery.structure.columns import LabelColumns, Places
from hierlit.discovery.structure.counts import PairCounts
from hierlit.discovery.structure.evidence import Evidence, resample
from hierlit.discovery.structure.groups import one_of_groups
from hierlit.discovery.structure.hierarchy import violations
from hierlit.discovery.structure.implications import Implications, find_implications
from hierlit.discovery.structure.levels import Reading, choose, levels_of, longest_ways
from hierlit.discovery.structure.margins import table_by_chance
from hierlit.discovery.structure.options import StructureOptions
from hierlit.discovery.structure.rules import Rule, find_rules
from hierlit.discovery.structure.variables import MOST_LABELS, Variables


@dataclass(frozen=True)
class LabelStructure:
    """What was found in a table of labels.

    Attributes:
        columns: The labels.
        options: How it was searched.
        counts: Of label pairs.
        implications: Between labels, and exclusions.
        evidence: Of each implication.
        readings: Functions that explain labels, kept or not.
        rules: Of three labels; None if there are too many labels to look for them.
        groups: Sets of labels of which each row has exactly one.
        variable_names: Of what functions read.
        null: What was found in a table that chance made, as `found` counts it; None if not tried.
        seconds: It took.
    """

    columns: LabelColumns
    options: StructureOptions
    counts: PairCounts
    implications: Implications
    evidence: Evidence
    readings: list[Reading]
    rules: list[Rule] | None
    groups: list[list[int]]
    variable_names: list[str]
    null: dict[str, int] | None = None
    seconds: float = field(default=0.0, compare=False)

    def __repr__(self) -> str:
        found = ", ".join(f"{count:,} {what}" for what, count in self.found.items())
        return f"LabelStructure({self.columns.n_labels:,} labels: {found})"

    @property
    def names(self) -> list[str]:
        """Of the labels."""
        return self.columns.names

    @property
    def found(self) -> dict[str, int]:
        """How many implications, exclusions, labels with a function, and rules, if looked for, were found."""
        found = {
            "implications": len(self.implications.child),
            "exclusions": len(self.implications.excluded),
            "functions": len({own.label for own in self.readings}),
        }
        return found if self.rules is None else {**found, "rules": len(self.rules)}

    @property
    def edges(self) -> list[tuple[str, str]]:
        """Names of the parent and the child of each edge, as `HierarchicalClassifier(hierarchy=…)` takes them."""
        return [(self.names[parent], self.names[child]) for parent, child in sorted(self.implications.edges())]

    @property
    def levels(self) -> list[int]:
        """Level of each label by its function (definition 3.1); that of the first for labels that are the same."""
        own = levels_of(self.readings, self.columns.n_labels)
        return [own[label] for label in self.implications.stands_for]

    @property
    def depths(self) -> list[int]:
        """Number of labels on the longest way down to each through the edges; 1 for one that implies nothing."""
        graph = nx.DiGraph(sorted(self.implications.edges()))
        graph.add_nodes_from(range(self.columns.n_labels))
        own = longest_ways(graph, self.columns.n_labels)
        return [own[label] for label in self.implications.stands_for]

    def edge_table(self) -> pd.DataFrame:
        """List implications (`is_edge` for those that no other explains) and exclusions with their evidence."""
        names, found = np.array(self.names, dtype=object), self.implications
        support = self.counts.support(found.child, found.parent)
        first, second = found.excluded.T
        of_first = self.counts.support(first, second)
        implied = pd.DataFrame(
            {
                "label": names[found.child],
                "relation": "implies",
                "other": names[found.parent],
                "is_edge": found.is_edge,
                "support": support,
                "exceptions": support - self.counts.shared(found.child, found.parent),
                "found_in_resamples": self.evidence.frequency,
                "left_out_support": self.evidence.support,
                "left_out_exceptions": self.evidence.exceptions,
                "left_out_effect": self.evidence.effect,
                "p_within_best_other": np.exp(found.log_within),
                "p_not_needed": found.needed,
            }
        )
        excluded = pd.DataFrame(
            {
                "label": names[first],
                "relation": "excludes",
                "other": names[second],
                "is_edge": False,
                "support": of_first,
                "exceptions": self.counts.shared(first, second),
            }
        )
        table = pd.concat([implied, excluded] if len(excluded) else [implied], ignore_index=True)
        table["p"] = np.exp(np.concatenate([found.log_p, found.log_p_excluded]))
        table["q"] = np.concatenate([found.q, found.q_excluded])
        table["margins"] = self.options.margins
        return table

    def function_table(self) -> pd.DataFrame:
        """List the functions that explain labels, those kept first."""
        rows = [
            {
                "label": self.names[own.label],
                "kind": own.explanation.function.kind,
                "function": own.explanation.function.text(self.variable_names.__getitem__),
                "n_variables": len(own.explanation.function.variables),
                **dict(zip(("degree", "norm"), own.explanation.function.constants, strict=True)),
                "exceptions": own.explanation.exceptions,
                "rows": own.explanation.rows,
                "left_out_exceptions": own.explanation.held_exceptions,
                "left_out_rows": own.explanation.held_rows,
                "bits_saved": own.explanation.bits,
                "p": min(1.0, 2.0**-own.explanation.bits),
                "is_reversible": own.is_reversible,
                "is_kept": own.is_kept,
                "why_not": own.reason,
            }
            for own in sorted(self.readings, key=lambda own: (not own.is_kept, own.label))
        ]
        return pd.DataFrame(rows, columns=FUNCTION_COLUMNS)

    def rule_table(self) -> pd.DataFrame:
        """List rules of three labels, the surest first."""
        rules = self.rules or []
        rows = [(own.text(self.names), own.support, own.exceptions, np.exp(own.log_p), own.q) for own in rules]
        return pd.DataFrame(rows, columns=["rule", "support", "exceptions", "p", "q"])

    def label_table(self) -> pd.DataFrame:
        """List for each label its counts, level, depth, function, parents and what the table cannot decide of it."""
        names, found, counts = np.array(self.names, dtype=object), self.implications, self.counts
        kept = {own.label: own for own in self.readings if own.is_kept}
        children, parents = found.families()
        covered = np.full(len(names), np.nan)
        for parent, own in children.items():
            rows = self.columns.positive[:, [parent]].multiply(self.columns.positive[:, own].sum(1) > 0)
            covered[parent] = rows.sum() / counts.positives[parent]
        group = {label: number for number, own in enumerate(self.groups, 1) for label in own}
        return pd.DataFrame(
            {
                "label": names,
                "positives": counts.positives,
                "negatives": counts.negatives,
                "level": self.levels,
                "depth": self.depths,
                "parents": [" ".join(names[parents.get(label, [])]) for label in range(len(names))],
                "n_children": [len(children.get(label, [])) for label in range(len(names))],
                "covered_by_children": covered,
                "function": [
                    kept[label].explanation.function.text(self.variable_names.__getitem__) if label in kept else ""
                    for label in range(len(names))
                ],
                "is_reversible": [label in kept and kept[label].is_reversible for label in range(len(names))],
                "same_as": np.where(found.stands_for == np.arange(len(names)), "", names[found.stands_for]),
                "one_of_group": [group.get(label, 0) for label in range(len(names))],
                "undecided_implications": found.undecided,
                "note": [note(*own) for own in zip(counts.positives, counts.negatives, strict=True)],
            }
        )

    def hierarchy_table(self) -> pd.DataFrame:
        """List the edges as `hierarchy_file` takes them: columns parent and child."""
        return pd.DataFrame(self.edges, columns=["parent", "child"])

    def violations(self) -> pd.DataFrame:
        """List the exceptions to the edges found: rows that have the child without the parent."""
        return violations(self.columns, self.edges)


FUNCTION_COLUMNS = [
    "label", "kind", "function", "n_variables", "degree", "norm", "exceptions", "rows", "left_out_exceptions",
    "left_out_rows", "bits_saved", "p", "is_reversible", "is_kept", "why_not",
]  # fmt: skip


def note(positives: int, negatives: int) -> str:
    """Return why nothing can be said of a label; empty if something can."""
    if not positives:
        return "never 1" if negatives else "never observed"
    return "" if negatives else "1 wherever observed: every label implies it"


def label_structure(
    labels: Any, options: StructureOptions | None = None, names: list[str] | None = None
) -> LabelStructure:
    """Find what the labels of a table say of one another.

    Args:
        labels: A data frame, an array or tensor [N, n] or [N, |G|, n], or a sparse matrix [N, n], as `LabelColumns.of`
            reads them; or `LabelColumns`.
        options: How to search.
        names: Of the labels, if they are no data frame.

    Raises:
        ValueError: In one line, if they are no labels.
    """
    columns = labels if isinstance(labels, LabelColumns) else LabelColumns.of(labels, names)
    return search_structure(columns, options or StructureOptions())


def search_structure(columns: LabelColumns, options: StructureOptions, windows: Places | None = None) -> LabelStructure:
    """Find what labels say of one another.

    Args:
        columns: The labels.
        options: How to search.
        windows: Rows [R, w] whose labels a function of a row's label may read, −1 for none; its own when None.
    """
    start = time.perf_counter()
    found = search_once(columns, options, windows)
    null = None
    if options.null:
        by_chance = table_by_chance(columns, options.margins, options.seed)
        null = search_once(by_chance, replace(options, resamples=0), windows).found
    return replace(found, null=null, seconds=time.perf_counter() - start)


def search_once(columns: LabelColumns, options: StructureOptions, windows: Places | None) -> LabelStructure:
    """Return what a search of one table finds."""
    counts = PairCounts(columns, options.margins)
    found = find_implications(counts, options.exceptions, options.rate)
    groups = one_of_groups(columns, options.exceptions, counts.weight) if columns.n_labels <= MOST_LABELS else []
    search = Variables(counts, found, groups, options, windows)
    explanations = {label: own for label in search.labels if (own := search.explain(label))}
    readings = choose(explanations, search.label_of, columns.names)
    here = {variable: label for label, variable in enumerate(search.own)}
    functions = {
        own.label: {here[v] for v in own.explanation.function.variables if v in here} for own in readings if own.is_kept
    }
    rules = find_rules(counts, search.labels, options, functions, groups)
    evidence = resample(columns, found.child, found.parent, options)
    return LabelStructure(columns, options, counts, found, evidence, readings, rules, groups, search.names)
