from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from plain import Doubled, Table, features_of, hide, network, problem, stream, tile
from torch import Tensor

import hierlit.layerwise.moments
from hierlit.layerwise import Folds, Processes
from hierlit.layerwise.moments import SetAsideErrors, add_product, leading_chunks
from hierlit.models import GaussianFeatures, HierarchicalResNet

D, N, G, Q, ROWS = 2, 3, 5, 11, 20
Pairs = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def table_of(missing: float = 0.3, n_rows: int = ROWS, seed: int = 0) -> Table:
    """A table of which 20 rows are to be fitted, in batches of 9, 9 and 2, and 6 are set aside."""
    draw = np.random.default_rng(seed)
    inputs = torch.from_numpy(draw.standard_normal((n_rows + 6, G, D)))
    labels = torch.from_numpy(draw.choice([-1.0, 1.0], (n_rows + 6, G, N)))
    return Table(inputs, hide(labels, missing, seed), n_held=6, batch_size=9)


def second_block(table: Table, input_scale: str = "live", output: str = "split") -> HierarchicalResNet:
    """A float64 network whose first block is trained."""
    features = GaussianFeatures(activation="tanh", input_scale=input_scale)
    net = network(table, 2, Q, output=output, features=features).double()
    net.block(0).set_weight(torch.randn(N, Q + 1, generator=torch.Generator().manual_seed(1)) / 3)
    net.n_trained.fill_(1)
    return net


def pairs(net: HierarchicalResNet, inputs: Tensor, labels: Tensor) -> Pairs:
    """Second-block features with a last constant one, scores before it and labels of all pairs, in float64 NumPy."""
    at = net.stream(inputs.to(net.block(0).weight)).double().numpy()
    parts = features_of(net, at, 1, np.tanh), at @ net.output_weight.double().numpy().T, labels.double().numpy()
    features, scores, truth = (part.reshape(-1, part.shape[2]) for part in parts)
    return features, scores, truth


def close(found: Tensor, expected: NDArray[np.float64]) -> None:
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("missing", [0.0, 0.3, 1.0])
def test_moments_are_means_over_the_training_pairs(missing: float) -> None:
    table = table_of(missing)
    net = second_block(table)
    block = problem(stream(net, table), 1)
    block.calibrate()
    moments = block.moments()
    features, scores, labels = pairs(net, *table.rows())
    assert moments.n_pairs == len(labels) == ROWS * G
    close(moments.gram, features.T @ features / len(labels))
    close(moments.cross, ((labels - scores) * (labels != 0)).T @ features / len(labels))
    assert moments.largest_eigenvalue == pytest.approx(np.linalg.eigvalsh(features.T @ features / len(labels))[-1])
    assert block.moments() is moments, "one pass, kept"
    assert block.with_penalty(2 * block.penalty).moments() is moments


@pytest.mark.parametrize("output", ["split", "orthogonal"])
@pytest.mark.parametrize("budget", [None, 0.0], ids=["kept", "recomputed"])
@pytest.mark.parametrize(("rows", "flush"), [(10**6, 8192), (16, 8192), (16, 6), (16, 13), (1, 1)])
def test_moments_do_not_depend_on_tiles_flushes_or_memory(
    rows: int, flush: int, budget: float | None, output: str, monkeypatch
) -> None:
    monkeypatch.setattr(hierlit.layerwise.moments, "FLUSH_PAIRS", flush)
    table = table_of()
    net = tile(second_block(table, output=output), rows)
    block = problem(stream(net, table, budget), 1)
    block.calibrate()
    block.rows.keep_features(block.block)
    assert {chunk.features is None for chunk in block.chunks()} == {budget == 0}
    features, scores, labels = pairs(net, *table.rows())
    close(block.moments().gram, features.T @ features / len(labels))
    close(block.moments().cross, ((labels - scores) * (labels != 0)).T @ features / len(labels))


def test_moments_in_single_precision_are_as_good_as_its_rounding() -> None:
    table = table_of(n_rows=2000)
    net = second_block(table).float()
    block = problem(stream(net, table), 1)
    block.calibrate()
    features, _, labels = pairs(net, *table.rows())
    assert len(labels) > hierlit.layerwise.moments.FLUSH_PAIRS
    expected = features.T @ features / len(labels)
    np.testing.assert_allclose(block.moments().gram, expected, rtol=0, atol=1e-6)
    worst = [np.abs(block.moments(dtype).gram.numpy() - expected).max() for dtype in (None, torch.float64)]
    assert worst[1] < worst[0]


