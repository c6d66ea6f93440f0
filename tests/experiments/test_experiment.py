"""Experiments through the command line: a table that grows, is not made twice, and a report of it."""

import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from filelock import FileLock

import hierlit.cli.experiment
from hierlit.cli import main
from hierlit.cli.experiment import LOCK, parse
from hierlit.experiments import EXPERIMENTS, Experiment, StaircaseExperiment
from hierlit.experiments.report import commands_of
from hierlit.experiments.runner import Results

CONF = Path(__file__).parents[1] / "conf"
ORDER = ("accuracy", "margins", "controls")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    options = {"configs": {"ring": str(CONF / "automaton.yaml")}, "seeds": 1}
    options["overrides"] = {"model.n_features": 20, "model.solver": "ExactSolver"}
    Path("experiment.yaml").write_text(yaml.safe_dump(options))
    return ["experiment", "staircase", "--config", "experiment.yaml", "--workers", "2"]


def results(version: int = 0) -> pd.DataFrame:
    return pd.read_csv(Path("lightning_logs/staircase") / f"version_{version}" / "results.csv")


@pytest.mark.usefixtures("forked_workers")
def test_runs_are_made_once_and_reported(config: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(config)
    first = results()
    assert sorted(first["control"]) == ["none", "one block", "shuffled labels"]
    folder = Path("lightning_logs/staircase/version_0")
    report = (folder / "report.html").read_text()
    for name in ORDER:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f'<figure id="{name}">' in report and (folder / f"{name}.svg").exists()
    assert "http" not in report.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    ).replace("https://matplotlib.org", "")
    assert "3/3" in capsys.readouterr().out
    main([*config, "--seeds", "2"])
    grown = results()
    assert len(grown) == 6
    assert grown.iloc[:3].equals(first)
    main([*config, "--seeds", "2"])
    assert results().equals(grown)
    assert "run 1/" not in capsys.readouterr().out.rpartition("report:")[0].rpartition("report:")[2]


@pytest.mark.usefixtures("forked_workers")
def test_a_run_that_fails_is_a_row_with_its_reason_and_is_tried_again(
    config: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"3 of 3 runs failed, the first with: .*beta must be") as failed:
        main([*config, "--overrides", "{model.features.beta: 7}"])
    assert "failed" in capsys.readouterr().out
    assert str(failed.value).count("\n") == 0
    assert results()["error"].str.contains("beta").all()


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (["nonsense"], "name must be one of staircase"),
        (["staircase"], "configs"),
        (["staircase", "--configs", "{a: missing.yaml}"], "missing.yaml"),
        (["staircase", "--config", "experiment.yaml", "--seeds", "0"], "seeds must be a positive integer, got 0"),
        (["staircase", "--config", "experiment.yaml", "--treshold", "1"], "treshold"),
        (["scaling", "--configs", "{a: experiment.yaml}"], "configs must have juntas, decay, got a"),
    ],
)
def test_wrong_arguments_are_one_line_before_any_run(
    wrong: list[str], line: str, config: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["experiment", *wrong])
    assert refused.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error") and line in last
    assert not Path("lightning_logs").exists()


@pytest.mark.parametrize(
    ("words", "seeds"),
    [
        (["--config", "three.yaml", "--quick"], 1),
        (["--config=three.yaml", "--quick"], 1),
        (["--quick", "--config=three.yaml"], 1),
        (["--config=three.yaml", "--quick", "--seeds=2"], 2),
        (["--config=three.yaml", "--quick", "--no_quick"], 3),
        (["--config=three.yaml"], 3),
    ],
)
def test_quick_stands_between_the_files_and_the_other_options(words: list[str], seeds: int, config: list[str]) -> None:
    Path("three.yaml").write_text(Path("experiment.yaml").read_text().replace("seeds: 1", "seeds: 3"))
    assert parse("staircase", EXPERIMENTS["staircase"], words)[0].seeds == seeds


def run_nothing(experiment: Experiment, folder: Path, *_: Any) -> Results:
    """In the place of an experiment's runs: none."""
    return Results(folder)


def test_two_commands_do_not_work_in_one_folder(config: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hierlit.cli.experiment, "run_all", run_nothing)
    main([*config, "--overrides", "{model.features.beta: 7}"])
    message = r"^error: another command works in .*version_0; --fresh starts a version"
    with FileLock(Path("lightning_logs/staircase/version_0") / LOCK), pytest.raises(SystemExit, match=message):
        main([*config, "--overrides", "{model.features.beta: 7}"])


def test_runs_of_other_versions_are_not_reused(config: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hierlit.cli.experiment, "run_all", run_nothing)
    for torch in ("2.6.0", "2.13.0", "2.13.0"):
        monkeypatch.setattr(hierlit.cli.experiment, "versions", lambda own=torch: f"torch {own}")
        main(config)
    assert sorted(path.name for path in Path("lightning_logs/staircase").iterdir()) == ["version_0", "version_1"]


def test_a_report_s_commands_run_where_it_was_made(config: list[str]) -> None:
    Path("configs/experiments").mkdir(parents=True)
    Path("configs/ring.yaml").write_text((CONF / "automaton.yaml").read_text())
    Path("configs/experiments/own.yaml").write_text("configs: {ring: ../ring.yaml}")
    given, _ = parse("staircase", EXPERIMENTS["staircase"], ["--config=configs/experiments/own.yaml"])
    for command in commands_of(StaircaseExperiment(given.configs)):
        words = shlex.split(command)
        assert words[words.index("--config") + 1] == "configs/ring.yaml"


def test_an_interrupt_is_one_line_and_130(
    config: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(hierlit.cli.experiment, "run_all", interrupted)
    with pytest.raises(SystemExit) as left:
        main(config)
    assert left.value.code == 130
    assert capsys.readouterr().err.strip().startswith("interrupted: finished runs are kept")
