"""What the structure of labels leaves in a folder: tables, a graph, sentences."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hierlit.discovery.structure.structure import LabelStructure
from hierlit.files.atomic import replace_text

LABELS, IMPLICATIONS, FUNCTIONS, RULES = "labels.csv", "implications.csv", "functions.csv", "rules.csv"
HIERARCHY, VIOLATIONS = "hierarchy.csv", "violations.csv"
CHANCE = {
    "columns": "keeps the frequency of each label",
    "both": "keeps the frequency of each label and the number of labels of each row",
}
"""What null models keep."""
MOST_DRAWN = 250
"""Labels of a graph; of more, those that are 1 most often are drawn."""
NARROW = 8
"""Labels of the lowest level up to which their names are horizontal."""
MOST_NAMES = 60
"""Labels up to which each has its name."""


def write_structure(found: LabelStructure, given: pd.DataFrame | None, folder: Path) -> None:
    """Write the tables.

    Args:
        found: What was found.
        given: Violations of a hierarchy that is known, if one is.
        folder: Gets the files.
    """
    tables = {
        LABELS: found.label_table(),
        IMPLICATIONS: found.edge_table(),
        FUNCTIONS: found.function_table(),
        RULES: found.rule_table(),
        HIERARCHY: found.hierarchy_table(),
    }
    violations = [found.violations().assign(hierarchy="found")]
    violations += [] if given is None else [given.assign(hierarchy="given")]
    if any(map(len, violations)):
        tables[VIOLATIONS] = pd.concat([own for own in violations if len(own)], ignore_index=True)
    for name, table in tables.items():
        replace_text(folder / name, table.to_csv(index=False))


def sentences(found: LabelStructure) -> list[str]:
    """Return what was found, and what the table leaves open."""
    implied, labels = found.implications, found.label_table()
    kept = [own for own in found.readings if own.is_kept]
    said = [
        f"{len(implied.child)} implications between labels, {int(implied.is_edge.sum())} of which no other explains, "
        f"and {len(implied.excluded)} exclusions",
        f"{len(kept)} of {found.columns.n_labels} labels are a function of others, up to level {max(found.levels)}",
    ]
    if found.rules:
        said.append(f"{len(found.rules)} rules of three labels, in {RULES}")
    open_questions = {
        "labels have the column of another": int((labels["same_as"] != "").sum()),
        "functions can be read the other way as well": sum(own.is_reversible for own in kept),
        "labels never vary": int((labels["note"] != "").sum()),
        "implications without exception may be chance": int(labels["undecided_implications"].sum()),
    }
    told = [f"{number} {text}" for text, number in open_questions.items() if number]
    if told:
        said.append("the table cannot decide: " + ", ".join(told))
    said.append(f"p-values of implications and exclusions are of chance that {CHANCE[found.options.margins]}")
    if found.null is not None:
        said.append("made by such chance: " + ", ".join(f"{number} {what}" for what, number in found.null.items()))
    if found.options.margins == "both":
        said.append(f"functions and rules are tested against chance that {CHANCE['columns']} alone")
    return said


def summary_tables(found: LabelStructure) -> dict[str, pd.DataFrame]:
    """Return functions that are kept, edges and rules, as a report shows them."""
    functions, edges = found.function_table(), found.edge_table()
    shown = ["label", "kind", "function", "degree", "norm", "exceptions", "left_out_exceptions", "p", "is_reversible"]
    of_edge = ["label", "other", "support", "exceptions", "found_in_resamples", "left_out_exceptions", "q"]
    edges = edges[edges["is_edge"]].sort_values("q", kind="stable")
    tables = {
        "functions of labels": functions.loc[functions["is_kept"], shown],
        "labels that imply others": edges[of_edge],
        "rules of three labels": found.rule_table(),
    }
    return {title: table.head(MOST_DRAWN) for title, table in tables.items() if len(table)}


def draw_structure(found: LabelStructure) -> Figure:
    """Draw labels as a graph: grey from a label up to what it implies, blue from a label to functions of it.

    A label stands above those that imply it or that it is a function of.
    """
    graph = nx.DiGraph()
    functions = {(parent, own.label) for own in found.readings if own.is_kept for parent in own.parents}
    graph.add_edges_from(sorted(functions))
    for parent, child in sorted(found.implications.edges()):
        if {(parent, child), (child, parent)} & functions:
            continue
        if not (graph.has_node(parent) and graph.has_node(child) and nx.has_path(graph, parent, child)):
            graph.add_edge(child, parent)
    frequent = sorted(graph, key=lambda label: -int(found.counts.positives[label]))[:MOST_DRAWN]
    graph = graph.subgraph(frequent)
    layers = [sorted(labels) for labels in nx.topological_generations(graph)]
    places = places_of(graph, layers)
    widest = len(layers[0]) if layers else 1
    size = min(max(5.0, 0.35 * widest), 16.0), min(2 + 1.3 * max(1, len(layers)), 9.0)
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    colours = ["C0" if edge in functions else "0.6" for edge in graph.edges]
    nx.draw_networkx_edges(graph, places, ax=axes, edge_color=colours, width=0.8, arrowsize=6, node_size=40)
    nx.draw_networkx_nodes(graph, places, ax=axes, node_size=40, node_color="0.25")
    if len(graph) <= MOST_NAMES:
        for label in graph:
            is_lowest = label in layers[0]
            axes.annotate(
                found.names[label],
                places[label],
                (0, -6 if is_lowest else 6),
                textcoords="offset points",
                ha="center",
                va="top" if is_lowest else "bottom",
                rotation=90 if is_lowest and widest > NARROW else 0,
                fontsize=7,
            )
    axes.set_title("blue: is read by the function above; grey: implies the label above", fontsize=8)
    axes.margins(0.04, 0.2)
    axes.set_axis_off()
    return figure


def places_of(graph: nx.DiGraph, layers: list[list[int]]) -> dict[int, tuple[float, float]]:
    """Return places of labels: those of the lowest layer side by side, others above the middle of what is below them.

    The lowest are in the order in which a walk down from the top comes by.
    """
    walk: dict[int, None] = {}
    for top in (label for layer in reversed(layers) for label in layer if label not in walk):
        walk.update(dict.fromkeys(nx.dfs_preorder_nodes(graph.reverse(copy=False), top)))
    order = {label: number for number, label in enumerate(walk)}
    places: dict[int, tuple[float, float]] = {}
    for height, layer in enumerate(layers):
        middle = {
            label: float(np.mean([places[below][0] for below in graph.predecessors(label)] or [0.0])) for label in layer
        }
        left = -np.inf
        for number, label in enumerate(sorted(layer, key=lambda label: (middle[label], order[label]))):
            left = max(left + 0.8, middle[label]) if height else float(number)
            places[label] = left, float(height)
    return places