@pytest.mark.parametrize("number", [2, 3])
def test_moments_of_folds_are_those_of_their_rows_and_of_the_others(number: int) -> None:
    table = table_of()
    net, folds = second_block(table), Folds(number, len(table.inputs), seed=1)
    block = problem(stream(net, table, folds=folds), 1)
    block.calibrate()
    inputs, labels = table.rows()
    own = folds.of(torch.arange(ROWS))
    features, scores, truth = pairs(net, inputs, labels)
    close(block.moments().gram, features.T @ features / len(truth))
    for fold in range(number):
        features, scores, truth = pairs(net, inputs[own != fold], labels[own != fold])
        others = block.without(fold)
        moments = others.moments()
        assert moments is others.moments(), "made again in each pass, and its largest eigenvalue with it"
        assert moments.n_pairs == others.n_pairs == len(truth)
        np.testing.assert_allclose(moments.gram, features.T @ features / len(truth), rtol=0, atol=1e-13)
        residual = (truth - scores) * (truth != 0)
        np.testing.assert_allclose(moments.cross, residual.T @ features / len(truth), rtol=0, atol=1e-13)


def test_moments_of_leading_chunks_are_theirs_alone() -> None:
    table = table_of()
    net = second_block(table, input_scale="rms")
    whole = problem(stream(net, table), 1)
    whole.calibrate()
    mean, scale = net.block(1).features.mean.clone(), float(net.block(1).features.scale)
    part = whole.leading(10 * G)
    part.calibrate()
    features, scores, labels = pairs(net, *(rows[:18] for rows in table.rows()))
    close(part.moments().gram, features.T @ features / len(labels))
    close(part.power, (((labels - scores) * (labels != 0)) ** 2).mean(0))
    assert part.moments().n_pairs == 18 * G < whole.moments().n_pairs
    assert all(chunk.features is None for split in ("fit", "held") for chunk in part.chunks(split))
    # scale and mean are those of all rows either way
    assert torch.equal(net.block(1).features.mean, mean)
    assert float(net.block(1).features.scale) == scale


def test_the_mean_is_that_of_enough_leading_pairs(monkeypatch) -> None:
    table = table_of()
    net = second_block(table)
    block = problem(stream(net, table), 1)
    inputs, labels = table.rows()
    for n_pairs, n_rows in ((1, 9), (9 * G, 9), (9 * G + 1, 18), (10**6, ROWS)):
        monkeypatch.setattr(hierlit.layerwise.moments, "MEAN_PAIRS", n_pairs)
        block.calibrate()
        features, _, _ = pairs(net, inputs[:n_rows], labels[:n_rows])
        np.testing.assert_allclose(features[:, :-1].mean(0), 0, atol=1e-14)
        if n_rows < ROWS:
            others, _, _ = pairs(net, inputs[n_rows:], labels[n_rows:])
            assert abs(others[:, :-1].mean(0)).max() > 1e-3


@pytest.mark.parametrize("input_scale", ["fan_in", "live", "rms"])
def test_the_scale_gives_windows_the_squared_norm_of_their_length(input_scale: str) -> None:
    table = table_of()
    table.inputs[..., 0] = 3.0  # of the channels, four of five vary
    net = second_block(table, input_scale)
    problem(stream(net, table), 1).calibrate()
    at = net.stream(table.rows()[0].double())
    power = {"fan_in": 5.0, "live": 4.0, "rms": float(at.square().mean((0, 1)).sum())}[input_scale]
    assert float(net.block(1).features.scale) == pytest.approx((5 / power) ** 0.5)


@pytest.mark.parametrize(("n_pairs", "leading"), [(1, 1), (9 * G, 1), (9 * G + 1, 2), (18 * G + 1, 3)])
def test_leading_chunks_are_counted_over_all_processes(n_pairs: int, leading: int) -> None:
    table = table_of()
    block = problem(stream(second_block(table), table), 1)
    assert leading_chunks(block, n_pairs) == leading
    assert leading_chunks(replace(block, processes=Doubled()), 2 * n_pairs) == leading


def test_sums_over_processes_are_divided_by_the_pairs_of_all() -> None:
    table = table_of()
    net, found = second_block(table, input_scale="rms"), []
    for processes in (Processes(), Doubled()):
        block = replace(problem(stream(net, table), 1), processes=processes)
        block.calibrate()
        drawn = net.block(1).features
        found.append((block.moments(), block.power, block.offset, drawn.mean.clone(), drawn.scale.clone()))
    (one, *others), (two, *same) = found
    assert two.n_pairs == 2 * one.n_pairs
    for name in ("gram", "cross"):
        torch.testing.assert_close(getattr(two, name), getattr(one, name))
    torch.testing.assert_close(others, same)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 23), st.integers(0, 30), st.integers(0, 10_000))
