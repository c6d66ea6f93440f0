"""Depth in images: scikit-learn's digits, and four digits in one image with labels that are functions of one another.

In the images of four digits, two by two, a location's labels are whether the digit there is a one, whether exactly one
of the two digits in its half is, and whether that holds of either half. Nothing says where a digit or a half begins.
The same images have labels of their own too: whether they have one, two, three or four ones, and whether either half
has exactly one. Networks for each: one with many blocks; one block as wide as all of them; one such block that sees
15×15 pixels, or 7×7 of the single digits; and a residual convolution that sees as far as the first, trained end to end
for as long as that took, and for five times as long.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn

from benchmarks.runs import MINIMAL
from benchmarks.table import Row, now
from benchmarks.text import BATCH_SIZE, HIGHEST_RATE, descend
from hierlit.data import LocatedArrays
from hierlit.layerwise.solvers import ExactSolver
from hierlit.models import CosineFeatures, Window2d
from hierlit.training import LayerwiseTask, LayerwiseTraining

Arrays = tuple[NDArray[np.float64], NDArray[np.int64]]
DEEP, WIDE, FAR, LONGER = "blocks", "one block, as wide", "one block that sees more", 5
TITLES = {
    "digits": "one digit: its class",
    "locations": "four digits: labels of locations",
    "images": "four digits: labels of images",
}
KINDS = {
    "digits": ["digit"],
    "locations": ["one", "odd half", "any odd half"],
    "images": ["1 one", "2 ones", "3 ones", "4 ones", "any odd half"],
}
SIDE, N_DIGITS = 8, 360
SEEN = {"digits": 5, "locations": 7, "images": 7}
"""Pixels along a side of a window."""
CHANNELS = 32
DILATIONS = (1, 2, 4, 8, 1)
"""Of the residual convolutions, whose locations so see 18 pixels to either side, as those of six blocks."""
QUICK = {"n_train": 40, "n_test": 20, "n_features": 30, "n_blocks": 2}


class Point(NamedTuple):
    """The share of test images or locations of which a kind of label is right."""

    method: str
    block: int
    kind: str
    right: float
    seconds: float


def run(
    out: Path, n_train: int = 600, n_test: int = 400, n_blocks: int = 8, n_features: int = 400, seed: int = 0
) -> list[Row]:
    """Trains all networks on each set, and draws what blocks reach in images.png.

    Args:
        out: Gets the arrays and the figure.
        n_train: Images to train on.
        n_test: Images to test on; those of four digits are of digits that no training image has.
        n_blocks: Blocks of the deep network.
        n_features: Features of each.
        seed: Of all draws.
    """
    found: dict[str, list[Point]] = {}
    for name, kinds in KINDS.items():
        for split, arrays in images(name, n_train, n_test, seed).items():
            np.savez(out / f"{name}-{split}.npz", inputs=arrays[0], labels=arrays[1])
        files = {f"{split}_files": str(out / f"{name}-{split}.npz") for split in ("train", "test")}
        data = LocatedArrays(**files, val_fraction=0.0, acceptance_fraction=0.0, batch_size=BATCH_SIZE)
        wide, size = {"n_blocks": 1, "n_features": n_blocks * n_features}, SEEN[name]
        points = layerwise(data, DEEP, size, seed, n_blocks=n_blocks, n_features=n_features)
        seconds = points[-1].seconds
        points += layerwise(data, WIDE, size, seed, **wide)
        points += layerwise(data, FAR, min(15, data.grid[0] - 1 + data.grid[0] % 2), seed, **wide)
        for budget in (seconds, LONGER * seconds):
            points += end_to_end(data, budget, seed)
        found[name] = [point._replace(kind=kinds[int(point.kind)]) for point in points]
    draw(found, out / "images.png")
    return [row for name, points in found.items() for row in rows(name, points)]


def images(name: str, n_train: int, n_test: int, seed: int) -> dict[str, Arrays]:
    """Return images [N, H, W, 1] and labels of the training and test rows of a set."""
    draws = np.random.default_rng(seed)
    pixels, digit = load_digits(n_class=10 if name == "digits" else 2, return_X_y=True)
    pixels, order = pixels.reshape(-1, SIDE, SIDE, 1) / 16, draws.permutation(len(pixels))
    if name == "digits":
        own = {"train": order[:n_train], "test": order[-n_test:]}
        return {split: (pixels[rows], digit[rows, None]) for split, rows in own.items()}
    parts = {"train": (order[: 2 * N_DIGITS // 3], n_train), "test": (order[2 * N_DIGITS // 3 :], n_test)}
    found = {}
    for split, (own, number) in parts.items():
        chosen = draws.choice(own, size=(number, 2, 2))
        whole = pixels[chosen].transpose(0, 1, 3, 2, 4, 5).reshape(number, 2 * SIDE, 2 * SIDE, 1)
        found[split] = whole, (of_locations if name == "locations" else of_images)(digit[chosen])
    return found


def of_locations(is_one: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels [N, H, W, 3] in {−1, 1} of images of 2 × 2 digits."""
    odd = np.broadcast_to((is_one.sum(2) == 1)[..., None], is_one.shape)
    labels = np.stack([is_one == 1, odd, np.broadcast_to(odd.any((1, 2))[:, None, None], odd.shape)], -1)
    return 2 * labels.repeat(SIDE, 1).repeat(SIDE, 2).astype(np.int64) - 1


