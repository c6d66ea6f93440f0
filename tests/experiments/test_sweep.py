"""sweep and compare through the command line: tidy tables, figures, and what is refused."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import hierlit.cli.sweep
from hierlit.cli import main
from hierlit.experiments.compare import EVERY, LAST, LAYERWISE, joint_epochs
from hierlit.experiments.runner import Results, cells_of, run_cell

SMALL = [
    "--config",
    str(Path(__file__).parents[1] / "conf" / "automaton.yaml"),
    "--model.n_features=30",
    "--model.n_blocks=1",
    "--model.solver=ExactSolver",
]


def run_here(experiment: Any, folder: Path, *_: Any, command: Any = main, **__: Any) -> Results:
    """In the place of workers: the runs that have no row, in this process."""
    results = Results(folder)
    for settings, seed in cells_of(experiment):
        results.add(run_cell(command, experiment, folder, settings, seed))
    return results


@pytest.fixture(autouse=True)
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hierlit.cli.sweep, "run_all", run_here)


def test_a_sweep_is_a_tidy_table_and_a_figure(capsys: pytest.CaptureFixture[str]) -> None:
    main(["sweep", *SMALL, "--model.features.beta", "[.1,.5]", "--layerwise.acceptance", "[gain]", "--seeds", "2"])
    folder = Path("lightning_logs/sweep/version_0")
    runs, means = pd.read_csv(folder / "results.csv"), pd.read_csv(folder / "summary.csv")
    settings = ["model.features.beta", "layerwise.acceptance"]
    assert len(runs) == 4 and not runs.duplicated([*settings, "seed"]).any()
    assert set(runs["model.features.beta"]) == {0.1, 0.5}
    average = runs.groupby(settings)["accuracy"].mean()
    assert means.set_index(settings)["accuracy"].to_dict() == pytest.approx(average.to_dict())
    assert (means["accuracy_low"] <= means["accuracy"]).all() and (means["seeds"] == 2).all()
    assert (folder / "sweep.png").read_bytes().startswith(b"\x89PNG")
    command = (folder / "runs" / runs["run"][0] / "output.txt").read_text().splitlines()[0]
    assert "--model.n_features=30" in command and "--model.features.beta=0.1" in command
    assert "results.csv, summary.csv and sweep.png in lightning_logs/sweep/version_0" in capsys.readouterr().out


def test_a_comparison_trains_one_network_in_three_ways(capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", *SMALL, "--seeds", "1"])
    folder = Path("lightning_logs/compare/version_0")
    runs = pd.read_csv(folder / "results.csv").set_index("way")
    assert list(runs.index) == [LAYERWISE, LAST, EVERY]
    probe = pd.read_csv(folder / "probe" / "results.csv")
    expected = joint_epochs(runs.loc[[LAYERWISE]].reset_index(), probe)[0]
    n_blocks = runs.loc[LAST, "blocks"]
    assert (runs.loc[[LAST, EVERY], "epochs"] == expected + n_blocks).all(), "and a pass a block at the end"
    first = {(folder / "runs" / run / "output.txt").read_text().splitlines()[0] for run in runs["run"]}
    assert all("--model.weight_seed=0" in line and "--model.adaptation=null" in line for line in first)
    assert (folder / "compare.png").exists() and LAYERWISE in capsys.readouterr().out


def test_joint_epochs_take_the_time_of_the_layerwise_run() -> None:
    layerwise = pd.DataFrame({"seed": [0, 1, 2], "training_seconds": [10.0, 0.01, 3.0]})
    probes = pd.DataFrame({"seed": [0, 1], "training_seconds": [2.5, 2.5]})
    assert joint_epochs(layerwise, probes) == {0: 20, 1: 1}


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["sweep", *SMALL], "an argument must have a list of values"),
        (
            ["sweep", *SMALL, "--model.featurs.beta", "[1]"],
            "there is no argument model.featurs; did you mean model.features?",
        ),
        (
            ["sweep", "--config", "nowhere.yaml", "--model.n_features", "[1]"],
            "there is no file nowhere.yaml; those that",
        ),
        (["sweep", *SMALL, "--model.n_blocks", "[1,2"], "model.n_blocks must be a value or a list in YAML, such as"),
        (["sweep", *SMALL, "--model.n_blocks", "[]"], "model.n_blocks must have a value at least, got []"),
        (["sweep", *SMALL, "--model.n_blocks", "[1,two]"], "model.n_blocks must be int, got two"),
        (["compare", *SMALL, "--model.n_blocks", "two"], "model.n_blocks must be int, got two"),
        (["sweep", *SMALL, "--model.n_blocks", "[1,-1]"], "model.n_blocks must be a positive integer, got -1"),
        (["sweep", *SMALL, "--layerwise.folds", "[2,1]"], "layerwise.folds must be 2 or more, or null, got 1"),
        (["compare", *SMALL, "--model.features", "RadialFeatures"], "units of RadialFeatures are rows, which end-to-"),
        (["compare", *SMALL, "--seeds", "0"], "seeds"),
        (["compare", *SMALL, "--sed", "1"], "sed"),
    ],
)
def test_wrong_arguments_are_one_line(args: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(args)
    assert refused.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and line in last
    assert not Path("lightning_logs").exists()
