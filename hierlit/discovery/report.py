"""What a discovery leaves in its folder: tables, a drawn graph, an HTML report."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hierlit.discovery.options import DiscoverOptions
from hierlit.discovery.search import Discovery
from hierlit.discovery.structure import EdgesFound, LabelStructure
from hierlit.discovery.structure.report import (
    FUNCTIONS,
    HIERARCHY,
    IMPLICATIONS,
    LABELS,
    RULES,
    draw_structure,
    sentences,
    summary_tables,
    write_structure,
)
from hierlit.experiments.base import Verdict
from hierlit.experiments.report import as_html, render_report, save_figures
from hierlit.files.atomic import replace_text
from hierlit.training.resume import flattened

LEVELS, EDGES = "discovered_levels.csv", "discovered_edges.csv"
MOST_NAMES = 60
"""Labels up to which each has its name in the graph."""
QUESTION = (
    "From rows and labels alone: at which block does each label become predictable, and which simpler labels is it a "
    "function of?"
)

LABEL_QUESTION = "From labels alone: which imply or exclude which, and which are simple functions of few others?"
LABEL_PREDICTION = (
    "In a hierarchy that people have drawn up a parent is the union of its children, so each child implies it. The "
    "search knows nothing of it."
)


def write_discovery(
    found: Discovery | None,
    structure: LabelStructure | None,
    edges_found: EdgesFound | None,
    options: DiscoverOptions,
    command: str,
    folder: Path,
) -> Verdict:
    """Write the tables, the figures as PNG and SVG, and `report.html`.

    Args:
        found: What rows can predict; None if that was not looked at.
        structure: What labels say of one another; None if that was not looked at.
        edges_found: How its edges agree with what is known.
        options: How it was searched.
        command: The command line.
        folder: Gets the files.
    """
    figures: dict[str, Figure] = {}
    tables, set_up = [], []
    judged = Verdict(None, "")
    if found is not None:
        levels, edges = found.level_table(), found.edge_table()
        replace_text(folder / LEVELS, levels.to_csv(index=False))
        replace_text(folder / EDGES, edges.to_csv(index=False))
        figures |= {"graph": draw_graph(found), "curves": draw_curves(found)}
        tables += [levels.drop(columns=["level_median", "p"]), edges[edges["is_edge"]].drop(columns=["p", "is_edge"])]
        judged = verdict(found)
        set_up.append(
            f"{found.n_rows:,} rows, {len(found.names)} labels, {options.seeds} splits, {found.seconds / 60:.1f} "
            f"minutes. All labels are in {LEVELS}, all pairs that may be edges in {EDGES}."
        )
    if structure is not None:
        write_structure(structure, None if edges_found is None else edges_found.violations, folder)
        figures["structure"] = draw_structure(structure)
        tables += summary_tables(structure).values()
        said = sentences(structure) + ([] if edges_found is None else edges_found.sentences())
        judged = Verdict(judged.holds, " ".join(filter(None, [judged.text, "; ".join(said) + "."])))
        set_up.append(
            f"Labels alone: {structure.columns.n_rows:,} rows, {structure.seconds:.0f} seconds; in {LABELS}, "
            f"{IMPLICATIONS}, {FUNCTIONS}, {RULES} and {HIERARCHY}."
        )
    render_report(
        folder,
        name="discover",
        question=QUESTION if found is not None else LABEL_QUESTION,
        prediction=prediction(found) if found is not None else LABEL_PREDICTION,
        options=dict(flattened(asdict(options))),
        figures=save_figures(figures, folder),
        summary="".join(as_html(table, digits=3) for table in tables),
        verdict=judged,
        set_up=" ".join(set_up),
        commands={"The command": [command]},
        failures={},
    )
    return judged


def prediction(found: Discovery) -> str:
    """Return what is known beforehand."""
    if found.known is None:
        return "Nothing is known of the hierarchy. The paper leaves open whether real labels have one."
    return (
        "A hierarchy is known, and was not shown to the search. If labels become predictable in its order, levels and "
        "edges are the known ones; the paper leaves open whether a hierarchy that people have drawn up is of that kind."
    )


def verdict(found: Discovery) -> Verdict:
    """Return what was found, how it agrees with what is known, and what the null models found."""
    level = found.levels.level
    sizes = ", ".join(f"{int((level == number).sum())} at level {number}" for number in range(1, level.max() + 1))
    text = [
        f"{int((level > 0).sum())} of {len(level)} labels are predictable" + (f": {sizes}" if sizes else ""),
        f"{int(found.edges.found.sum())} edges of {len(found.edges.p)} that may be",
        *([] if found.agreement is None else found.agreement.sentences()),
    ]
    is_quiet = True
    if found.null_levels is not None and found.null_edges is not None:
        is_quiet = found.null_levels == 0 and found.null_edges == 0
        text.append(f"the null models found {found.null_levels} labels predictable, and {found.null_edges} edges")
    holds = None if found.is_exact is None else bool(found.is_exact and is_quiet)
    return Verdict(holds if is_quiet else False, "; ".join(text) + ".")


def draw_graph(found: Discovery) -> Figure:
    """Labels, a row a level from the top, and the edges found; labels that are not predictable are left out."""
    level, pairs = found.levels.level, found.edges.pairs()
    places = layout(level, pairs)
    widest = max(np.bincount(level)[1:], default=1)
    size = (min(max(4.0, 0.9 * widest + 1), 16.0), min(1.2 + 1.1 * max(1, level.max()), 10.0))
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    shares = np.median(found.levels.explained[:, -1], 0)
    for parent, label in sorted(pairs):
        (x, y), (to_x, to_y) = places[parent], places[label]
        is_known = found.known is None or found.known.parents is None or parent in found.known.parents[label]
        colour = "0.45" if is_known else "C3"
        axes.plot([x, to_x], [y, to_y], color=colour, linewidth=1, zorder=1)
    shown = np.flatnonzero(level > 0).tolist()
    xs, ys = np.array([places[label] for label in shown]).reshape(-1, 2).T
    points = axes.scatter(xs, ys, c=shares[shown], vmin=0, vmax=1, cmap="viridis", s=90, zorder=2)
    figure.colorbar(points, ax=axes, label="held-out variance explained")
    if len(shown) <= MOST_NAMES:
        for label in shown:
            axes.annotate(
                found.names[label], places[label], (0, 8), textcoords="offset points", ha="center", fontsize=7
            )
    axes.set_yticks(range(1, max(1, level.max()) + 1))
    has_known = found.known is not None and found.known.parents is not None
    axes.set(ylabel="level", xticks=[], xlabel="red: not in the known hierarchy" if has_known else "")
    axes.margins(0.1, 0.15)
    return figure


def layout(level: np.ndarray[Any, np.dtype[np.int64]], pairs: set[tuple[int, int]]) -> dict[int, tuple[float, float]]:
    """Places of labels, by level, each as near as the order allows above the mean of its parents."""
    places: dict[int, tuple[float, float]] = {}
    for number in range(1, int(level.max(initial=0)) + 1):
        own = np.flatnonzero(level == number).tolist()
        means = {
            label: np.mean([places[parent][0] for parent, child in pairs if child == label] or [0.0]) for label in own
        }
        for place, label in enumerate(sorted(own, key=lambda label: (means[label], label))):
            places[label] = (place - (len(own) - 1) / 2, float(number))
    return places


def draw_curves(found: Discovery) -> Figure:
    """Draw how much of each label is explained after each block, coloured by level; dots are the one wide block's."""
    curves, wide = np.median(found.levels.explained, 0), np.median(found.levels.one_block, 0)
    level = found.levels.level
    figure, axes = plt.subplots(figsize=(6.5, 4), layout="constrained")
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.9, max(1, level.max())))
    told = set()
    for label in np.argsort(level, kind="stable"):
        number = int(level[label])
        colour = colours[number - 1] if number else "0.8"
        name = f"level {number}" if number else "not predictable"
        blocks = range(1, len(curves) + 1)
        axes.plot(blocks, curves[:, label], color=colour, linewidth=1, label="" if name in told else name)
        axes.plot([0.6], [wide[label]], "o", color=colour, markersize=3)
        told.add(name)
    axes.set(xlabel="blocks trained (dots: one wide block)", ylabel="held-out variance explained", ylim=(-0.02, 1.02))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=7)
    return figure
