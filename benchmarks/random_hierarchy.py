"""The random hierarchy model: rows that latent labels, layer by layer, save a network that is told the class alone.

Cagnetta et al. (arXiv 2307.02129) find that a deep network told the class alone needs about P* = n_c·m^L rows.
"""

import math
import statistics
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import lightning as L
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.runs import MINIMAL
from benchmarks.table import Row, read, write
from hierlit.data import RandomHierarchyModel
from hierlit.layerwise.adaptive_draw import AdaptiveDraw
from hierlit.layerwise.solvers import ExactSolver
from hierlit.models import TreeWindows
from hierlit.training import LayerwiseTask, LayerwiseTraining

N_SYMBOLS = 8
N_TEST = 1000
REACHED = 0.95
STEP = math.sqrt(2)
CLASSES, LAYERWISE = "class alone, end to end", "latent labels, layerwise"
QUICK = {"cases": [[2, 3]], "seeds": [0], "n_steps": 20, "n_features": 50, "most": 0.5}


def run(
    out: Path,
    cases: list[list[int]] = [[2, 4], [3, 3], [4, 3], [3, 4]],  # noqa: B006
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    n_features: int = 500,
    n_steps: int = 3000,
    most: float = 16.0,
) -> list[Row]:
    """Raises the number of training rows by √2, end to end from P*/4 on, until 0.95 of 1,000 test classes are right.

    Args:
        out: Gets random_hierarchy.csv, a row a run, and random_hierarchy.png.
        cases: Synonyms m and levels L; there are 8 symbols, 8 classes and 2 children.
        seeds: Seeds of rules, rows and weights.
        n_features: Features of a block.
        n_steps: Steps of the end-to-end network.
        most: Rows at most, in units of P*.
    """
    ways: dict[str, Callable[[RandomHierarchyModel, int], float]] = {
        LAYERWISE: lambda data, seed: layerwise(data, seed, n_features),
        CLASSES: lambda data, seed: end_to_end(data, seed, n_steps),
    }
    rows = []
    for m, levels in cases:
        theirs = N_SYMBOLS * m**levels
        needed = {}
        for way, accuracy_of in ways.items():
            n = max(N_SYMBOLS * m / 2, theirs / 4 if way == CLASSES else 0.0)
            while n <= most * theirs:
                found = [accuracy_of(hierarchy(m, levels, round(n), seed), seed) for seed in seeds]
                setting = {"synonyms": m, "levels": levels, "way": way, "rows": round(n)}
                record = setting | {"accuracy": statistics.fmean(found), "least": min(found)}
                write(out / "random_hierarchy.csv", [record], list(setting))
                if record["accuracy"] >= REACHED:
                    needed[way] = round(n)
                    break
                n *= STEP
        for way in ways:
            value = needed.get(way, math.nan)
            note = f"against P* = n_c·m^L; mean of {len(seeds)} seeds"
            rows.append(Row("random_hierarchy", f"m = {m}, L = {levels}: {way}", value, "rows", theirs, note=note))
    _draw(out)
    return rows


def hierarchy(m: int, levels: int, n_train: int, seed: int) -> RandomHierarchyModel:
    """The data of a case."""
    sizes = {"n_train": n_train, "n_val": 1, "n_test": N_TEST}
    return RandomHierarchyModel(N_SYMBOLS, N_SYMBOLS, m, 2, levels, batch_size=256, data_seed=seed, **sizes)


def layerwise(data: RandomHierarchyModel, seed: int, n_features: int) -> float:
    """Accuracy of the class, the largest of its scores averaged over the leaves, when all symbols are told."""
    sizes = (data.n_inputs, data.n_labels, data.n_locations, data.levels, TreeWindows(2, data.n_levels))
    model = {"n_blocks": data.n_levels + 2, "n_features": n_features, "solver": ExactSolver(), "weight_seed": seed}
    task = LayerwiseTask(*sizes, **model, adaptation=AdaptiveDraw())
    L.Trainer(max_epochs=-1, callbacks=[LayerwiseTraining()], accelerator="cpu", **MINIMAL).fit(task, datamodule=data)
    table = data.tables["test"]
    with torch.no_grad():
        scores = task(table.inputs).mean(1)[:, -data.n_classes :]
    return accuracy(scores, classes(data, "test"))


class TreeNetwork(nn.Module):
    """A network wired like the tree, L layers of width 256 that join pairs of places, and a linear read-out."""

    def __init__(self, n_symbols: int, n_classes: int, n_levels: int, width: int = 256) -> None:
        super().__init__()
        sizes = [n_symbols, *[width] * n_levels]
        self.layers = nn.ModuleList(nn.Linear(2 * below, above) for below, above in pairwise(sizes))
        self.readout = nn.Linear(width, n_classes)

    def forward(self, leaves: Tensor) -> Tensor:
        """Scores [B, n_classes] of leaves [B, s^L, n_symbols]."""
        for layer in self.layers:
            leaves = F.relu(layer(leaves.reshape(len(leaves), -1, layer.in_features)))
        scores: Tensor = self.readout(leaves[:, 0])
        return scores


def end_to_end(data: RandomHierarchyModel, seed: int, n_steps: int) -> float:
    """Accuracy of the class by a network of the tree's own shape, told the class alone; AdamW with cosine decay."""
    data.setup()
    torch.manual_seed(seed)
    net = TreeNetwork(data.n_symbols, data.n_classes, data.n_levels)
    inputs, labels = data.tables["train"].inputs, classes(data, "train")
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for _ in range(n_steps):
        chosen = torch.randint(len(inputs), (min(128, len(inputs)),))
        loss = F.cross_entropy(net(inputs[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return accuracy(net(data.tables["test"].inputs), classes(data, "test"))


def classes(data: RandomHierarchyModel, split: str) -> Tensor:
    """Number of the class of each row of a split [N]."""
    return data.tables[split].labels[:, 0, -data.n_classes :].argmax(1)


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Share of rows [N] whose largest score [N, n_classes] is the class's."""
    return float((scores.argmax(1) == labels).double().mean())


def _draw(out: Path) -> None:
    records = read(out / "random_hierarchy.csv")
    figure, axes = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    cases = sorted({(int(record["synonyms"]), int(record["levels"])) for record in records})
    for number, case in enumerate(cases):
        for way, style in ((LAYERWISE, "o-"), (CLASSES, "x--")):
            own = [r for r in records if (int(r["synonyms"]), int(r["levels"])) == case and r["way"] == way]
            own.sort(key=lambda record: int(record["rows"]))
            points = [(int(record["rows"]), float(record["accuracy"])) for record in own]
            label = f"m = {case[0]}, L = {case[1]}: {way}"
            axes.plot(*zip(*points, strict=True), style, color=f"C{number}", label=label, markersize=4)
        axes.axvline(N_SYMBOLS * case[0] ** case[1], color=f"C{number}", linestyle=":", linewidth=1)
    axes.set(xscale="log", xlabel="training rows (dotted: n_c·m^L)", ylabel="accuracy of the class, test rows")
    axes.legend(fontsize=7)
    figure.savefig(out / "random_hierarchy.png", dpi=150)
    plt.close(figure)
