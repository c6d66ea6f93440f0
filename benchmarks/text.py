"""Parts of speech and relations of real sentences against seconds: layerwise, and a residual convolution end to end.

Both have the same sentences, inputs and labels. The baseline was given what was found for it: batch normalisation
before each convolution of seven characters, dropout, AdamW whose rate falls to nothing at the end of its budget, and
the logistic loss. Its checks are not counted; hierlit's seconds are those of all its blocks, certificates included.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.runs import CONFIGS, MINIMAL
from benchmarks.table import Row, now
from hierlit.cli.fit import run as run_command
from hierlit.data import TokenLabels
from hierlit.experiments.base import Run
from hierlit.experiments.text import by_block
from hierlit.metrics import AveragePrecision

KINDS = ("upos", "deprel")
HIGHEST_RATE, LEAST_SHARE, BATCH_SIZE, KERNEL = 3e-3, 0.02, 16, 7
SMALL = ["--model.n_features=50", "--data.label_columns=[char, word, upos, deprel:main]"]
QUICK = {"n_train": 60, "n_test": 30, "networks": {"16x1": 2.0}, "options": [*SMALL]}


class Point(NamedTuple):
    """Average precision of a kind of label, the mean over labels, after so many seconds of training."""

    method: str
    kind: str
    seconds: float
    precision: float


def run(
    out: Path,
    train_files: list[str] = [],  # noqa: B006
    test_files: list[str] = [],  # noqa: B006
    n_train: int = 800,
    n_test: int | None = None,
    shortest: int = 10,
    longest: int = 80,
    networks: dict[str, float] = {"64x5": 80.0, "128x6": 150.0},  # noqa: B006
    seed: int = 0,
    options: list[str] = [],  # noqa: B006
) -> list[Row]:
    """Trains configs/text.yaml, then each network for its seconds, and draws average precision against seconds.

    Args:
        out: Gets text.png, and the sentences that were used.
        train_files: CoNLL-U; made-up sentences when empty.
        test_files: CoNLL-U.
        n_train: Sentences to train on, the first ones.
        n_test: Sentences to test on; all when None.
        shortest: Characters of a sentence at least.
        longest: And at most.
        networks: Seconds of each end-to-end network, by channels and blocks.
        seed: Of all draws.
        options: More arguments of hierlit's fit.
    """
    files = [chosen(train_files, n_train, (shortest, longest), out / "train.conllu")]
    files += [chosen(test_files or train_files, n_test, (shortest, longest), out / "test.conllu")]
    arguments = [f"--data.train_files={files[0]}", f"--data.test_files={files[1]}", f"--model.weight_seed={seed}"]
    shown = [f"--trainer.default_root_dir={out}", *(f"--trainer.{name}=false" for name in list(MINIMAL)[:2])]
    cli = run_command(["fit", "--config", str(CONFIGS / "text.yaml"), *arguments, *shown, *options])
    fit = Run({}, seed, cli)
    seconds = fit.blocks["seconds"].cumsum().to_numpy()
    points = [
        Point("hierlit", row.kind, float(seconds[row.block - 1]), row.average_precision)
        for row in by_block(fit).itertuples()
        if row.kind in KINDS
    ]
    for name, budget in networks.items():
        points += end_to_end(cli.datamodule, name, budget, seed)
    draw(points, out / "text.png")
    return rows(points)


def chosen(files: list[str], number: int | None, lengths: tuple[int, int], path: Path) -> Path:
    """Write the first sentences of these lengths, in characters; made-up ones where there are no files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [part for file in files for part in Path(file).read_text(encoding="utf8").split("\n\n")] or made_up()
    kept = []
    for part in parts:
        texts = [line.removeprefix("# text = ") for line in part.splitlines() if line.startswith("# text = ")]
        if texts and lengths[0] <= len(texts[0]) <= lengths[1]:
            kept.append(part.strip("\n"))
    path.write_text("\n\n".join(kept[:number]) + "\n\n", encoding="utf8")
    return path


def made_up() -> list[str]:
    """Return sentences of three words, for a smoke test."""
    draws = np.random.default_rng(0)
    nouns, verbs = ("dogs", "cats", "birds", "children"), ("see", "like", "follow")
    found = []
    for _ in range(200):
        words = draws.choice(nouns), draws.choice(verbs), draws.choice(nouns)
        columns = zip((1, 2, 3), words, ("NOUN", "VERB", "NOUN"), (2, 0, 2), ("nsubj", "root", "obj"), strict=True)
        lines = [f"{n}\t{word}\t{word}\t{pos}\t_\t_\t{head}\t{role}\t_\t_" for n, word, pos, head, role in columns]
        found.append("\n".join([f"# text = {' '.join(words)}", *lines]))
    return found


