"""Why labels are not learned: the causes that `Diagnostics` names, where the true one is known by construction."""

import contextlib
import io
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.table import Row, write
from hierlit.cli import main
from hierlit.data.base import names_of
from hierlit.watching import Diagnostics
from hierlit.watching.diagnostics.causes import BLOCKS, DEPENDS, FEATURES, NOISE, ROWS, UNOBSERVED, WINDOW

BASES = {
    "automaton": "data: {class_path: CellularAutomaton, init_args: {n_levels: 4, n_cells: 32, n_train: 200}}\n"
    "model: {proximity: {class_path: Window1d}, n_blocks: 6, n_features: 400, solver: ExactSolver}",
    "life": "data: {class_path: LifeAutomaton, init_args: {n_levels: 2, rows: 10, columns: 10, n_train: 300}}\n"
    "model: {proximity: {class_path: Window2d, init_args: {rows: 10, columns: 10}}, n_blocks: 4, n_features: 800, "
    "solver: ExactSolver}",
    "juntas": "data: {class_path: JuntaHierarchy, init_args: {n_levels: 3, n_train: 8000}}\n"
    "model: {n_blocks: 6, n_features: 1000, solver: ExactSolver, "
    "features: {class_path: GaussianFeatures, init_args: {beta: 0.3, activation: softplus}}}",
    "thresholds": "data: {class_path: ThresholdHierarchy, init_args: {n_levels: 2, n_train: 10000}}\n"
    "model: {n_blocks: 6, n_features: 1000, solver: ExactSolver}",
    "trees": "data: {class_path: RandomHierarchyModel, init_args: {n_symbols: 4, n_classes: 4, n_synonyms: 2, "
    "n_train: 1500}}\nmodel: {proximity: {class_path: TreeWindows}, n_blocks: 6, n_features: 600, solver: ExactSolver}",
}
CASES = {
    NOISE: {
        "automaton": "--supervision.flip_probability 0.1 --data.n_train 25 --data.n_cells 16",
        "juntas": "--supervision.flip_probability 0.1",
        "thresholds": "--supervision.flip_probability 0.05",
        "trees": "--supervision.flip_probability 0.2 --data.n_train 800",
    },
    FEATURES: {
        "automaton": "--model.n_features 12",
        "juntas": "--model.n_features 40",
        "thresholds": "--model.n_features 40",
        "trees": "--model.n_features 20",
        "life": "--model.n_features 60",
    },
    WINDOW: {
        "automaton": "--model.proximity.size 1",
        "life": "--model.proximity.size 1",
        "trees": "--model.proximity Identity",
    },
    BLOCKS: {
        "automaton": "--model.n_blocks 2",
        "juntas": "--model.n_blocks 1",
        "thresholds": "--model.n_blocks 1",
        "trees": "--model.n_blocks 1",
    },
    ROWS: {
        "juntas": "--data.n_train 250",
        "thresholds": "--data.n_train 400",
        "trees": "--data.n_train 60",
        "automaton": "--data.n_train 3 --data.n_cells 8",
    },
    UNOBSERVED: {
        "automaton": "--supervision.supervised_levels [1,2]",
        "juntas": "--supervision.supervised_levels [1]",
    },
}
QUICK = {"seeds": [0], "hierarchies": ["automaton"]}


def run(
    out: Path,
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    hierarchies: list[str] = list(BASES),  # noqa: B006
) -> list[Row]:
    """Fits hierarchies that lack one thing, and counts the labels for which that, or what waits for it, is the cause.

    Args:
        out: Gets causes.csv, a row for each true cause, hierarchy, seed and cause that was named.
        seeds: Seeds.
        hierarchies: Keys of `BASES`.
    """
    records, rows = [], []
    for truth, cases in CASES.items():
        for hierarchy in [name for name in cases if name in hierarchies]:
            for seed in seeds:
                for cause, count in named(hierarchy, cases[hierarchy], seed).items():
                    known = {"truth": truth, "hierarchy": hierarchy, "seed": seed}
                    records.append({**known, "named": cause, "labels": count})
        own = [record for record in records if record["truth"] == truth]
        total = sum(record["labels"] for record in own)
        right = sum(record["labels"] for record in own if record["named"] == truth)
        if own:
            rows.append(Row("causes", f"{truth}: share named so", right / max(total, 1), note=f"of {total} labels"))
    write(out / "causes.csv", records, ["truth", "hierarchy", "seed", "named"])
    return rows


def named(hierarchy: str, arguments: str, seed: int) -> Counter[str]:
    """Labels by the cause named; a label that waits for another has the other's."""
    quiet = "--trainer.logger false --trainer.enable_checkpointing false --trainer.enable_progress_bar false"
    seeded = f"--data.data_seed {seed} --model.weight_seed {seed} --trainer.enable_model_summary false"
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        quiet += f" --trainer.default_root_dir {folder}"
        config = Path(folder) / "config.yaml"
        config.write_text(BASES[hierarchy])
        cli = main(["fit", "--config", str(config), *f"{quiet} {seeded} {arguments}".split()])
    callback = next(found for found in cli.trainer.callbacks if isinstance(found, Diagnostics))
    causes = {row.label: row for row in callback.unlearned}
    names = names_of(cli.datamodule, cli.datamodule.n_labels)

    def root(label: str) -> str:
        return root(names[causes[label].after[0]]) if causes[label].cause == DEPENDS else causes[label].cause

    return Counter(root(label) for label in causes)
