"""Cross-fitting: rows that are fitted go on with the scores of fits that left them out, against ridge in NumPy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain import Array, Table, automaton, features_of, hide, network, ridge, stream, tile, train_all, xors
from torch import Tensor

from hierlit.layerwise import Acceptance, ExactSolver, Folds, GradientSolver, LogisticLoss, Solver, StreamCache
from hierlit.models import HierarchicalResNet

SOLVERS: dict[str, Solver] = {"exact": ExactSolver([]), "gradient": GradientSolver(minibatch_epochs=2)}
PENALTY = 2.0**-3


def scores_of(rows: StreamCache, split: str = "fit") -> Array:
    return torch.cat([rows.net.scores(chunk.stream) for chunk in rows.chunks(split)]).numpy()


def rings(missing: float = 0.0) -> Table:
    table = automaton(30, n_levels=2, n_cells=8, flips=0.1)
    table.labels, table.batch_size = hide(table.labels, missing), 7
    return table


def fit(features: Array, scores: Array, labels: Array, penalty: Array) -> Array:
    """The ridge fit [n, q+1] to some rows."""
    design, before, truth = (part.reshape(-1, part.shape[2]) for part in (features, scores, labels))
    return ridge(design, truth - before, truth != 0, penalty)


def cross_fitted(net: HierarchicalResNet, table: Table, folds: Folds, penalties: list[Array]) -> tuple[Array, Array]:
    """Scores of the rows that are fitted, and of those set aside, after all blocks: by ridge fits in NumPy."""
    inputs, labels = (part.double().numpy() for part in table.rows("fit"))
    others = table.rows("held")[0].double().numpy()
    scores, held = np.zeros(labels.shape), np.zeros((*others.shape[:2], labels.shape[2]))
    own = folds.of(torch.arange(len(inputs))).numpy()
    for index, penalty in enumerate(penalties):
        seen = features_of(net, np.concatenate([inputs, scores], 2), index)
        apart = features_of(net, np.concatenate([others, held], 2), index)
        whole = fit(seen, scores, labels, penalty)
        weights = [
            fit(*(part[own != fold] for part in (seen, scores, labels)), penalty) for fold in range(folds.number)
        ]
        scores = scores + np.stack([row @ weights[fold].T for row, fold in zip(seen, own, strict=True)])
        held = held + apart @ whole.T
    return scores, held


@pytest.mark.parametrize(("number", "missing"), [(2, 0.0), (5, 0.3)])
@pytest.mark.parametrize("solver", SOLVERS)
def test_each_folds_rows_go_on_with_the_scores_of_a_fit_that_left_them_out(
    solver: str, number: int, missing: float
) -> None:
    table = rings(missing)
    net, folds = network(table, 2, 10).double(), Folds(number, len(table.inputs), seed=3)
    rows = stream(net, table, folds=folds)
    trained = train_all(net, rows, SOLVERS[solver], tolerance=1e-7, regularization=PENALTY)
    assert trained.reasons == ["gradient norm"] * 2
    fitted, held = cross_fitted(net, table, folds, [np.full(2, PENALTY)] * 2)
    # gradients of 1e-7 in a problem of this curvature, and features of the scores before
    np.testing.assert_allclose(scores_of(rows), fitted, rtol=0, atol=5e-5)
    np.testing.assert_allclose(scores_of(rows, "held"), held, rtol=0, atol=5e-5)
    own = net(table.rows()[0].double()).numpy()
    assert np.abs(own - fitted).max() > 0.01, "the network's own scores are of fits to all rows"


def test_all_fits_of_a_label_have_the_regularization_chosen_for_it() -> None:
    table = xors(200, n_held=50)
    net, folds = network(table, 1, 30).double(), Folds(4, len(table.inputs))
    rows = stream(net, table, folds=folds)
    trained = train_all(net, rows, ExactSolver())
    assert len(set(trained.penalty())) > 1
    fitted, held = cross_fitted(net, table, folds, [trained.penalty()])
    np.testing.assert_allclose(scores_of(rows), fitted, rtol=0, atol=1e-9)
    np.testing.assert_allclose(scores_of(rows, "held"), held, rtol=0, atol=1e-9)


def test_other_losses_are_minimised_without_the_fold() -> None:
    table = xors(60, n_held=0)
    net, folds, memory = network(table, 1, 8).double(), Folds(3, len(table.inputs)), {}
    rows = stream(net, table, folds=folds)
    options = {"tolerance": 1e-9, "regularization": PENALTY, "memory": memory}
    train_all(net, rows, ExactSolver([]), LogisticLoss(), **options)
    inputs, labels = table.rows()
    at = np.concatenate([inputs.numpy(), np.zeros(labels.shape)], 2)
    features, own = torch.from_numpy(features_of(net, at, 0)[:, 0]), folds.of(torch.arange(60))
    assert memory["by_fold"][0].shape == (3, 3, 9)
    for fold, weight in enumerate(memory["by_fold"][0]):
        weight = weight.clone().requires_grad_()
        margins = (labels[:, 0] * (features @ weight.T))[own != fold]
        loss = torch.log1p(torch.exp(-margins)).mean(0).sum() + PENALTY / 2 * weight.square().sum()
        assert float(torch.autograd.grad(loss, weight)[0].norm()) < 2e-9
        torch.testing.assert_close(
            rows.net.scores(next(rows.chunks("fit")).stream)[own == fold, 0],
            (features @ weight.T)[own == fold].detach(),
        )


@pytest.mark.parametrize("budget", [None, 0.0], ids=["in memory", "in files"])
@pytest.mark.parametrize("output", ["split", "orthogonal"])
def test_a_stream_filled_again_is_the_same_to_the_bit(output: str, budget: float | None) -> None:
    table = rings(0.2)
    net, folds = tile(network(table, 3, 10, output=output), 16), Folds(3, len(table.inputs), seed=1)
    memory: dict[str, list[Tensor]] = {}
    rows = stream(net, table, budget, folds)
    train_all(net, rows, ExactSolver(), acceptance=Acceptance("gain"), memory=memory)
    again = stream(net, table, None, folds, memory["by_fold"])
    without = stream(net, table, None, folds)
    for split in ("fit", "held"):
        for chunk, same, other in zip(*(each.chunks(split) for each in (rows, again, without)), strict=True):
            assert torch.equal(chunk.stream, same.stream)
            assert torch.equal(chunk.stream, other.stream) == (split == "held")


def test_a_label_that_is_not_accepted_passes_the_block_unchanged_in_every_fold() -> None:
    table = xors()
    table.labels[..., 2] = torch.randn(len(table.labels), 1, generator=torch.Generator().manual_seed(1)).sign()
    net, memory = network(table, 1, 100), {}
    rows = stream(net, table, folds=Folds(4, len(table.inputs)))
    report = train_all(net, rows, ExactSolver(), acceptance=Acceptance("gain"), memory=memory).reports[0]
    assert report.accepted_labels == [True, True, False]
    assert not memory["by_fold"][0][:, 2].any()
    assert memory["by_fold"][0][:, :2].abs().amax((1, 2)).min() > 0
    scores = scores_of(rows)
    assert not scores[..., 2].any() and scores[..., 0].all()


def test_the_network_is_that_of_fits_to_all_rows() -> None:
    table, states = rings(), []
    for folds in (None, Folds(3, len(table.inputs))):
        net = network(table, 1, 10).double()
        train_all(net, stream(net, table, folds=folds), ExactSolver(), LogisticLoss(), tolerance=1e-10)
        states.append(net.block(0).weight)
    torch.testing.assert_close(*states, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 7), st.integers(1, 60), st.integers(0, 1000))
def test_folds_are_a_partition_of_the_table_into_nearly_equal_parts(number: int, n_rows: int, seed: int) -> None:
    folds = Folds(number, n_rows, seed)
    own = folds.of(torch.arange(n_rows))
    counts = torch.bincount(own, minlength=number)
    assert len(counts) == number and int(counts.max() - counts.min()) <= 1
    some = torch.randperm(n_rows, generator=torch.Generator().manual_seed(seed))[:5]
    assert torch.equal(folds.of(some), own[some]), "whatever batch or process a row is in"
    assert torch.equal(Folds(number, n_rows, seed).of(some), own[some])


def test_another_seed_gives_other_folds_that_do_not_follow_the_order_of_rows() -> None:
    rows = torch.arange(100)
    one, two = (Folds(5, 100, seed).of(rows) for seed in (0, 1))
    assert not torch.equal(one, two)
    assert not torch.equal(one, rows % 5)


@pytest.mark.parametrize("rare", [1, -1])
def test_each_fold_has_its_share_of_the_rarer_sign_of_each_label(rare: int) -> None:
    generator, n_rows, number = torch.Generator().manual_seed(0), 300, 5
    labels = torch.full((n_rows, 1, 12), -rare)
    for label in range(12):
        labels[torch.randperm(n_rows, generator=generator)[: 10 + label], 0, label] = rare
    labels[torch.rand(labels.shape, generator=generator) < 0.02] = 0
    counts = []
    for of_labels in (labels, None):
        folds = Folds(number, n_rows, labels=of_labels).of(torch.arange(n_rows))
        assert folds.bincount(minlength=number).min() >= n_rows // number - 3
        counts.append(torch.stack([(labels[folds == fold, 0] == rare).sum(0) for fold in range(number)]))
    dealt, drawn = ((count.amax(0) - count.amin(0)).float().mean() for count in counts)
    assert counts[0].min() >= 1 and dealt <= 2 and drawn > 3


def test_labels_that_not_every_fold_can_have_leave_folds_to_chance() -> None:
    labels = torch.full((50, 2, 3), -1)
    labels[:4, 0, 0] = 1
    rows = torch.arange(50)
    assert torch.equal(Folds(5, 50, 1, labels).of(rows), Folds(5, 50, 1).of(rows))


def test_batches_of_the_rows_do_not_change_the_fits() -> None:
    found = []
    for batch_size in (5, 64):
        table = replace(rings(), batch_size=batch_size)
        net = network(table, 2, 10).double()
        rows = stream(net, table, folds=Folds(3, len(table.inputs)))
        train_all(net, rows, ExactSolver())
        found.append(scores_of(rows))
    np.testing.assert_allclose(*found, rtol=0, atol=1e-9)
