"""discover: levels and parents from rows and labels alone, nothing where there is nothing, and what it leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kstest

from hierlit import ArrayHierarchy, LocatedArrays, Window1d
from hierlit.cli import main
from hierlit.discovery import Agreement, DiscoverOptions, Hierarchy, discover
from hierlit.discovery.levels import find_levels
from hierlit.discovery.parents import find_parents
from hierlit.discovery.rows import LabelledRows
from hierlit.discovery.significance import explained, median_interval, over_splits, permutation_p

CONF = Path(__file__).parents[1] / "conf"
EXACT = ["automaton", "exact", "joint", "paper", "adaptive", "exact_juntas", "juntas", "tree"]
QUICK = DiscoverOptions(seeds=3, n_blocks=3, n_features=100, n_permutations=199, null=False)


def parities(n_rows: int = 240, **data: object) -> ArrayHierarchy:
    """Two XORs of inputs, their XOR, and a coin."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (n_rows, 11))
    first, second = signs[:, 0] * signs[:, 1], signs[:, 2] * signs[:, 3]
    return ArrayHierarchy(signs[:, :10], np.stack([first * second, first, signs[:, 10], second], 1), **data)


def run(config: str, *args: str) -> pd.DataFrame:
    main(["discover", "--config", str(CONF / f"{config}.yaml"), *args])
    return pd.read_csv("lightning_logs/discover/version_0/discovered_levels.csv", keep_default_na=False)


def test_levels_and_parents_of_parities_and_none_of_a_coin() -> None:
    found = discover(parities(), QUICK)
    assert found.levels.level.tolist() == [2, 1, 0, 1]
    assert found.edges.pairs() == {(1, 0), (3, 0)}
    assert found.known is None and found.agreement is None
    assert found.levels.one_block[:, 0].max() < 0.5, "one block does not see a parity of four"


def test_a_label_that_is_sometimes_not_observed_keeps_its_place() -> None:
    data = parities(360)
    inputs, labels = (table.clone() for table in data.make_tables()["train"])
    labels[torch.rand(labels.shape, generator=torch.Generator().manual_seed(0)) < 0.1] = 0
    found = discover(ArrayHierarchy(inputs, labels), QUICK)
    assert found.levels.level.tolist() == [2, 1, 0, 1]
    assert found.edges.pairs() == {(1, 0), (3, 0)}


def test_null_models_find_nothing() -> None:
    rows = LabelledRows.of(parities(), None, None)
    assert not find_levels(rows.with_shuffled_rows(0), QUICK).found.any()
    edges = find_parents(rows.with_shuffled_labels(0), np.array([2, 1, 1, 1]), QUICK)
    assert len(edges.p) == 3 and not edges.found.any()


def test_the_nulls_shuffle_what_they_should() -> None:
    rows = LabelledRows.of(parities(), None, None)
    together, apart = rows.with_shuffled_rows(0).labels[:, 0], rows.with_shuffled_labels(0).labels[:, 0]
    assert (together[:, 0] == together[:, 1] * together[:, 3]).all()
    assert 0.3 < float((apart[:, 0] == apart[:, 1] * apart[:, 3]).float().mean()) < 0.7
    for shuffled in (together, apart):
        assert torch.equal(shuffled.sum(0), rows.labels[:, 0].sum(0))
        assert not torch.equal(shuffled, rows.labels[:, 0])


def test_the_command_writes_tables_a_graph_and_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--discover.seeds", "1", "--discover.n_blocks", "3", "--discover.n_features", "100"]
    levels = run("automaton", *small)
    assert levels["level"].tolist() == levels["known_level"].tolist() == [1, 2, 3]
    assert levels["parents"].tolist() == ["", "y0", "y1"]
    folder = Path("lightning_logs/discover/version_0")
    edges = pd.read_csv(folder / "discovered_edges.csv")
    assert (edges["is_edge"] == edges["is_known"]).all() and len(edges) == 3
    assert (folder / "graph.png").read_bytes().startswith(b"\x89PNG")
    report = (folder / "report.html").read_text()
    assert "As predicted" in report and '<figure id="graph">' in report
    printed = capsys.readouterr().out
    assert "the null models found 0 labels predictable, and 0 edges" in printed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("config", EXACT)
def test_levels_and_parents_are_exact(config: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(config, "--data.data_seed", str(seed))
    assert "As predicted" in Path("lightning_logs/discover/version_0/report.html").read_text()


@pytest.mark.slow
def test_null_models_find_nothing_in_one_run_of_twenty_or_fewer() -> None:
    rows = LabelledRows.of(parities(), None, None)
    found = [find_levels(rows.with_shuffled_rows(seed), QUICK).found.any() for seed in range(20)]
    level = np.array([2, 1, 1, 1])
    edges = [find_parents(rows.with_shuffled_labels(seed), level, QUICK).found.any() for seed in range(20)]
    assert sum(found) <= 1 and sum(edges) <= 1


def test_p_values_of_scores_that_know_nothing_are_uniform() -> None:
    draws = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 60, 1, 300, generator=draws)
    labels = torch.randn(60, 1, 300, generator=draws).sign()
    assert kstest(permutation_p(scores, labels, 99, 0), "uniform").pvalue > 0.01
    assert permutation_p(labels[None].repeat(2, 1, 1, 1), labels, 99, 0).max() == pytest.approx(0.01)
    assert permutation_p(torch.zeros(2, 60, 1, 300), labels, 99, 0).min() == 1


