"""What supervision hides, what it measures, and what it says; also of data whose levels nobody knows."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from jsonargparse.typing import Path_fr

from hierlit.cli import main
from hierlit.experiments.runner import cells_of, run_cell
from hierlit.experiments.staircase import StaircaseExperiment
from hierlit.experiments.supervision import (
    ALTERNATE,
    FULL,
    LAST,
    NO_TREATMENT,
    SINGLE,
    SupervisionExperiment,
    label_accuracy,
    label_precision,
    losses,
)

LAST_LEVEL = ("last_accuracy", "last_precision")
CONF = Path(__file__).parents[1] / "conf"


def made(path: Path = CONF / "automaton.yaml", **options: Any) -> SupervisionExperiment:
    return SupervisionExperiment(configs={"ring": Path_fr(str(path))}, **options)


def test_levels_are_hidden_where_the_data_has_them() -> None:
    ways = made(shares=[0.5]).ways("ring")
    assert list(ways) == ["50% of labels", LAST, ALTERNATE, SINGLE]
    assert ways[LAST] == {"supervised_levels": [3]} and ways[ALTERNATE] == {"supervised_levels": [1, 3]}
    two = made(overrides={"data.n_levels": 2}).ways("ring")
    assert two[LAST] == {"supervised_levels": [2]} and ALTERNATE not in two
    assert LAST not in made(overrides={"data.n_levels": 1}).ways("ring")


TABLE = """
import torch
from hierlit.data import HierarchyDataModule

class Table(HierarchyDataModule):
    n_inputs, n_labels, n_locations, levels = 5, 2, 1, None

    def make_tables(self):
        draw = torch.Generator().manual_seed(self.data_seed)
        made = {}
        for split, rows in (("train", 200), ("val", 50), ("test", 50)):
            x = torch.randint(2, (rows, 1, 5), generator=draw) * 2.0 - 1
            y = torch.stack([x[..., 0], x[..., 1] * x[..., 2]], -1)
            y[:5, :, 1] = 0
            made[split] = (x, y)
        return made
"""


def test_a_table_of_one_s_own_has_no_levels_to_hide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_table.py").write_text(TABLE)
    monkeypatch.syspath_prepend(str(tmp_path))
    model = {"n_blocks": 1, "n_features": 40, "solver": "ExactSolver"}
    config = {"data": {"class_path": "own_table.Table"}, "model": model}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    experiment = made(tmp_path / "own.yaml", shares=[0.5], treatments=["ignore"], seeds=1)
    rows = [run_cell(main, experiment, tmp_path, settings, seed) for settings, seed in cells_of(experiment)]
    assert [row["supervision"] for row in rows] == [FULL, "50% of labels", SINGLE]
    assert not any("error" in row for row in rows)
    assert rows[0]["accuracy"] > 0.95 and rows[0]["average_precision"] > 0.95
    table = pd.DataFrame(rows)
    assert "half" not in experiment.verdict(table).text
    assert list(experiment.figures(table, tmp_path)) == ["losses"]
    with pytest.raises(ValueError, match="a staircase needs data that knows its labels' levels, unlike that of own"):
        StaircaseExperiment({"ring": Path_fr(str(CONF / "automaton.yaml")), "own": Path_fr(str(tmp_path / "own.yaml"))})


def test_data_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump({"data": {"class_path": "Nowhere"}}))
    with pytest.raises(ValueError, match="data of ring: "):
        made(tmp_path / "bad.yaml")


def test_treatments_that_there_are_not_are_named() -> None:
    with pytest.raises(ValueError, match="treatments must be some of ignore, "):
        made(treatments=["hope"])


def test_no_score_is_half_right_and_labels_not_observed_do_not_count() -> None:
    scores = torch.tensor([[1.0, 0.0, 2.0], [-1.0, 0.0, 1.0], [3.0, 0.0, -1.0]])
    labels = torch.tensor([[1.0, 1.0, 0.0], [-1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])
    assert label_accuracy(scores, labels).tolist()[:2] == [pytest.approx(2 / 3), 0.5]
    precision = label_precision(scores, labels)
    assert precision[0] == pytest.approx(0.5) and precision[1] == pytest.approx(2 / 3)
    assert label_accuracy(scores, labels)[2].isnan() and precision[2].isnan()


def rows(partial: float, last: float, seeds: int = 3) -> pd.DataFrame:
    found = []
    for seed in range(seeds):
        base = {"config": "ring", "seed": seed, "epochs": 1, "converged": True, "average_precision": 0.9}
        own = 0.95 - 0.1 * seed
        full = {"supervision": FULL, "treatment": NO_TREATMENT, "accuracy": own} | dict.fromkeys(LAST_LEVEL, own)
        found.append(base | full)
        for way, cost in (("50% of labels", partial), (LAST, last), (ALTERNATE, 0.2), (SINGLE, 0.3)):
            for treatment, more in (("ignore", 0.0), ("assume_negative", 0.05)):
                value = own - cost - more
                row = base | {"supervision": way, "treatment": treatment, "accuracy": value}
                found.append(row | dict.fromkeys(LAST_LEVEL, value))
    return pd.DataFrame(found)


@pytest.mark.parametrize(("partial", "last", "holds"), [(0.01, 0.4, True), (0.1, 0.4, False), (0.01, 0.02, False)])
def test_the_verdict_is_of_the_treatment_that_loses_least(partial: float, last: float, holds: bool) -> None:
    verdict = made(shares=[0.5], treatments=["ignore", "assume_negative"]).verdict(rows(partial, last))
    assert verdict.holds is holds
    assert f"{LAST} +{last:.3f}" in verdict.text and "(ignore)" in verdict.text


def test_losses_are_of_the_same_seed() -> None:
    lost = losses(rows(0.01, 0.4))
    own = lost[(lost["supervision"] == LAST) & (lost["treatment"] == "ignore") & (lost["outcome"] == "accuracy")]
    assert np.allclose(own[["mean", "low", "high"]], 0.4)
