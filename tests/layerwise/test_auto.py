"""Radial units or cosines: which are chosen, and the λ of cosines against scikit-learn's folds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plain import ALL, Table, Trained, label_loss, network, problem, stream, train_all
from sklearn.linear_model import Ridge

from hierlit.layerwise import AutoSolver, BlockReport, Folds, KernelSolver, Solver, train
from hierlit.layerwise.auto import best_penalties
from hierlit.metrics import average_precision
from hierlit.models import CosineFeatures, HierarchicalResNet, RadialFeatures

FOLDS = 4


def fitted(rows: Table, solver: Solver, n_blocks: int = 3) -> tuple[HierarchicalResNet, Trained]:
    net = network(rows, n_blocks, len(rows.inputs), features=RadialFeatures()).double()
    return net, train_all(net, stream(net, rows, folds=Folds(FOLDS, len(rows.inputs))), solver)


def smooth(n_rows: int, seed: int = 0) -> Table:
    """Normal inputs [N, 1, 6], and labels that depend on all of them, with noise."""
    draw = np.random.default_rng(seed)
    x, centres = draw.normal(size=(n_rows, 6)), np.random.default_rng(9).normal(size=(12, 6))
    bumps = np.exp(-((x[:, None] - centres) ** 2).sum(2) / 8)
    labels = np.sign(bumps[:, :6] - bumps[:, 6:] + 0.1 * draw.normal(size=(n_rows, 6)))
    return Table(torch.from_numpy(x)[:, None], torch.from_numpy(labels)[:, None], 0, 64)


def hierarchy(n_rows: int, seed: int = 0) -> Table:
    """Signs [N, 1, 20], XORs of two of the first eight, and XORs of two of these."""
    x = torch.from_numpy(np.random.default_rng(seed).choice([-1.0, 1.0], (n_rows, 1, 20)))
    first = x[..., :8:2] * x[..., 1:8:2]
    return Table(x, torch.cat([first, first[..., :2] * first[..., 2:]], -1), 0, 64)


def precision(net: HierarchicalResNet, rows: Table) -> float:
    return average_precision(net(rows.inputs), rows.labels)


def test_functions_of_few_inputs_and_of_other_labels_have_cosines() -> None:
    rows, fresh = hierarchy(350), hierarchy(500, seed=1)
    net, trained = fitted(rows, AutoSolver())
    assert all(block.features.are_cosines for block in net.blocks)
    assert precision(net, fresh) > 0.999
    assert trained.reasons[:2] == ["gradient norm"] * 2


def test_smooth_functions_of_all_inputs_are_the_kernel_solver_s_to_the_bit() -> None:
    rows = smooth(200)
    net, trained = fitted(rows, AutoSolver())
    kernel, expected = fitted(rows, KernelSolver())
    assert trained.reasons == expected.reasons
    different = [key for key, value in kernel.state_dict().items() if not torch.equal(value, net.state_dict()[key])]
    assert different == []


def test_cosines_end_with_the_block_that_gains_nothing() -> None:
    net, trained = fitted(hierarchy(500), AutoSolver(), n_blocks=6)
    assert trained.reasons[-1] == "no gain"
    assert 2 < len(trained.reasons) < 6
    n_cosines = [block.features.n_features for block in net.blocks]
    assert n_cosines[0] == 500 and n_cosines[len(trained.reasons) - 1] == 0


@pytest.mark.parametrize(("n_rows", "n_features"), [(300, 60), (100, 600)])
def test_the_penalty_of_a_label_is_that_of_least_error_on_folds_left_out(n_rows: int, n_features: int) -> None:
    """By scikit-learn's ridge, each λ is better on folds left out than a tenth of it and ten times it are."""
    rows = smooth(n_rows)
    net = network(rows, 1, n_features, features=CosineFeatures()).double()
    block = problem(stream(net, rows, folds=Folds(FOLDS, n_rows)))
    block.calibrate()
    features = net.block(0).features(net.windows(net.embed(rows.inputs)))[:, 0].numpy()
    columns = np.hstack([features, np.ones((n_rows, 1))])  # F_k penalises its intercept too
    labels, folds = rows.labels[:, 0].numpy(), Folds(FOLDS, n_rows).of(torch.arange(n_rows)).numpy()

    def error(label: int, penalty: float) -> float:
        total = 0.0
        for fold in range(FOLDS):
            seen = folds != fold
            ridge = Ridge(penalty * seen.sum(), fit_intercept=False, solver="cholesky").fit(
                columns[seen], labels[seen, label]
            )
            total += ((ridge.predict(columns[~seen]) - labels[~seen, label]) ** 2).sum()
        return total

    for label, modulus in enumerate(best_penalties(block).tolist()):
        assert error(label, modulus) < min(error(label, factor * modulus) for factor in (0.1, 10.0))


@pytest.mark.parametrize("n_features", [40, 2000])
def test_cosines_are_a_thousand_or_as_few_as_units(n_features: int) -> None:
    rows = hierarchy(300)
    net = network(rows, 1, n_features, features=RadialFeatures()).double()
    train_all(net, stream(net, rows, folds=Folds(FOLDS, 300)), AutoSolver())
    assert net.block(0).features.are_cosines
    assert net.block(0).features.n_features == min(1000, n_features)


def test_a_state_dict_says_what_units_are() -> None:
    rows = hierarchy(300)
    net, _ = fitted(rows, AutoSolver(), n_blocks=2)
    other = network(rows, 2, 300, features=RadialFeatures()).double()
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(rows.inputs), net(rows.inputs))
    kernel, _ = fitted(smooth(100), KernelSolver(), n_blocks=2)
    again = network(smooth(100), 2, 100, features=RadialFeatures()).double()
    again.load_state_dict(kernel.state_dict())
    assert torch.equal(again(smooth(100).inputs), kernel(smooth(100).inputs))


def test_a_block_that_is_opened_again_is_the_same() -> None:
    """As on resuming with other settings, where the memory and the network are those of a start before."""
    rows = hierarchy(500)
    net = network(rows, 2, 500, features=RadialFeatures()).double()
    cache, memory = stream(net, rows, folds=Folds(FOLDS, 500)), {}
    events = train(net, cache, AutoSolver(), label_loss(None), acceptance=ALL, memory=memory)
    next(event for event in events if isinstance(event, BlockReport))
    next(events)  # block 2 is under way
    opened, cosines = net.block(1).features.weight.clone(), list(memory["cosines"])
    assert len(cosines) == 2 and len(opened)
    next(train(net, cache, AutoSolver(), label_loss(None), acceptance=ALL, memory=memory))
    assert torch.equal(net.block(1).features.weight, opened)
    assert memory["cosines"] == cosines


@pytest.mark.parametrize("seed", range(4))
def test_labels_of_noise_have_no_cosines(seed: int) -> None:
    draw = np.random.default_rng(seed)
    noise = Table(
        torch.from_numpy(draw.normal(size=(300, 1, 8))), torch.from_numpy(draw.choice([-1.0, 1.0], (300, 1, 4)))
    )
    net, _ = fitted(noise, AutoSolver())
    assert not any(block.features.are_cosines for block in net.blocks)


def test_what_it_cannot_work_with_names_it() -> None:
    net = network(hierarchy(30), 1, 10)
    problems = AutoSolver().refusals(net, label_loss(None), None)
    assert problems[0].startswith("AutoSolver needs RadialFeatures, got ")
    assert problems[1:] == ["AutoSolver needs layerwise.folds of 2 or more, got null"]