def test_a_symmetric_product_is_added_on_and_above_the_diagonal(width: int, n_rows: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    total, rows = draw.standard_normal((width, width)), draw.standard_normal((n_rows, width))
    found = torch.from_numpy(total.copy())
    add_product(found, torch.from_numpy(rows))
    np.testing.assert_allclose(np.triu(found), np.triu(total + rows.T @ rows), rtol=1e-12, atol=1e-12)


def test_features_that_are_not_finite_are_an_error_of_one_line() -> None:
    table = table_of()
    table.inputs[3, 1, 0] = 1e200  # its square is more than a number can be
    block = problem(stream(network(table, 2, Q).double(), table), 1)
    block.calibrate()
    with pytest.raises(FloatingPointError, match="the features are not finite in block 2: check the size of the inpu"):
        block.moments()


def squared_errors(rows: Pairs, weights: Tensor) -> SetAsideErrors:
    """What `held_errors` should find, label by label over the rows where it is observed."""
    features, scores, labels = rows
    before, after, observed = np.zeros(N), np.zeros((len(weights), N)), np.zeros(N)
    for label in range(N):
        seen = labels[:, label] != 0
        observed[label] = seen.sum()
        if seen.any():
            residual = (labels - scores)[seen, label]
            before[label] = residual.var()
            left = residual - weights[:, label].numpy() @ features[seen].T
            after[:, label] = (left**2).mean(1)
    return SetAsideErrors(*(torch.from_numpy(part) for part in (before, after, observed)))


@pytest.mark.parametrize("budget", [None, 0.0], ids=["kept", "recomputed"])
@pytest.mark.parametrize("missing", [0.0, 0.5])
def test_set_aside_errors_are_those_of_the_observed_set_aside_pairs(missing: float, budget: float | None) -> None:
    table = table_of(missing)
    table.labels[ROWS:, :, 1] = 0
    net = tile(second_block(table), 16)
    block = problem(stream(net, table, budget), 1)
    block.calibrate()
    block.rows.keep_features(block.block)
    assert {chunk.features is None for chunk in block.chunks("held")} == {budget == 0}
    weights = torch.randn(4, N, Q + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found, expected = block.held_errors(weights), squared_errors(pairs(net, *table.rows("held")), weights)
    for name in ("before", "after", "observed"):
        close(getattr(found, name), getattr(expected, name).numpy())
    assert found.observed[1] == 0
    twice = replace(block, processes=Doubled()).held_errors(weights)
    close(twice.after, expected.after.numpy())
    close(twice.observed, 2 * expected.observed.numpy())


@pytest.mark.parametrize("hidden", [None, 1])
def test_rough_errors_are_those_of_the_set_aside_pairs_where_all_is_observed(hidden: int | None) -> None:
    table = table_of(0.0)
    if hidden is not None:
        table.labels[ROWS:, :, hidden] = 0
    net = tile(second_block(table), 16)
    block = problem(stream(net, table), 1)
    block.calibrate()
    weights = torch.randn(4, N, Q + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = squared_errors(pairs(net, *table.rows("held")), weights)
    for here, times in ((block, 1), (replace(block, processes=Doubled()), 2)):
        found = here.rough_errors(weights)
        seen = [label for label in range(N) if label != hidden]
        close(found.before[seen], expected.before[seen].numpy())
        close(found.after[:, seen], expected.after[:, seen].numpy())
        close(found.observed, times * expected.observed.numpy())
        assert torch.isfinite(found.after).all()


def test_rough_errors_take_observed_pairs_for_a_sample_of_all() -> None:
    whole, part = table_of(0.0), table_of(0.0)
    part.labels[ROWS:, ::2] = 0
    rough, exact = [], []
    for table in (whole, part):
        block = problem(stream(tile(second_block(whole), 16), table), 1)
        block.calibrate()
        moments = block.moments()
        weights = torch.linalg.solve(moments.gram + 0.1 * torch.eye(Q + 1), moments.cross.T).T[None]
        rough.append(block.rough_errors(weights))
        exact.append(block.held_errors(weights))
    close(rough[0].after, exact[0].after.numpy())
    assert (rough[1].after / exact[1].after - 1).abs().max() < 0.5
    assert (rough[1].after != exact[1].after).any()


@pytest.mark.parametrize("kind", ["held_errors", "rough_errors"])
def test_without_set_aside_rows_nothing_is_observed(kind: str) -> None:
    table = Table(*table_of().rows(), batch_size=9)
    block = problem(stream(second_block(table), table), 1)
    errors = getattr(block, kind)(torch.zeros(2, N, Q + 1).double())
    assert not errors.observed.any()
    assert torch.isfinite(errors.after).all()
