"""What beta_sensitivity says of made-up curves, and what it takes from the kernel."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jsonargparse.typing import Path_fr

from hierlit.experiments.beta_sensitivity import (
    CHOSEN,
    FIXED,
    GRADIENT,
    KERNEL,
    BetaSensitivityExperiment,
    kernel_figures,
)

PARITIES = Path_fr(str(Path(__file__).parents[1] / "conf" / "exact_juntas.yaml"))
BETAS = [0.0, 0.3, 0.5, 0.7, 0.9]


def made(**options: Any) -> BetaSensitivityExperiment:
    return BetaSensitivityExperiment(configs={"parities": PARITIES}, betas=BETAS, depths=[1, 2], **options)


def table(curve: Callable[[float, float], float], seeds: int = 5, noise: float = 0.0) -> pd.DataFrame:
    draw, rows = np.random.default_rng(0), []
    for seed in range(seeds):
        for settings in made(seeds=seeds).settings():
            kernel = kernel_figures(settings["activation"], settings["beta"], settings["degree"])
            value = curve(settings["beta"], kernel["share"]) + noise * draw.standard_normal()
            rows.append({**settings, **kernel, "seed": seed, "last_level": value, "epochs": 1.0, "converged": True})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("curve", "seeds", "noise", "holds"),
    [
        (lambda beta, share: 0.9 - (beta - 0.5) ** 2, 5, 1e-3, True),
        (lambda beta, share: 0.9 - beta, 5, 1e-3, False),
        (lambda beta, share: 0.5 + beta / 2, 5, 1e-3, False),
        (lambda beta, share: 0.9 - (beta - 0.5) ** 2 / 100, 5, 0.1, False),
        (lambda beta, share: 0.9 - (beta - 0.5) ** 2, 1, 0.0, None),
        (lambda beta, share: 0.9 - beta, 1, 0.0, None),
    ],
    ids=["interior", "at the least", "at the largest", "noise", "one seed", "one seed, at the least"],
)
def test_an_optimum_is_interior_if_both_ends_are_surely_below(
    curve: Callable[[float, float], float], seeds: int, noise: float, holds: bool | None
) -> None:
    verdict = made(seeds=seeds).verdict(table(curve, seeds, noise))
    assert verdict.holds is holds
    assert "depth 1" in verdict.text and "depth 2" in verdict.text


def test_an_accuracy_that_follows_the_share_has_rank_correlation_one_with_it() -> None:
    summary = made().summary(table(lambda beta, share: 0.5 + 10 * share))
    assert np.allclose(summary["rank_correlation_share"], 1)
    relu = summary[(summary["activation"] == "relu") & (summary["degree"] == 3)]
    assert set(relu["best_beta"]) == {0.5}
    assert (relu["rank_correlation_effective_degree"].abs() < 0.9).all()
    flat = made().summary(table(lambda beta, share: 0.5))
    assert flat["best_beta"].isna().all()
    assert flat[[f"rank_correlation_{column}" for column in KERNEL]].isna().all(axis=None)


def test_the_kernel_s_figures_are_those_of_the_design() -> None:
    shares = [kernel_figures("relu", beta, 3)["share"] for beta in BETAS]
    assert np.allclose(shares, [0, 0.0036, 0.0062, 0.0052, 0.0015], atol=5e-5)
    assert kernel_figures("tanh", 0.0, 4)["share"] == pytest.approx(0, abs=1e-12)
    assert 0 < kernel_figures("relu", 0.5, 3)["share_above"] < 1


def test_every_part_comes_once() -> None:
    rows = list(made().settings())
    assert len(rows) == len({tuple(row.values()) for row in rows})
    parts = {(row["solver"], row["degree"], row["depth"]) for row in rows}
    exact = {(solver, 3, depth) for solver in (FIXED, CHOSEN) for depth in (1, 2)}
    assert {row["activation"] for row in rows if row["solver"] == CHOSEN} == {"relu"}
    assert parts == exact | {(FIXED, 4, 1), (GRADIENT, 3, 1)}


def test_solvers_that_there_are_not_are_named() -> None:
    with pytest.raises(ValueError, match=r"solvers must be some of exact, chosen, gradient"):
        made(solvers=["newton"])
