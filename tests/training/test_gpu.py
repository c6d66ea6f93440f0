"""A GPU trains what the CPU trains, and resumes to the bit: run with `pytest -m gpu`, skipped where there is none."""

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import AUTO, EXACT, RUN, assert_same_run, checkpoints, fault, rows, run, weights

from hierlit import HierarchicalClassifier

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that torch can use"),
]
GPU = ["--trainer.accelerator", "cuda", "--trainer.devices", "1"]
SOLVERS = {
    "gradient": [],
    "exact": EXACT,
    "cross-fitted": [*EXACT, "--layerwise.folds", "3"],
    "auto": AUTO,
    "orthogonal": [*EXACT, "--model.output", "orthogonal"],
}
TOLERANCES = {"64-true": 1e-9, "32-true": 1e-4}
"""Of the norm of each block's weights, relative; those within which processes agree."""
OFTEN = ["--checkpoint.every_minutes", "1e-5"]
LAST = ["--ckpt_path", "last"]


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_gpu_trains_the_weights_that_the_cpu_does(solver: str, precision: str, tmp_path: Path) -> None:
    args, on_cpu, on_gpu = (
        [*RUN, *SOLVERS[solver], "--trainer.precision", precision],
        tmp_path / "cpu",
        tmp_path / "gpu",
    )
    run(on_cpu, *args)
    run(on_gpu, *args, *GPU)
    found = weights(on_gpu)
    for name, value in weights(on_cpu).items():
        error = float((found[name].double() - value.double()).norm())
        assert error <= TOLERANCES[precision] * float(value.double().norm()), name
    columns = ("block", "accepted", "stop_reason")
    for one, two in zip(rows(on_cpu, "blocks.csv"), rows(on_gpu, "blocks.csv"), strict=True):
        assert [one[name] for name in columns] == [two[name] for name in columns]


@pytest.mark.parametrize("solver", SOLVERS)
def test_streams_and_features_beyond_the_budget_change_nothing(solver: str, tmp_path: Path) -> None:
    args, kept, mapped = [*RUN, *SOLVERS[solver], *GPU], tmp_path / "kept", tmp_path / "mapped"
    run(kept, *args)
    run(mapped, *args, "--model.cache_budget_gib", "0")
    assert_same_run(mapped, kept)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM], ids=lambda signum: signum.name)
@pytest.mark.parametrize(("solver", "at"), [("gradient", 143), ("exact", 2), ("cross-fitted", 5)])
def test_a_run_that_is_killed_goes_on_to_the_bit(solver: str, at: int, signum: signal.Signals, tmp_path: Path) -> None:
    args, whole, killed = [*RUN, *SOLVERS[solver], *GPU], tmp_path / "whole", tmp_path / "killed"
    run(whole, *args)
    code = -9 if signum == signal.SIGKILL else 143
    run(killed, *args, *OFTEN, *fault("SignalAtPass", at=at, signum=int(signum)), expect=code)
    run(killed, *args, *LAST)
    assert_same_run(killed, whole)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("solver", ["gradient", "exact"])
def test_features_in_16_bits_learn_what_those_in_32_learn(solver: str, precision: str, tmp_path: Path) -> None:
    run(tmp_path, *RUN, *SOLVERS[solver], *GPU, "--trainer.precision", precision)
    last = [float(row["val_accuracy"]) for row in rows(tmp_path, "levels.csv")[-3:]]
    assert min(last) >= 0.999


def test_a_network_of_a_gpu_scores_on_the_cpu_as_there(tmp_path: Path) -> None:
    run(tmp_path, *RUN, *EXACT, *GPU)
    scores = {}
    for accelerator in ("cpu", "cuda"):
        table = tmp_path / f"{accelerator}.csv"
        given = ["--ckpt_path", str(checkpoints(tmp_path)[-1].resolve()), "--predictions.path", str(table)]
        run(tmp_path, "predict", *RUN[1:], *EXACT, "--trainer.accelerator", accelerator, *given)
        scores[accelerator] = np.loadtxt(table, delimiter=",", skiprows=1)
    np.testing.assert_allclose(scores["cuda"], scores["cpu"], rtol=1e-4, atol=1e-4)


def test_the_classifier_finds_on_a_gpu_what_it_finds_on_the_cpu() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(300, 6))
    y = np.stack([x[:, 0] > 0, x[:, 1] > 0, (x[:, 0] > 0) ^ (x[:, 1] > 0)], 1).astype(int)
    found = [
        HierarchicalClassifier(accelerator=accelerator, random_state=0).fit(x[:200], y[:200]).predict(x[200:])
        for accelerator in ("cpu", "gpu")
    ]
    assert np.mean(found[0] == found[1]) >= 0.99
