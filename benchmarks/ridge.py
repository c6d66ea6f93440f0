"""The ridge path with one regularisation per target against scikit-learn's RidgeCV: same features, same candidates.

Scikit-learn measures its alphas against sums over rows, hierlit against means: RidgeCV gets λ times the rows
(and computes in float64, whatever it is given).
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.table import Row, alternate, write
from hierlit.layerwise.moments import FLUSH_PAIRS, add_product
from hierlit.layerwise.solvers.ridge import RESOLUTION, RidgePath
from hierlit.models.block import readout

ALPHAS = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Candidates, as multiples of the mean diagonal of the Gram matrix; none is below what float32 sums resolve."""
QUICK = {"n_rows": 600, "n_features": 80, "n_targets": 6, "repeats": 1}
HELD = 0.2
"""Share of the rows that the choice `set_aside` holds out of the fit."""
Arrays = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Ridge:
    """A fit: scores are those of the features less their mean, plus the targets' mean.

    Attributes:
        weight: [n, q+1].
        mean: Of the features, [q].
        offset: Of the targets, [n].
        penalties: The candidates for λ, on means over rows.
    """

    weight: Tensor
    mean: Tensor
    offset: Tensor
    penalties: Tensor

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores [P, n] of features [P, q]."""
        rows = torch.from_numpy(features).to(self.mean)
        return (readout(rows - self.mean, self.weight) + self.offset).cpu().numpy()


def fit(features: NDArray[np.float32], targets: NDArray[np.float32], choice: str) -> Ridge:
    """Sums in one pass over the rows, a factorisation a candidate, and each target's candidate.

    Args:
        features: [P, q].
        targets: [P, n].
        choice: `gcv`, or `set_aside`, which holds out the last rows.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows, truth = torch.from_numpy(features).to(device), torch.from_numpy(targets).to(device)
    n = len(rows) - (round(HELD * len(rows)) if choice == "set_aside" else 0)
    mean, offset = rows[:n].mean(0), truth[:n].mean(0)
    width, labels = rows.shape[1] + 1, truth.shape[1]
    gram = torch.zeros(width, width, dtype=torch.float64, device=device)
    cross, power = gram.new_zeros(labels, width), gram.new_zeros(labels)
    partial = rows.new_zeros(width - 1, width - 1)
    for seen, wanted in zip(rows[:n].split(FLUSH_PAIRS), truth[:n].split(FLUSH_PAIRS), strict=True):
        centred, residual = seen - mean, wanted - offset
        add_product(partial.zero_(), centred)
        gram[:-1, :-1] += partial
        gram[:-1, -1] += centred.sum(0)
        cross[:, :-1] += residual.T @ centred
        cross[:, -1] += residual.sum(0)
        power += residual.square().sum(0)
    gram, cross, power = gram / n, cross / n, power / n
    gram[-1, -1] = 1.0
    gram = gram.triu() + gram.triu(1).T
    path = RidgePath.of_alphas(gram, cross, ALPHAS, RESOLUTION[rows.dtype])
    if choice == "gcv":
        errors = path.gcv(power, n)
    else:
        held, wanted = rows[n:] - mean, truth[n:] - offset
        errors = torch.stack([(readout(held, weight.float()) - wanted).square().sum(0) for weight in path.weights])
    weight = path.weights[errors.argmin(0), torch.arange(labels, device=device)].float()
    return Ridge(weight, mean, offset, path.penalties)


def draw(n_rows: int, n_features: int, n_targets: int, seed: int = 0) -> tuple[Arrays, Arrays]:
    """Correlated features and noisy linear targets, to fit and (a quarter as many) to test on.

    The features' covariance has eigenvalues 1/i in random directions; the targets' signal is 0.01 to 100 times as
    strong as their noise, whose variance is 1.
    """
    random = np.random.default_rng(seed)
    n_all = n_rows + n_rows // 4
    directions = np.linalg.qr(random.standard_normal((n_features, n_features)))[0]
    spectrum = 1 / np.sqrt(np.arange(1, n_features + 1))
    features = (random.standard_normal((n_all, n_features), np.float32) * spectrum) @ directions
    signal = features @ random.standard_normal((n_features, n_targets))
    signal *= np.sqrt(np.logspace(-2, 2, n_targets)) / signal.std(0)
    targets = signal + random.standard_normal((n_all, n_targets))
    features, targets = features.astype(np.float32), targets.astype(np.float32)
    return (features[:n_rows], targets[:n_rows]), (features[n_rows:], targets[n_rows:])


def run(out: Path, n_rows: int = 20_000, n_features: int = 2000, n_targets: int = 100, repeats: int = 3) -> list[Row]:
    """Compares seconds and held-out errors.

    Args:
        out: Gets ridge.csv.
        n_rows: Rows to fit.
        n_features: Ready features.
        n_targets: Targets.
        repeats: Timed fits of each, side by side.
    """
    from sklearn.linear_model import RidgeCV

    train, (features, truth) = draw(n_rows, n_features, n_targets)
    alphas = (n_rows * fit(*train, "gcv").penalties).tolist()
    fits = {}

    def scikit_learn() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fits["RidgeCV"] = RidgeCV(alphas=alphas, alpha_per_target=True).fit(*train)

    def gcv() -> None:
        fits["gcv"] = fit(*train, "gcv")

    def set_aside() -> None:
        fits["set_aside"] = fit(*train, "set_aside")

    spent = alternate({"RidgeCV": scikit_learn, "gcv": gcv, "set_aside": set_aside}, repeats)
    variance = truth.var(0)
    errors = {name: ((one.predict(features) - truth) ** 2).mean(0) / variance for name, one in fits.items()}
    records = [
        {"method": name, "target": target, "error": float(error)}
        for name, by_target in errors.items()
        for target, error in enumerate(by_target)
    ]
    write(out / "ridge.csv", records, ["method"])
    shape = f"{n_rows} x {n_features}, {n_targets} targets, {len(alphas)} candidates"
    rows = []
    for name in ("gcv", "set_aside"):
        held = "" if name == "gcv" else f", {HELD:.0%} of the rows held out"
        against = f"against RidgeCV(alpha_per_target=True); {shape}"
        speed = spent["RidgeCV"] / spent[name]
        rows.append(Row("ridge", f"fit, {name}{held}", spent[name], "s", spent["RidgeCV"], speed, ">= 5", against))
        ours, theirs = float(errors[name].mean()), float(errors["RidgeCV"].mean())
        worst = (
            f"share of variance left, mean over targets; worst target {(errors['RidgeCV'] / errors[name]).min():.4f}"
        )
        what, target = f"held-out error, {name}{held}", ">= 0.999"
        rows.append(Row("ridge", what, ours, "", theirs, theirs / ours, target, worst))
    return rows
