"""The brain dump: what auxiliary labels are worth to the target, from none of them to all."""

import statistics
from pathlib import Path

import matplotlib.pyplot as plt

from benchmarks.runs import fit
from benchmarks.table import Row, read, write

SMALL = ["--data.n_train=300", "--model.n_features=40", "--model.n_blocks=2"]
QUICK = {"shares": [0.0, 1.0], "seeds": [0], "overrides": SMALL}


def run(
    out: Path,
    shares: list[float] = [0.0, 0.1, 0.25, 0.5, 1.0],  # noqa: B006
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    overrides: list[str] = [],  # noqa: B006
) -> list[Row]:
    """Trains configs/brain_dump.yaml with some of the auxiliary labels.

    Args:
        out: Gets brain_dump.csv, a row a run, and brain_dump.png.
        shares: Shares of the auxiliary labels.
        seeds: Seeds of circuit, rows and weights.
        overrides: More arguments of the command, for all.
    """
    for share in shares:
        for seed in seeds:
            own = [f"--data.auxiliary_share={share}", f"--data.data_seed={seed}", f"--model.weight_seed={seed}"]
            one = fit("brain_dump", out / "brain_dump" / f"{share}-{seed}", *own, *overrides)
            last = [row for row in one.levels if row["block"] == one.blocks[-1]["block"]]
            target = float(last[-1]["val_accuracy"])
            record = {"share": share, "seed": seed, "accuracy": target, "seconds": one.seconds[-1]}
            write(out / "brain_dump.csv", [record], ["share", "seed"])
    every = [(float(record["share"]), float(record["accuracy"])) for record in read(out / "brain_dump.csv")]
    found = {share: [accuracy for own, accuracy in every if own == share] for share in shares}
    _draw(out, found)
    none = statistics.fmean(found[min(shares)])
    return [
        Row("brain_dump", f"target, {share:.0%} of the auxiliary labels", mean := statistics.fmean(values), "", none,
            note=f"{len(values)} seeds, {min(values):.3f} to {max(values):.3f}; {mean - none:+.3f} on the least share")
        for share, values in found.items()
    ]  # fmt: skip


def _draw(out: Path, found: dict[float, list[float]]) -> None:
    figure, axes = plt.subplots(figsize=(5.5, 3.8), layout="constrained")
    for share, values in found.items():
        axes.plot([share] * len(values), values, "o", color="C0", alpha=0.5)
    axes.plot(list(found), [statistics.fmean(values) for values in found.values()], color="C0")
    axes.set(xlabel="share of the auxiliary labels", ylabel="held-out accuracy of the circuit's output")
    figure.savefig(out / "brain_dump.png", dpi=150)
    plt.close(figure)
