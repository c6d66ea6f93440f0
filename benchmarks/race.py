"""Levels learned against seconds: layerwise training, and end-to-end training given the seconds that it took.

hierlit's curves are those of the benchmark `depth`, which is run first if its file has none. The baseline is
benchmarks/end_to_end.py, searched and trained anew for each kind of supervision and heads.
"""

import statistics
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

from benchmarks import depth, end_to_end
from benchmarks.table import Row, read
from hierlit.data import CellularAutomaton

SMALL = ["--n_train=60", "--n_val=20", "--widths=16", "--depth_factors=1", "--lrs=3e-3", "--norms=none"]
QUICK = {"case": "quick", "seconds": 2.0, "options": [*SMALL, "--shares=1.0", "--n_best=1"]}
KINDS = {
    "end to end, every level, heads matched to levels": ("all", "matched"),
    "end to end, every level, heads on the last block": ("all", "last"),
    "end to end, last level only": ("last", "last"),
}
Curves = dict[str, tuple[list[float], list[int]]]


def run(
    out: Path,
    case: str = "110-32",
    seconds: float | None = None,
    again: bool = False,
    options: list[str] = [],  # noqa: B006
) -> list[Row]:
    """Trains the baselines for as long as hierlit took to learn its last level, and draws all of them.

    Args:
        out: Has depth.csv, perhaps; gets search.csv, end_to_end.csv and end_to_end.png.
        case: The case of `depth` to race against.
        seconds: Budget of every end-to-end run; hierlit's median when None.
        again: Train the baselines even if end_to_end.csv is there.
        options: More arguments of benchmarks/end_to_end.py.
    """
    automaton = depth.CASES[case]
    if not depth.curves(out, automaton):
        depth.run(out, [case])
    ours = depth.curves(out, automaton)
    layerwise = {setting: (curve.seconds, curve.learned) for setting, curve in ours.items()}
    spent = statistics.median(curve.reached for curve in ours.values())
    reused = (out / "end_to_end.csv").exists() and not again
    if not reused:
        train(out, automaton, spent if seconds is None else seconds, options)
    theirs: dict[str, Curves] = {kind: {} for kind in KINDS}
    for record in read(out / "end_to_end.csv"):
        times, learned = theirs[record["method"]].setdefault(record["setting"], ([0.0], [0]))
        times.append(float(record["seconds"]))
        learned.append(int(record["learned"]))
    _draw(out / "end_to_end.png", automaton, layerwise, theirs)
    levels = statistics.median(max(curve.learned) for curve in ours.values())
    rows = []
    for kind, curves in theirs.items():
        setting, (times, learned) = max(curves.items(), key=lambda curve: curve[1][1][-1])
        note = f"at the end of {times[-1]:.1f} s; most at any check {max(learned)}; {setting}"
        note += "; from the end_to_end.csv of an earlier run" if reused else ""
        if "last level only" in kind:
            rows.append(Row("end_to_end", f"{kind}: learned", learned[-1], "of 1 level", note=note))
            continue
        note += f"; against hierlit's median, reached after {spent:.1f} s"
        ratio = levels / max(1, learned[-1])
        rows.append(Row("end_to_end", f"{kind}: learned", learned[-1], "levels", levels, ratio, note=note))
    return rows


def train(out: Path, case: depth.Case, seconds: float, options: list[str]) -> None:
    """Searches each kind's settings and trains the best of them for the budget, into search.csv and end_to_end.csv."""
    automaton = [f"--rule={case.rule}", f"--n_levels={case.n_levels}", f"--seconds={seconds}"]
    given = end_to_end.parse([*automaton, f"--folder={out}", *options])
    sizes = {"n_cells": given.n_cells, "n_train": given.n_train, "n_val": given.n_val}
    data = CellularAutomaton(given.rule, given.n_levels, **sizes, data_seed=given.seed)
    data.setup()
    searched = end_to_end.Table(out / "search.csv", end_to_end.SEARCH_COLUMNS)
    final = end_to_end.Table(out / "end_to_end.csv", end_to_end.CURVE_COLUMNS)
    for kind, (supervision, heads) in KINDS.items():
        candidates = [setting for setting in end_to_end.grid(supervision, given) if setting.heads == heads]
        ranked, _ = end_to_end.search(data, given.seconds, candidates, given.shares, given.seed, searched)
        for setting in ranked[: given.n_best]:
            for check in end_to_end.train(data, setting, given.seconds, given.seed + 1):
                final.add([kind, setting, f"{check.seconds:.3f}", check.learned])


def _draw(path: Path, case: depth.Case, ours: Curves, theirs: dict[str, Curves]) -> None:
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for number, (method, curves) in enumerate({"hierlit, layerwise": ours, **theirs}.items()):
        for index, (times, learned) in enumerate(curves.values()):
            label = None if index else f"{method} ({len(curves)} runs)"
            axes.plot(times, learned, ".-", color=f"C{number}", label=label, markersize=4, linewidth=1)
    axes.axhline(case.n_levels, color="grey", linestyle=":")
    axes.set(xlabel="seconds of training", ylabel="levels learned", title=case.name)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)
