"""Each experiment's runs, figures, table and verdict, on hierarchies of seconds, in this process."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from jsonargparse.typing import Path_fr

from hierlit.cli import main
from hierlit.experiments import EXPERIMENTS, key_of, write_report
from hierlit.experiments.runner import Results, cells_of, run_cell
from hierlit.experiments.scaling import DECAY

CONF = Path(__file__).parents[1] / "conf"
SMALL: dict[str, dict[str, Any]] = {
    "staircase": {"configs": {"ring": "automaton"}, "seeds": 1},
    "beta_sensitivity": {
        "configs": {"parities": "exact_juntas"},
        "seeds": 1,
        "betas": [0.0, 0.5],
        "solvers": ["exact"],
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
    "joint": {
        "configs": {"ring": "automaton"},
        "seeds": 1,
        "epochs": {"ring": 3},
        "overrides": {"data.n_levels": 2, "model.n_blocks": 2},
    },
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


def made(name: str, options: Mapping[str, Any]) -> Any:
    configs = {key: Path_fr(str(CONF / f"{file}.yaml")) for key, file in options["configs"].items()}
    return EXPERIMENTS[name](**{**options, "configs": configs})


# a staircase is made in test_experiment too, and supervision in test_treatments
SLOW = ("scaling", "staircase", "supervision")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else []) for name in sorted(SMALL)]
)
def test_an_experiment_runs_from_cells_to_report(name: str, tmp_path: Path) -> None:
    experiment, results = made(name, SMALL[name]), Results(tmp_path)
    for settings, seed in cells_of(experiment):
        results.add(run_cell(main, experiment, tmp_path, settings, seed))
    runs = [key_of(*cell) for cell in cells_of(experiment)]
    assert results.failures(runs) == {}
    table = Results(tmp_path).table(runs)
    assert len(table) == len(cells_of(experiment))
    verdict = write_report(name, experiment, table, {}, tmp_path)
    assert verdict is not None and verdict.text.endswith(".")
    page = (tmp_path / "report.html").read_text()
    assert verdict.heading in page and "<svg" in page and "<table" in page
    assert list(tmp_path.glob("*.png"))
    for place in range(len(table)):
        assert_judged(experiment, table.iloc[[place]])
        assert_judged(experiment, table.drop(index=place))
    for place in (0, len(table) - 1):
        for figure in experiment.figures(table.iloc[[place]], tmp_path).values():
            plt.close(figure)


def assert_judged(experiment: Any, rows: pd.DataFrame) -> None:
    """Whatever runs failed, the others have their table and verdict, which is not that the prediction holds."""
    assert len(experiment.summary(rows).columns)
    verdict = experiment.verdict(rows)
    assert verdict.text.endswith(".") and "nan" not in verdict.text
    assert not verdict.holds


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


def learned(amount_of: Callable[[int, int], float]) -> pd.DataFrame:
    """Made-up rows of scaling: a hierarchy of n labels and r levels is learned from an amount on."""
    found = []
    for settings in made("scaling", SCALING).settings():
        if settings["part"] == DECAY:
            found.append(
                {**settings, "seed": 0, "decay_rate": 2.0, "decay_r2": 0.99, "margin_growth": 1.0, "losses": ""}
            )
        else:
            needed = amount_of(settings["n"], settings["r"])
            accuracy = 1.0 if settings["amount"] >= needed else 0.5
            blocks = settings["r"] if math.isfinite(needed) else np.nan
            found.append({**settings, "seed": 0, "least_accuracy": accuracy, "blocks_needed": blocks})
    return pd.DataFrame(found)


SCALING = SMALL["scaling"] | {"depths": [1, 2], "widths": [10, 100, 1000, 10000], "rows": [10, 100, 1000, 10000]}


@pytest.mark.parametrize(
    ("amount_of", "holds", "said"),
    [
        (lambda n, r: 10, True, "features grow as n^0.00"),
        (lambda n, r: {(4, 1): 10, (4, 2): 10000}.get((n, r), 1000), False, "r^9.97"),
        (lambda n, r: math.inf, None, "how features grow was not measured"),
    ],
    ids=["flat", "steep", "nothing learned"],
)
def test_exponents_that_were_not_measured_decide_nothing(
    amount_of: Callable[[int, int], float], holds: bool | None, said: str
) -> None:
    experiment, rows = made("scaling", SCALING), learned(amount_of)
    verdict = experiment.verdict(rows)
    assert verdict.holds is holds
    assert said in verdict.text and "nan" not in verdict.text
    if holds is not None:
        assert "exponent in f" in list(experiment.summary(rows)["K"])


def test_controls_and_exponents_are_of_the_overridden_hierarchy() -> None:
    given = {"overrides": {"model.n_features": 20, "data.init_args.n_levels": 7}}
    staircase = made("staircase", SMALL["staircase"] | given)
    (one,) = [settings for settings in staircase.settings() if settings["control"] == "one block"]
    blocks = staircase.section(one, "model")["n_blocks"]
    assert staircase.arguments(one)["model.n_features"] == 20 * blocks
    assert staircase.section(one, "data")["n_levels"] == 7


@pytest.mark.parametrize(
    ("curves", "holds", "said"),
    [
        ([[0.7, 0.8, 0.9]], True, "of one seed alone"),
        ([[0.7, 0.91, 0.9]], False, "falling at a share"),
        ([[0.7, 0.8, 0.9], [0.71, 0.8, 0.92]], True, "0.705 with none to 0.910 with all"),
        ([[0.7, 0.9, 0.88], [0.71, 0.9, 0.91]], None, "not surely rising"),
        ([[0.7, 0.92, 0.9], [0.7, 0.92, 0.9]], False, "falling at a share"),
        ([[0.8, 0.85, 0.9]], False, "rising with every share"),
    ],
    ids=["one seed", "one seed, a fall", "rising", "a fall within its interval", "a sure fall", "a small gap"],
)
@pytest.mark.parametrize("first", [True, False])
def test_brain_dump_judges_every_step_at_every_size(
    curves: list[list[float]], holds: bool | None, said: str, first: bool
) -> None:
    experiment = made("brain_dump", SMALL["brain_dump"] | {"shares": [0.0, 0.5, 1.0], "majority_sizes": [3, 1]})
    other = [[0.7, 0.9, 0.95]] if curves[0][0] == 0.7 else [[0.8, 0.9, 0.96]]
    rows = []
    for settings in experiment.settings():
        is_judged = settings["share"] == 0 or (settings["majority_size"] == 3) is first
        for seed, curve in enumerate(curves):
            target = (curve if is_judged else other[0])[experiment.shares.index(settings["share"])]
            rows.append({**settings, "seed": seed, "target": target})
    verdict = experiment.verdict(pd.DataFrame(rows))
    assert verdict.holds is holds
    assert said in verdict.text


def test_half_of_the_labels_is_not_another_share() -> None:
    experiment = made("supervision", SMALL["supervision"] | {"shares": [0.9]})
    rows = pd.DataFrame({"supervision": ["all labels", *experiment.ways("ring")], "config": "ring", "seed": 0})
    scores = {"accuracy": 0.9, "last_accuracy": 0.9, "last_precision": [0.9, 0.9, 0.1, 0.9, 0.9]}
    rows = rows.assign(treatment="assume_negative", average_precision=0.9, **scores)
    assert experiment.verdict(rows).holds is None


def test_a_quick_joint_experiment_has_a_share_of_its_own_epochs() -> None:
    experiment = made("joint", SMALL["joint"] | {"epochs": {"ring": 100}} | EXPERIMENTS["joint"].quick)
    epochs = [experiment.arguments(settings).get("model.joint.epochs") for settings in experiment.settings()]
    assert epochs == [None, None, 40, 40]
