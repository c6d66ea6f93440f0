"""What the structure of labels leaves in a folder: tables, a graph, sentences."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import networkx as nx
import pandas as pd
from matplotlib.figure import Figure

from hierlit.discovery.structure.structure import LabelStructure
from hierlit.files.atomic import replace_text

LABELS, IMPLICATIONS, FUNCTIONS = "labels.csv", "implications.csv", "functions.csv"
HIERARCHY, VIOLATIONS = "hierarchy.csv", "violations.csv"
MOST_DRAWN = 250
"""Labels of a graph; of more, those that are 1 most often are drawn."""
MOST_NAMES = 60
"""Labels up to which each has its name."""


def write_structure(found: LabelStructure, folder: Path) -> None:
    """Write the tables.

    Args:
        found: What was found.
        folder: Gets the files.
    """
    tables = {
        LABELS: found.label_table(),
        IMPLICATIONS: found.edge_table(),
        FUNCTIONS: found.function_table(),
        HIERARCHY: found.hierarchy_table(),
    }
    if len(exceptions := found.violations()):
        tables[VIOLATIONS] = exceptions
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
    open_questions = {
        "labels have the column of another": int((labels["same_as"] != "").sum()),
        "functions can be read the other way as well": sum(own.is_reversible for own in kept),
        "labels never vary": int((labels["note"] != "").sum()),
        "implications without exception may be chance": int(labels["undecided_implications"].sum()),
    }
    told = [f"{number} {text}" for text, number in open_questions.items() if number]
    if told:
        said.append("the table cannot decide: " + ", ".join(told))
    if found.null is not None:
        said.append("with shuffled columns: {} implications, {} exclusions, {} functions".format(*found.null))
    return said


def summary_tables(found: LabelStructure) -> list[pd.DataFrame]:
    """Return functions that are kept and edges, as a report shows them."""
    functions, edges = found.function_table(), found.edge_table()
    shown = ["label", "kind", "function", "exceptions", "left_out_exceptions", "p", "is_reversible"]
    of_edge = ["label", "other", "support", "exceptions", "found_in_resamples", "left_out_exceptions", "q"]
    edges = edges[edges["is_edge"]].sort_values("q", kind="stable")
    return [functions.loc[functions["is_kept"], shown].head(MOST_DRAWN), edges[of_edge].head(MOST_DRAWN)]


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
    for layer, labels in enumerate(nx.topological_generations(graph)):
        for label in labels:
            graph.nodes[label]["layer"] = layer
    places = nx.multipartite_layout(graph, subset_key="layer", align="horizontal") if len(graph) else {}
    n_layers = 1 + max((graph.nodes[label]["layer"] for label in graph), default=0)
    figure, axes = plt.subplots(
        figsize=(12 if len(graph) > 20 else 7, min(2 + 1.2 * n_layers, 9)), layout="constrained"
    )
    colours = ["C0" if edge in functions else "0.6" for edge in graph.edges]
    nx.draw_networkx_edges(graph, places, ax=axes, edge_color=colours, width=0.8, arrowsize=6, node_size=40)
    nx.draw_networkx_nodes(graph, places, ax=axes, node_size=40, node_color="0.25")
    if len(graph) <= MOST_NAMES:
        above = {label: (x, y + 0.04) for label, (x, y) in places.items()}
        names = {label: found.names[label] for label in graph}
        nx.draw_networkx_labels(graph, above, names, ax=axes, font_size=7)
    axes.set_title("blue: is read by the function above; grey: implies the label above", fontsize=8)
    axes.margins(0.08, 0.12)
    axes.set_axis_off()
    return figure
