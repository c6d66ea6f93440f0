"""`describe` on hierarchies whose constants are known."""

from pathlib import Path

import numpy as np
import pytest

from hierlit.cli import main
from hierlit.plan.describe import Description

CONF = Path(__file__).parents[1] / "conf"


def described(config: str, *args: str) -> Description:
    return main(["describe", "--config", str(CONF / f"{config}.yaml"), *args]).described


def test_an_automaton_s_constants_are_its_rule_s(capsys: pytest.CaptureFixture[str]) -> None:
    found = described("automaton", "--data.rule", "90")  # the XOR of both neighbours
    assert [level.level for level in found.levels] == [1, 2, 3]
    for level in found.levels:
        assert level.constants is not None
        assert (level.constants.degree, level.n_labels, level.observed) == (2, 1, 1.0)
        assert level.constants.norm == pytest.approx(1) and level.constants.bound == pytest.approx(1)
        assert level.constants.robustness == pytest.approx(1 - np.sqrt(0.5), abs=1e-6)
    assert (found.n_levels, found.n_pairs, found.name) == (3, 100 * 16, "CellularAutomaton")
    assert found.robustness == found.levels[0].constants.robustness
    assert found.needs is not None and found.needs.window == 3 * (1 + 2)  # of level 3: inputs, and labels of 1 and 2
    printed = capsys.readouterr().out
    assert "0.293" in printed and "D = 4 is too small" in printed


def test_shares_are_those_of_the_training_labels() -> None:
    found = described("supervision")
    assert [level.level for level in found.levels] == [0, 1, 2]
    assert found.levels[0].constants is None
    assert found.levels[1].n_labels + found.levels[2].n_labels == 3
    assert all(level.ones == (1.0, 1.0) and 0 < level.observed < 0.6 for level in found.levels)  # single positives


@pytest.mark.parametrize("robustness", ["0.1", "0.5"])
def test_the_robustness_is_the_least_there_is(robustness: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = described("automaton", "--data.rule", "90", "--model.robustness", robustness)
    assert found.robustness == pytest.approx(min(float(robustness), 1 - np.sqrt(0.5)), abs=1e-6)
    assert f"ξ = {found.robustness:.3g}:" in capsys.readouterr().out


def test_labels_that_are_not_observed_have_no_share(capsys: pytest.CaptureFixture[str]) -> None:
    found = described("juntas", "--supervision.supervised_levels", "[1]", "--supervision.n_distractors", "2")
    assert [level.ones is None for level in found.levels] == [True] + [False] + [True] * (len(found.levels) - 2)
    assert found.n_levels == max(level.level for level in found.levels)
    assert "nan" not in capsys.readouterr().out


def test_symbols_of_the_random_hierarchy_model_are_functions_of_their_tuples() -> None:
    found = described("random_hierarchy")
    for level in found.levels:
        assert level.constants is not None and level.constants.degree in (1, 2)
        assert level.constants.bound >= 1 and 0 < level.constants.robustness < 1
    larger = described("random_hierarchy", "--data.n_symbols", "9", "--data.n_classes", "9")
    assert all(level.constants is None for level in larger.levels)


def test_life_is_a_quadratic_threshold_function_of_large_norm() -> None:
    (level, *_) = described("life").levels
    assert level.constants is not None and level.constants.degree == 2
    # alive where 5 ≤ 2·neighbours + self ≤ 7: (3/2)² − (t − 6)², at least 5/4 in size, is one such polynomial
    assert level.constants.bound <= ((17 - 6) ** 2 - 1.5**2) / 1.25
    assert level.constants.norm > 5


def test_the_depth_bound_at_a_given_growth(capsys: pytest.CaptureFixture[str]) -> None:
    found = described("automaton", "--describe.margin_growth", "2", "--model.n_blocks", "20")
    xi = found.levels[0].constants.robustness
    assert f"it asks for D ≥ {3 * (int(np.ceil(np.log(8 * 100 * 16 / xi) / 2)) + 1)}" in capsys.readouterr().out


def test_labels_that_are_no_functions_of_few_have_no_constants(capsys: pytest.CaptureFixture[str]) -> None:
    assert all(level.constants is None for level in described("brain_dump").levels)
    assert "not known" in capsys.readouterr().out


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    described("juntas")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_growth_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        described("automaton", "--describe.margin_growth", "-1")
    assert "describe.margin_growth must be positive, got -1" in capsys.readouterr().err