def of_images(is_one: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels [N, 5] in {−1, 1} of the same."""
    counts = is_one.sum((1, 2))[:, None] == np.arange(1, 5)
    return 2 * np.hstack([counts, (is_one.sum(2) == 1).any(1)[:, None]]).astype(np.int64) - 1


def layerwise(data: LocatedArrays, method: str, size: int, seed: int, **width: int) -> list[Point]:
    """Train block by block; what is right after each block."""
    sizes = {name: getattr(data, name) for name in ("n_inputs", "n_labels", "n_locations", "pooled")}
    task = LayerwiseTask(
        **sizes,
        proximity=Window2d(*data.grid, size=size, periodic=False),
        features=CosineFeatures(input_scale="rms"),
        solver=ExactSolver(choice="gcv"),
        weight_seed=seed,
        **width,
    )
    data.setup("fit")
    start = now()
    trainer = L.Trainer(max_epochs=-1, callbacks=[LayerwiseTraining(acceptance="none")], accelerator="cpu", **MINIMAL)
    trainer.fit(task, datamodule=data)
    seconds = now() - start
    task.cpu()
    with torch.no_grad():
        staged = zip(*(task.net.staged_scores(batch.inputs) for batch in data.test_dataloader()), strict=True)
        scores = [torch.cat([part[:, :1] if data.pooled else part for part in parts]) for parts in staged]
    return [
        Point(method, block, str(kind), right, seconds)
        for block, stage in enumerate(scores, 1)
        for kind, right in enumerate(shares_right(data, stage))
    ]


def shares_right(data: LocatedArrays, scores: Tensor) -> list[float]:
    """Share of the classes that are found, or of each label's signs."""
    labels = torch.cat([batch.labels for batch in data.test_dataloader()])
    labels = labels[:, :1] if data.pooled else labels
    if data.class_labels:
        return [float((scores.argmax(-1) == labels.argmax(-1)).double().mean())]
    return ((scores > 0) == (labels > 0)).double().mean((0, 1)).tolist()


class Residual(nn.Module):
    """Adds to the stream what two convolutions make of it."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        first, last = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation), nn.Conv2d(width, width, 1)
        norms = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.change = nn.Sequential(norms[0], nn.ReLU(), first, norms[1], nn.ReLU(), nn.Dropout(0.1), last)

    def forward(self, stream: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        return stream + self.change(stream)  # type: ignore[no-any-return]


def end_to_end(data: LocatedArrays, budget: float, seed: int) -> Iterator[Point]:
    """Yield what is right after a residual convolution was trained for its seconds; pooled scores are means."""
    torch.manual_seed(seed)
    first, last = nn.Conv2d(data.n_inputs, CHANNELS, 5, padding=2), nn.Conv2d(CHANNELS, data.n_labels, 1)
    blocks = [Residual(CHANNELS, dilation) for dilation in DILATIONS]
    net = nn.Sequential(first, *blocks, nn.BatchNorm2d(CHANNELS), nn.ReLU(), last)
    optimizer, spent = torch.optim.AdamW(net.parameters(), HIGHEST_RATE, weight_decay=0.01), 0.0

    def scores(inputs: Tensor) -> Tensor:
        maps = net(inputs.transpose(1, 2).unflatten(2, data.grid)).flatten(2).transpose(1, 2)
        return maps.mean(1, keepdim=True) if data.pooled else maps

    table = data.tables["train"][torch.arange(len(data.tables["train"]))]
    labels = table.labels[:, :1] if data.pooled else table.labels
    while spent < budget:
        for batch in torch.randperm(len(labels)).split(BATCH_SIZE):
            start = now()
            descend(optimizer, scores(table.inputs[batch]), labels[batch], spent / budget)
            spent += now() - start
            if spent >= budget:
                break
    net.eval()
    with torch.no_grad():
        found = torch.cat([scores(batch.inputs) for batch in data.test_dataloader()])
    for kind, right in enumerate(shares_right(data, found)):
        yield Point(f"end to end, {spent:.0f} s", 1, str(kind), right, spent)


def draw(found: Mapping[str, list[Point]], path: Path) -> None:
    """Draw what is right after each block, a panel a set and a colour a kind; others as levels across it."""
    figure, axes = plt.subplots(1, len(found), figsize=(4.6 * len(found), 3.8), layout="constrained")
    styles = {WIDE: ":", FAR: "--"}
    for panel, (name, points) in zip(axes, found.items(), strict=True):
        for number, kind in enumerate(KINDS[name]):
            deep = [point for point in points if (point.method, point.kind) == (DEEP, kind)]
            panel.plot([p.block for p in deep], [p.right for p in deep], "o-", color=f"C{number}", label=kind)
            for method, style in styles.items():
                (one,) = [point for point in points if (point.method, point.kind) == (method, kind)]
                panel.axhline(one.right, color=f"C{number}", linestyle=style, linewidth=1)
        panel.set(title=TITLES[name], xlabel="block", ylabel="right on test images")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.legend()
    figure.suptitle(f"dotted: {WIDE}; dashed: {FAR}", fontsize=10)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def rows(name: str, points: list[Point]) -> list[Row]:
    """Return what each method has right in the end, beside what blocks have."""
    last: dict[tuple[str, str], Point] = {(point.method, point.kind): point for point in points}
    found: list[Any] = []
    for (method, kind), point in last.items():
        ours = last[DEEP, kind].right
        value = (point.right, "right", ours, ours / max(point.right, 1e-9))
        found.append(Row("images", f"{name}, {kind}: {method}", *value, note=f"{point.seconds:.0f} s"))
    return found