class Residual(nn.Module):
    """Adds to the stream what two convolutions make of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Conv1d(width, width, 1),
        )

    def forward(self, stream: Tensor) -> Tensor:
        """Map [B, C, T] to the same shape."""
        return stream + self.change(stream)  # type: ignore[no-any-return]


def network(n_inputs: int, n_labels: int, width: int, depth: int) -> nn.Module:
    """Return the baseline, from inputs [B, d, T] to scores [B, n, T]."""
    first = nn.Conv1d(n_inputs, width, KERNEL, padding=KERNEL // 2)
    blocks = [Residual(width) for _ in range(depth)]
    return nn.Sequential(first, *blocks, nn.BatchNorm1d(width), nn.ReLU(), nn.Conv1d(width, n_labels, 1))


def end_to_end(data: TokenLabels, name: str, budget: float, seed: int, n_checks: int = 6) -> Iterator[Point]:
    """Yield the precision of a network on the test rows, as it is trained for its budget of seconds."""
    torch.manual_seed(seed)
    width, depth = map(int, name.split("x"))
    net, table, spent, checks = network(data.n_inputs, data.n_labels, width, depth), data.tables["train"], 0.0, 0
    optimizer = torch.optim.AdamW(net.parameters(), HIGHEST_RATE, weight_decay=0.01)
    rows = [table[torch.arange(first, min(first + 64, len(table)))] for first in range(0, len(table), 64)]
    longest = max(batch.inputs.shape[1] for batch in rows)
    whole = [torch.cat([F.pad(part[i], (0, 0, 0, longest - part[i].shape[1])) for part in rows]) for i in (0, 1)]
    inputs, labels = (part.transpose(1, 2) for part in whole)
    while spent < budget:
        for batch in torch.randperm(len(inputs)).split(BATCH_SIZE):
            start = now()
            descend(optimizer, net(inputs[batch]), labels[batch], spent / budget)
            spent += now() - start
        if spent >= budget * (checks + 1) / n_checks:
            checks += 1
            for kind, precision in checked(net, data).items():
                yield Point(f"end to end, {name}", kind, spent, precision)


def descend(optimizer: torch.optim.Optimizer, scores: Tensor, labels: Tensor, spent: float) -> None:
    """Make a step on the logistic loss of observed labels, at the rate that is due after a share of the budget."""
    optimizer.param_groups[0]["lr"] = HIGHEST_RATE * max(LEAST_SHARE, 1 - spent)
    seen = (labels != 0).float()
    losses = F.softplus(-scores * labels) * seen
    optimizer.zero_grad()
    (losses.sum() / seen.sum()).backward()
    optimizer.step()


@torch.no_grad()
def checked(net: nn.Module, data: TokenLabels) -> dict[str, float]:
    """Return the average precision on the test rows, by kind."""
    net.eval()
    metric = AveragePrecision()
    for batch in data.test_dataloader():
        exists = batch.inputs[..., 0] > 0
        metric.update(net(batch.inputs.transpose(1, 2)).transpose(1, 2)[exists], batch.labels[exists])
    net.train()
    return {kind: value for kind, value in metric.of_kinds(data.label_kinds).items() if kind in KINDS}


def draw(points: list[Point], path: Path) -> None:
    """Draw average precision against seconds, a panel a kind and a line a method."""
    figure, axes = plt.subplots(1, len(KINDS), figsize=(5 * len(KINDS), 3.8), layout="constrained")
    for panel, kind in zip(axes, KINDS, strict=True):
        for method in dict.fromkeys(point.method for point in points):
            own = [point for point in points if (point.method, point.kind) == (method, kind)]
            panel.plot([p.seconds for p in own], [p.precision for p in own], "o-", markersize=4, label=method)
        panel.set(xlabel="seconds of training", ylabel="average precision, mean over labels", title=kind)
    axes[-1].legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def rows(points: list[Point]) -> list[Row]:
    """Return each kind's precision at the end, hierlit's as the baseline of the others."""
    found = []
    for kind in KINDS:
        last = {point.method: point for point in points if point.kind == kind}
        ours = last.pop("hierlit")
        found.append(Row("text", f"{kind}: hierlit", ours.precision, "average precision", note=after(ours)))
        for method, point in last.items():
            value = (point.precision, "average precision", ours.precision, ours.precision / point.precision)
            found.append(Row("text", f"{kind}: {method}", *value, note=after(point)))
    return found


def after(point: Point) -> str:
    """Say when a point was reached."""
    return f"after {point.seconds:.0f} s of training"
