"""Hierarchies that come with labels: slash paths, or edges of a directed acyclic graph. No model reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import accumulate
from pathlib import Path

from hierlit.data.tables.csv_file import CsvFile
from hierlit.data.tables.table_file import Reading, TableError, TableFile, composed, read_error
from hierlit.data.tables.text_file import ERRORS, open_text
from hierlit.models.checks import listed

SLASH = "/"
ROOTS = frozenset({"root", *(f"GO{mark}{term}" for mark in ("", ":") for term in ("0003674", "0005575", "0008150"))})
"""Classes that every row has, and no label stands for: CLUS's root, and those of the Gene Ontology's three parts."""


class LabelHierarchy:
    """Labels with their parents.

    Args:
        parents: Names of the parents of each label, by its name, roots left out.

    Attributes:
        names: Of the labels, in order.
        parents: Indices of each label's parents.
        lineages: Each label with its ancestors.
        depths: The longest way to each label from the top, whose labels have depth 1.
        is_graph: Whether labels are terms of a graph, which a row names as such, or else paths.

    Raises:
        ValueError: If a label is among its own ancestors.
    """

    def __init__(self, parents: dict[str, list[str]], is_graph: bool) -> None:
        self.names, self.is_graph = list(parents), is_graph
        self.places = {name: place for place, name in enumerate(self.names)}
        self.parents = [[self.places[parent] for parent in parents[name]] for name in self.names]
        try:
            order = list(TopologicalSorter(dict(enumerate(self.parents))).static_order())
        except CycleError as error:
            cycle = SLASH.join(self.names[place] for place in error.args[1])
            raise ValueError(f"a hierarchy must have no cycle, got {cycle}") from error
        self.lineages: list[frozenset[int]] = [frozenset()] * len(self.names)
        self.depths = [0] * len(self.names)
        for label in order:
            above = self.parents[label]
            self.lineages[label] = frozenset({label}).union(*(self.lineages[parent] for parent in above))
            self.depths[label] = 1 + max((self.depths[parent] for parent in above), default=0)

    @classmethod
    def of_paths(cls, paths: Iterable[str]) -> LabelHierarchy:
        """Return the hierarchy of slash paths and of all the paths that they begin with, each after its parent.

        Raises:
            ValueError: If a path has an empty part.
        """
        parents: dict[str, list[str]] = {}
        for path in paths:
            names = beginnings(path)
            for above, name in zip(["", *names], names, strict=False):
                parents.setdefault(name, [above] if above else [])
        return cls(parents, is_graph=False)

    @classmethod
    def of_edges(cls, edges: Iterable[Sequence[str]]) -> LabelHierarchy:
        """Return the graph of edges, each a parent and its child, or one term.

        Raises:
            ValueError: If edges go in a circle.
        """
        parents: dict[str, list[str]] = {}
        for terms in edges:
            kept = [term for term in terms if term not in ROOTS]
            for term in kept:
                parents.setdefault(term, [])
            if len(kept) == 2 and kept[0] not in parents[kept[1]]:
                parents[kept[1]].append(kept[0])
        return cls(parents, is_graph=True)

    def among(self, names: Sequence[str]) -> LabelHierarchy:
        """Return the hierarchy of labels in their own order; those that it does not have are at its top.

        Raises:
            ValueError: If it has a label that is none of these.
        """
        if others := [name for name in self.names if name not in set(names)]:
            known = f"labels are {listed(names)}"
            raise ValueError(f"hierarchy_file must have edges between labels, got {others[0]!r}; {known}")
        above = {
            name: [self.names[parent] for parent in own] for name, own in zip(self.names, self.parents, strict=True)
        }
        return LabelHierarchy({name: above.get(name, []) for name in names}, self.is_graph)

    @classmethod
    def of_entries(cls, entries: Sequence[str]) -> LabelHierarchy:
        """Return the hierarchy of an ARFF header.

        It lists edges if every entry has two parts, no part is its own parent, and a parent is a root or has a parent.
        """
        pairs = [tuple(entry.split(SLASH)) for entry in entries]
        if all(len(pair) == 2 and pair[0] != pair[1] for pair in pairs):
            children = {pair[1] for pair in pairs}
            if any(pair[0] in ROOTS or pair[0] in children for pair in pairs):
                return cls.of_edges(map(edge_terms, entries))
        return cls.of_paths(entries)

    def lineage(self, label: str) -> tuple[frozenset[int], bool]:
        """Return the indices of a row's label and its ancestors, and whether it is known; a root has none.

        Of a path that is not known, those ancestors that are.

        Raises:
            ValueError: If it is a path with an empty part.
        """
        if self.is_graph:
            known = self.places.get(label)
            return (frozenset(), label in ROOTS) if known is None else (self.lineages[known], True)
        names = beginnings(label)
        places = [self.places[name] for name in names if name in self.places]
        return frozenset(places), len(places) == len(names)


def beginnings(path: str) -> list[str]:
    """Return the slash paths that one begins with, and itself, without a root.

    Raises:
        ValueError: If it has an empty part.
    """
    parts = [part.strip() for part in composed(path).split(SLASH)]
    if not all(parts):
        raise ValueError(f"a path must have no empty part, got {path!r}")
    return list(accumulate(parts[1:] if parts[0] in ROOTS else parts, lambda above, part: f"{above}{SLASH}{part}"))


def edge_terms(edge: str) -> list[str]:
    """Return the terms of an edge, a parent and its child, or one term.

    Raises:
        ValueError: If there are more, or one is empty.
    """
    terms = [term.strip() for term in composed(edge).split(SLASH)]
    if len(terms) > 2 or not all(terms):
        raise ValueError(f"an edge must be parent/child, got {edge!r}")
    return terms


def read_edges(path: Path, encoding: str) -> LabelHierarchy:
    """Read the graph of a CSV or TSV file with columns parent and child, or of a text file with lines parent/child.

    In a text file blank lines and those of a `#` are ignored.

    Raises:
        ValueError: If the file cannot be read, or is no such graph; one line names the file and the line.
    """
    where = str(path)
    try:
        if path.suffix.lower() in (".csv", ".tsv"):
            return LabelHierarchy.of_edges(read_pairs(path, encoding))
        edges = []
        with open_text(path, encoding) as file:
            for number, line in enumerate(file, start=1):
                edge, where = line.strip(), f"{path}, line {number}"
                if edge and edge[0] != "#":
                    edges.append(edge_terms(edge))
        where = str(path)
        if edges:
            return LabelHierarchy.of_edges(edges)
    except ERRORS as error:
        raise read_error(path, error) from error
    except TableError:
        raise
    except ValueError as error:
        raise TableError(f"{where}: {error}") from error
    raise TableError(f"{path} is empty")


def read_pairs(path: Path, encoding: str) -> list[list[str]]:
    """Read the edges of a CSV or TSV file.

    Raises:
        ValueError: If it has no columns parent and child, or no edge, or one lacks a name.
    """
    file, edges = CsvFile(path, Reading(encoding=encoding)), []
    if not {"parent", "child"} <= set(file.names):
        raise TableError(f"{path}: it must have columns parent and child, got {', '.join(file.names)}")
    places = [file.names.index(name) for name in ("parent", "child")]
    for line, values in file.complete():
        edges.append([composed(values[place].strip()) for place in places])
        if not all(edges[-1]):
            raise TableError(f"{path}, line {line}: each line must have a parent and a child")
    if not edges:
        raise TableError(f"{path}: it has no edge")
    return edges


def find_hierarchy(
    edges_file: str | None, encoding: str, column: str, files: Sequence[TableFile]
) -> LabelHierarchy | None:
    """Hierarchy of a column of labels that a file of edges lists, or the headers of files; None if none does.

    Raises:
        TableError: If it is no hierarchy; one line names the file.
    """
    if edges_file is not None:
        return read_edges(Path(edges_file), encoding)
    declaring = [file for file in files if file.path_column == column]
    for file in declaring:
        try:
            LabelHierarchy.of_entries(file.classes)
        except ValueError as error:
            raise TableError(f"{file.path}, line {file.classes_line}, column {column!r}: {error}") from error
    entries = dict.fromkeys(entry for file in declaring for entry in file.classes)
    return LabelHierarchy.of_entries(list(entries)) if entries else None