def test_p_values_are_uniform_where_rows_differ_in_their_locations() -> None:
    draws = torch.Generator().manual_seed(0)
    exists = (torch.arange(9) < torch.randint(1, 10, (60, 1), generator=draws)).float()[..., None]
    scores = torch.randn(2, 60, 9, 300, generator=draws) * exists
    labels = torch.randn(60, 9, 300, generator=draws).sign() * exists
    assert kstest(permutation_p(scores, labels, 99, 0, exists), "uniform").pvalue > 0.01
    assert permutation_p(labels[None], labels, 99, 0, exists).max() == pytest.approx(0.01)


def lines(n_rows: int = 90) -> LocatedArrays:
    """Sequences of two to ten signs: products of neighbours, products of those, and coins."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(2, 11, n_rows)
    signs = draw.choice([-1.0, 1.0], (n_rows, 12, 2))
    first = signs[:, 1:, 0] * signs[:, :-1, 0]
    labels = np.stack([first[:, 1:] * first[:, :-1], first[:, :-1], signs[:, :10, 1]], 2)
    exists = (np.arange(10) < lengths[:, None])[..., None]
    labels[:, :, 0] *= np.arange(10) < lengths[:, None] - 2  # what lies beyond the end is not seen
    labels[:, :, 1] *= np.arange(10) < lengths[:, None] - 1
    given = {"inputs": signs[:, :10, :1] * exists, "labels": labels * exists, "lengths": lengths}
    np.savez("lines.npz", **given)
    return LocatedArrays("lines.npz", lengths="lengths", label_names=["second", "first", "coin"])


def test_lines_of_different_lengths_have_levels_and_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = lines()
    rows = LabelledRows.of(data, None, 50)
    assert rows.proximity == Window1d(7, periodic=False) and rows.masked and len(rows.inputs) == 50
    assert not rows.labels[rows.exists.expand_as(rows.labels) == 0].any()
    found = discover(data, QUICK, Window1d(3, periodic=False))
    assert found.names == ["second", "first", "coin"]
    assert found.levels.level.tolist() == [2, 1, 0]
    assert found.edges.pairs() == {(1, 0)}
    assert not find_levels(rows.with_shuffled_rows(0), QUICK).found.any()


def test_variance_explained_is_the_squared_correlation_over_what_is_observed() -> None:
    draws = np.random.default_rng(0)
    scores, labels = draws.normal(size=(50, 2, 3)), draws.choice([-1.0, 0.0, 1.0], (50, 2, 3))
    expected = []
    for label in range(3):
        seen = labels[..., label] != 0
        expected.append(max(0, np.corrcoef(scores[..., label][seen], labels[..., label][seen])[0, 1]) ** 2)
    np.testing.assert_allclose(explained(torch.tensor(scores), torch.tensor(labels)), expected, atol=1e-12)


def test_splits_are_combined_by_twice_the_median_and_by_order_statistics() -> None:
    np.testing.assert_allclose(over_splits(np.array([[0.01, 0.9], [0.02, 0.8], [0.5, 0.7]])), [0.04, 1])
    middle, low, high = median_interval(np.array([[3.0], [1.0], [2.0], [9.0], [2.0]]))
    assert (middle, low, high) == (2, 1, 9)


def test_agreement_counts_edges_and_lineages() -> None:
    known = Hierarchy([1, 2, 3, 1], [[], [0], [1], []])
    agreement = Agreement.of(known, np.array([1, 2, 3, 0]), {(0, 1), (0, 2)})
    assert agreement.correlation[0] == pytest.approx(1)
    assert (agreement.levels.right, agreement.levels.of) == (3, 3)
    assert agreement.precision is not None and (agreement.precision.right, agreement.precision.of) == (1, 2)
    assert agreement.lineage is not None and agreement.lineage.right == 2
    assert agreement.recall is not None and (agreement.recall.right, agreement.recall.of) == (1, 2)
    assert not agreement.is_exact(4)


def test_wrong_options_are_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"seeds must be a positive integer, got 0; rate must be in \(0, 1\), got 2"):
        DiscoverOptions(seeds=0, rate=2)
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["discover", "--config", str(CONF / "automaton.yaml"), "--discover.nearness", "1.5"])
    assert "nearness must be in (0, 1), got 1.5" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["discover", "--config", str(CONF / "automaton.yaml"), "--data.n_train", "2", "--data.n_val", "2"])
    assert "at least 10 training and validation rows, got 4" in capsys.readouterr().err
    assert not Path("lightning_logs").exists()
