"""What the README claims, run in full: `make test-slow`."""

import csv
from pathlib import Path

import pytest

from hierlit.cli import main

CONFIGS = Path(__file__).parents[1] / "configs"
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fit(config: str, *args: str) -> tuple[list[dict[str, str]], dict[int, list[float]]]:
    """The rows of blocks.csv, and each level's held-out accuracy after each block."""
    cli = main(["fit", "--config", str(CONFIGS / f"{config}.yaml"), "--trainer.enable_progress_bar", "false", *args])
    folder = Path(cli.trainer.log_dir)
    with (folder / "blocks.csv").open() as file:
        blocks = list(csv.DictReader(file))
    accuracy: dict[int, list[float]] = {}
    with (folder / "levels.csv").open() as file:
        for row in csv.DictReader(file):
            accuracy.setdefault(int(row["level"]), []).append(float(row["val_accuracy"]))
    return blocks, accuracy


def learned_by(accuracy: list[float], threshold: float = 0.999) -> int:
    """The first block after which a level is learned."""
    return next(block for block, value in enumerate(accuracy, start=1) if value >= threshold)


@pytest.mark.parametrize("config", ["quickstart", "exact"])
def test_rule_110_is_learned_one_level_a_block_with_certificates(config: str) -> None:
    blocks, accuracy = fit(config)
    assert 8 <= len(blocks) <= 10
    assert [level for level, values in accuracy.items() if values[-1] >= 0.999] == list(range(1, 9))
    for block in blocks:
        assert block["stop_reason"] == "gradient norm"
        assert float(block["suboptimality"]) <= 0.01 * float(block["initial_objective"])
    order = [learned_by(values) for values in accuracy.values()]
    assert order == sorted(order)


@pytest.mark.parametrize("rule", [30, 54, 90, 150])
def test_other_rules_are_learned_without_tuning(rule: int) -> None:
    blocks, accuracy = fit("quickstart", "--data.rule", str(rule), "--data.n_levels", "4", "--model.n_blocks", "8")
    assert len(blocks) <= 8
    assert min(values[-1] for values in accuracy.values()) >= 0.99


def test_adaptive_draws_learn_32_levels_one_a_block() -> None:
    blocks, accuracy = fit("deep", "--trainer.enable_checkpointing", "false")
    assert len(blocks) == 32
    assert min(values[-1] for values in accuracy.values()) >= 0.999


def test_the_papers_draw_stops_before_level_12() -> None:
    _, accuracy = fit("deep", "--model.adaptation", "null", "--model.n_blocks", "16")
    assert sum(values[-1] >= 0.999 for values in accuracy.values()) < 12


@pytest.mark.parametrize("degree", [2, 3])
def test_juntas_are_learned_at_every_level(degree: int) -> None:
    _, accuracy = fit("juntas", "--data.degree", str(degree))
    assert len(accuracy) == 4
    assert min(values[-1] for values in accuracy.values()) >= 0.95


def test_one_block_does_not_learn_the_juntas_above_level_1() -> None:
    _, accuracy = fit("juntas", "--model.n_blocks", "1")
    assert accuracy[1][-1] >= 0.999
    assert max(accuracy[level][-1] for level in (2, 3, 4)) < 0.95


def test_a_window_that_shows_every_level_still_learns_them_in_order() -> None:
    _, accuracy = fit("wide_window")
    order = [learned_by(values) for values in accuracy.values()]
    assert order == sorted(set(order)), "a block of its own for each level"


def test_one_block_of_the_same_total_width_does_not_learn_the_last_level() -> None:
    _, accuracy = fit("wide_window", "--model.n_blocks", "1", "--model.n_features", "1500")
    assert accuracy[3][-1] < 0.95


def test_labels_shuffled_across_rows_are_not_learned() -> None:
    _, accuracy = fit("wide_window", "--supervision.shuffle_labels", "true")
    # 5/8 of the cells are alive after one step of rule 110, whatever the ring
    assert max(values[-1] for values in accuracy.values()) < 0.65


def test_conways_life_is_learned_at_every_level() -> None:
    _, accuracy = fit("life")
    assert len(accuracy) == 4
    assert min(values[-1] for values in accuracy.values()) >= 0.99


def test_symbols_of_the_random_hierarchy_model_are_learned() -> None:
    _, accuracy = fit("random_hierarchy")
    for level, least in ((1, 0.999), (2, 0.99), (3, 0.95)):  # never 1 would be right in 7 of 8
        assert accuracy[level][-1] >= least


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_a_network_as_deep_as_the_bound_asks_for_has_no_margin_error(
    seed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = ["--data.data_seed", seed, "--model.weight_seed", seed]
    fit("zero_margin_error", *seeds)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("zero empirical margin error: y·ŷ ≥ 1 − ξ/2 for each label at all 6,400 training pairs; ")
    assert "; D = 21 meets the paper's bound, D ≥ 18 at this run's γ = 2." in line
    described = main(["describe", "--config", str(CONFIGS / "zero_margin_error.yaml"), *seeds]).described
    assert described.robustness == 0.1858 <= min(level.constants.robustness for level in described.levels)


@pytest.mark.parametrize("acceptance", ["gain", "strict"])
def test_labels_flipped_at_a_rate_of_a_tenth_are_learned(acceptance: str) -> None:
    _, accuracy = fit("exact", "--supervision.flip_probability", "0.1", "--layerwise.acceptance", acceptance)
    assert min(values[-1] for values in accuracy.values()) >= 0.99
