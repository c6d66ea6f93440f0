"""The losses under the gradient solver, side by side on an automaton: epochs to the same relative certificate."""

from pathlib import Path

from benchmarks.runs import fit
from benchmarks.table import Row, write

LOSSES = {
    "squared": ["SquaredLoss"],
    "hybrid practical": ["HybridMarginLoss"],
    "hybrid, smoothing 0.5": ["HybridMarginLoss", "--model.loss.smoothing", "0.5"],
    "hybrid, no ceiling": ["HybridMarginLoss", "--model.loss.ceiling", ".inf"],
    "hybrid, far only": ["HybridMarginLoss", "--model.loss.near", "1.0", "--model.loss.far_weight", "0.0"],
    "hybrid paper, B 1": ["HybridMarginLoss", "--model.loss.preset", "paper"],
    "hinge": ["HingeLoss"],
    "squared hinge": ["SquaredHingeLoss"],
    "logistic": ["LogisticLoss"],
}
QUICK = {"n_levels": 2, "n_blocks": 1, "max_epochs": 10, "overrides": ["--data.n_train=50", "--model.n_features=50"]}


def run(
    out: Path,
    rule: int = 110,
    n_levels: int = 6,
    n_blocks: int = 6,
    max_epochs: int = 800,
    overrides: list[str] = [],  # noqa: B006
) -> list[Row]:
    """Trains the quickstart with 500 features once a loss.

    Args:
        out: Gets losses.csv, a row a level of each loss after the last block.
        rule: Wolfram's number of the rule.
        n_levels: Levels.
        n_blocks: Blocks at most.
        max_epochs: Epochs of a block at most.
        overrides: More arguments of the command, for all.
    """
    sizes = [f"--data.rule={rule}", f"--data.n_levels={n_levels}", f"--model.n_blocks={n_blocks}"]
    limits = ["--model.n_features=500", f"--layerwise.max_epochs_per_block={max_epochs}"]
    records, rows = [], []
    for number, (name, loss) in enumerate(LOSSES.items()):
        folder = out / "losses" / str(number)
        one = fit("quickstart", folder, "--model.loss", *loss, *sizes, *limits, *overrides)
        last = [level for level in one.levels if level["block"] == one.blocks[-1]["block"]]
        records += [{"rule": rule, "loss": name, "epochs": one.epochs, **level} for level in last]
        accuracy = " ".join(f"{float(level['val_accuracy']):.3f}" for level in last)
        stopped = f"{one.unconverged} of {len(one.blocks)} blocks unconverged"
        note = f"{stopped}, {one.seconds[-1]:.1f} s; accuracy by level {accuracy}; ratio value / squared's"
        squared = rows[0].value if rows else one.epochs
        what = f"rule {rule}, {n_levels} levels, {name}"
        rows.append(Row("losses", what, one.epochs, "epochs", squared, one.epochs / squared, note=note))
    write(out / "losses.csv", records, ["rule", "loss"])
    return rows
