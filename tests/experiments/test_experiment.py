"""Experiments through the command line: a table that grows, is not made twice, and a report of it."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from hierlit.cli import main

CONF = Path(__file__).parents[1] / "conf"
ORDER = ("accuracy", "margins", "controls")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    options = {"configs": {"ring": str(CONF / "automaton.yaml")}, "seeds": 1, "overrides": {"model.n_features": 20}}
    Path("experiment.yaml").write_text(yaml.safe_dump(options))
    return ["experiment", "staircase", "--config", "experiment.yaml", "--workers", "2"]


def results(version: int = 0) -> pd.DataFrame:
    return pd.read_csv(Path("lightning_logs/staircase") / f"version_{version}" / "results.csv")


def test_runs_are_made_once_and_reported(config: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(config)
    first = results()
    assert list(first["control"]) == ["none", "one block", "shuffled labels"] or len(first) == 3
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


def test_a_run_that_fails_is_a_row_with_its_reason_and_is_tried_again(
    config: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"3 of 3 runs failed, the first with: .*beta must be") as failed:
        main([*config, "--overrides", "{model.beta: 7}"])
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
