"""Each experiment's runs, figures, table and verdict, on hierarchies of seconds, in this process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hierlit.experiments import EXPERIMENTS, write_report
from hierlit.experiments.runner import Results, cells_of, run_cell

CONF = Path(__file__).parents[1] / "conf"
SMALL: dict[str, dict[str, Any]] = {
    "staircase": {"configs": {"ring": "automaton"}, "seeds": 1},
    "beta_sensitivity": {
        "configs": {"parities": "exact_juntas"},
        "seeds": 1,
        "betas": [0.0, 0.5],
        "solvers": ["exact", "gradient"],
        "depths": [1],
        "degrees": [3],
        "activations": ["relu"],
    },
    "supervision": {
        "configs": {"ring": "automaton"},
        "seeds": 1,
        "shares": [0.5],
        "treatments": ["assume_negative"],
        "overrides": {"model.solver": "ExactSolver"},
    },
    "brain_dump": {
        "configs": {"circuit": "brain_dump"},
        "seeds": 1,
        "shares": [0.0, 1.0],
        "majority_sizes": [3],
        "depths": [2],
    },
    "joint": {"configs": {"ring": "automaton"}, "seeds": 1, "epochs": {"ring": 3}},
    "scaling": {
        "configs": {"juntas": "exact_juntas", "decay": "exact"},
        "seeds": 1,
        "degrees": [2],
        "labels": [4, 6],
        "depths": [1],
        "widths": [20, 60],
        "rows": [60, 150],
        "further": 3,
    },
}


class ConfigFile:
    """A file of tests/conf, as the command line would give it."""

    def __init__(self, name: str) -> None:
        self.absolute = str(CONF / f"{name}.yaml")

    def __str__(self) -> str:
        return self.absolute


def made(name: str, options: Mapping[str, Any]) -> Any:
    configs = {key: ConfigFile(file) for key, file in options["configs"].items()}
    return EXPERIMENTS[name](**{**options, "configs": configs})


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_an_experiment_runs_from_cells_to_report(name: str, tmp_path: Path) -> None:
    experiment, results = made(name, SMALL[name]), Results(tmp_path)
    for settings, seed in cells_of(experiment):
        results.add(run_cell(experiment, settings, seed, tmp_path))
    runs = list(results.table([]).columns) or [row["run"] for row in pd.read_csv(results.path).to_dict("records")]
    assert results.failures(runs) == {}
    table = Results(tmp_path).table(runs)
    assert len(table) == len(cells_of(experiment))
    verdict = write_report(name, experiment, table, {}, tmp_path)
    assert verdict is not None and verdict.text.endswith(".")
    page = (tmp_path / "report.html").read_text()
    assert verdict.heading in page and "<svg" in page and "<table" in page
    assert list(tmp_path.glob("*.png"))


def test_the_staircase_s_verdict_is_of_its_rows() -> None:
    experiment = made("staircase", SMALL["staircase"])
    row = {"config": "ring", "seed": 0, "rank_correlation": 1.0, "in_order": True, "last_level": 1.0}
    rows = [
        {**row, "control": "none", "beyond_frequency": 0.4},
        {**row, "control": "one block", "last_level": 0.6, "beyond_frequency": 0.2},
        {**row, "control": "shuffled labels", "last_level": 0.5, "beyond_frequency": 0.01},
    ]
    assert experiment.verdict(pd.DataFrame(rows)).holds
    for place, change in (
        (0, {"in_order": False}),
        (0, {"rank_correlation": 0.9}),
        (0, {"rank_correlation": np.nan}),
        (1, {"last_level": 0.995}),
        (2, {"beyond_frequency": 0.2}),
    ):
        changed = [{**own, **(change if number == place else {})} for number, own in enumerate(rows)]
        assert not experiment.verdict(pd.DataFrame(changed)).holds
