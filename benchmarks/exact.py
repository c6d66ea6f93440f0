"""The exact solver against tuned gradient steps that reach the same certificate, on the quickstart's blocks."""

import statistics
from itertools import product
from pathlib import Path

from benchmarks.runs import Fit, fit
from benchmarks.table import Row, write

QUICK = {
    "n_blocks": 2,
    "minibatch_epochs": [0],
    "batch_sizes": [64],
    "repeats": 1,
    "overrides": ["--data.n_levels=2", "--data.n_train=60", "--model.n_features=100"],
}
EXACT = {
    "exact, λ by label": ["--model.solver=ExactSolver"],
    "exact, the gradient's λ": ["--model.solver=ExactSolver", "--model.solver.alphas=[]"],
}


def run(
    out: Path,
    n_blocks: int = 8,
    minibatch_epochs: list[int] = [0, 5, 20],  # noqa: B006
    batch_sizes: list[int] = [64, 320],  # noqa: B006
    repeats: int = 3,
    overrides: list[str] = [],  # noqa: B006
) -> list[Row]:
    """Compares seconds a block, from blocks.csv, of runs that take turns.

    Args:
        out: Gets exact.csv.
        n_blocks: Blocks; none is left out once everything is learned.
        minibatch_epochs: Choices for the gradient steps; every choice is run and the fastest counts.
        batch_sizes: Rings in a batch, likewise.
        repeats: Runs of each.
        overrides: More arguments of the command, for all.
    """
    common = [f"--model.n_blocks={n_blocks}", "--layerwise.stop_when_learned=false", *overrides]
    gradient = {
        f"gradient, {epochs} mini-batch epochs, batches of {size}": [
            "--model.solver=GradientSolver",
            f"--model.solver.minibatch_epochs={epochs}",
            f"--data.batch_size={size}",
        ]
        for epochs, size in product(minibatch_epochs, batch_sizes)
    }
    runs: dict[str, list[Fit]] = {name: [] for name in {**EXACT, **gradient}}
    for repeat in range(repeats):
        for number, (name, arguments) in enumerate({**EXACT, **gradient}.items()):
            folder = out / "exact" / f"{number}-{repeat}"
            runs[name].append(fit("quickstart", folder, *common, *arguments))
    records = [
        {"method": name, "repeat": repeat, **block}
        for name, fits in runs.items()
        for repeat, one in enumerate(fits)
        for block in one.blocks
    ]
    write(out / "exact.csv", records, ["method"])
    spent = {name: statistics.median(one.seconds[-1] / len(one.blocks) for one in fits) for name, fits in runs.items()}
    best = min(gradient, key=spent.__getitem__)
    rows = []
    for name in (*EXACT, best):
        ratio, target = (spent[best] / spent[name], ">= 10") if name in EXACT else (None, "")
        compared = "against the fastest gradient steps; " if name in EXACT else f"fastest of {len(gradient)} settings; "
        note = compared + _describe(runs[name][0])
        what = f"{name}: a block"
        rows.append(Row("exact", what, spent[name], "s", spent[best] if ratio else None, ratio, target, note))
    return rows


def _describe(one: Fit) -> str:
    """Epochs, steps and certificates of a run."""
    steps = sum(int(block["steps"]) for block in one.blocks)
    certificates = [float(block["suboptimality"]) / float(block["initial_objective"]) for block in one.blocks]
    blocks = len(one.blocks)
    work = f"{one.epochs / blocks:.4g} epochs and {steps / blocks:.4g} steps a block"
    return f"{work}, largest certificate {max(certificates):.2g} of F at 0, {one.unconverged} of {blocks} unconverged"
