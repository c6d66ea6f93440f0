"""Labels that imply one another: found among training labels, used where rows left out say so."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from plain import Table, network, stream, train_all

from hierlit.layerwise import ExactSolver, Folds
from hierlit.layerwise.implications import Counts, implications
from hierlit.models import Calibration


def nested(n_rows: int, seed: int = 0) -> torch.Tensor:
    """Labels [rows, 1, 4] of which 0 implies 1, and that 2; the last is by itself."""
    draws = np.random.default_rng(seed).random((n_rows, 4))
    chain = np.cumprod(draws[:, :3] < [0.5, 0.5, 0.4], axis=1)[:, ::-1]
    return torch.from_numpy(np.where(np.concatenate([chain, draws[:, 3:] < 0.3], 1), 1, -1))[:, None]


def test_what_follows_is_found_too() -> None:
    assert implications(Counts.of(nested(400))).T.tolist() == [[0, 1], [0, 2], [1, 2]]


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_an_exception_is_enough_and_what_is_not_observed_is_none(share: float) -> None:
    labels = nested(400)
    labels[torch.from_numpy(np.random.default_rng(1).random(labels.shape) < share)] = 0
    assert [0, 1] in implications(Counts.of(labels)).T.tolist()
    labels[0] = torch.tensor([1, -1, 1, 1])
    assert implications(Counts.of(labels)).T.tolist() == [[0, 2], [1, 2]]


def test_what_would_follow_is_not_found_where_rows_contradict_it() -> None:
    """Rows that have 0 and not 2 show no 1: 0 implies 1, and 1 implies 2, as far as can be seen."""
    labels = nested(400)
    labels[(labels[:, 0, 0] > 0).nonzero()[:10, 0], :, 1:3] = torch.tensor([0, -1])
    counts = Counts.of(labels)
    assert not counts.broken[0, 1] and not counts.broken[1, 2] and counts.broken[0, 2]
    assert implications(counts).T.tolist() == [[1, 2]]


def test_labels_that_are_equal_imply_one_another() -> None:
    labels = nested(400)[..., [0, 0, 3]]
    assert implications(Counts.of(labels)).T.tolist() == [[0, 1], [1, 0]]


def test_independent_labels_hardly_imply_one_another() -> None:
    """200 tables of 30 labels, of which many have few rows: .01 of a label's implications are expected by chance."""
    found = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = np.where(rng.random((100, 30)) < rng.choice([0.02, 0.05, 0.5, 0.9], 30), 1, -1)
        found += implications(Counts.of(torch.from_numpy(labels[:, None]))).shape[1]
    assert found <= 0.01 * 30 * 200


def test_log_odds_agree_with_implications_and_change_no_more_than_that_asks() -> None:
    calibration = Calibration(4)
    calibration.implications = torch.tensor([[0, 0, 1], [1, 2, 2]])
    scores = torch.randn(200, 3, 4, generator=torch.Generator().manual_seed(0))
    found, plain = calibration.log_odds(scores), 2 * scores
    assert (found[..., 0] <= found[..., 1]).all() and (found[..., 1] <= found[..., 2]).all()
    above = torch.stack([plain[..., : label + 1].amax(-1) for label in range(3)], -1)
    below = torch.stack([plain[..., label:3].amin(-1) for label in range(3)], -1)
    torch.testing.assert_close(found, torch.cat([(above + below) / 2, plain[..., 3:]], -1))
    agreed = (plain[..., 0] <= plain[..., 1]) & (plain[..., 1] <= plain[..., 2])
    torch.testing.assert_close(found[agreed], plain[agreed])


@pytest.mark.parametrize("folds", [None, 4])
def test_a_run_uses_them_where_rows_left_out_say_that_they_help(folds: int | None) -> None:
    """Noise makes the scores of a label and of what it implies disagree."""
    labels = nested(600).double()
    noise = torch.from_numpy(np.random.default_rng(2).normal(size=(600, 1, 4)))
    rows, fresh = (Table((labels + 2 * noise)[of], labels[of], 60, 64) for of in (slice(300), slice(300, 600)))
    made = folds and Folds(folds, 300, labels=rows.labels)
    net = network(rows, 1, 40).double()
    train_all(net, stream(net, rows, folds=made), ExactSolver())
    assert net.calibration.implications.T.tolist() == [[0, 1], [0, 2], [1, 2]]
    found = net.calibration.log_odds(net(fresh.inputs))
    assert (found[..., 0] <= found[..., 1]).all() and (found[..., 1] <= found[..., 2]).all()

    shuffled = replace(rows, labels=torch.stack([labels[:300, :, 3].roll(shift, 0) for shift in range(4)], -1))
    net = network(shuffled, 1, 40).double()
    train_all(net, stream(net, shuffled, folds=made), ExactSolver())
    assert net.calibration.implications.shape == (2, 0)


@pytest.mark.parametrize(("columns", "expected"), [([[1, 3]], [[0, 2]]), ([[1, 3], [0, 2]], [])])
def test_classes_of_a_column_have_none(columns: list[list[int]], expected: list[list[int]]) -> None:
    """Their probabilities are divided by their sum, and would not agree."""
    labels = nested(300).double()
    noise = torch.from_numpy(np.random.default_rng(2).normal(size=(300, 1, 4)))
    rows = Table(labels + 2 * noise, labels, 60, 64)
    net = network(rows, 1, 40).double()
    net.calibration.set_classes(columns)
    train_all(net, stream(net, rows), ExactSolver())
    assert net.calibration.implications.T.tolist() == expected
