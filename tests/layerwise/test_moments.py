from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

import hierlit.layerwise.moments
from hierlit.data.base import Batch
from hierlit.layerwise.losses import HybridMarginLoss, LogisticLoss, MarginLoss, SquaredLoss
from hierlit.layerwise.moments import SetAsideErrors, add_product, calibrate, leading_chunks, set_aside_errors
from hierlit.layerwise.stream import StreamCache
from hierlit.layerwise.unobserved import LabelLoss
from hierlit.models import GaussianFeatures, HierarchicalResNet, Window1d
from hierlit.models.first_layer import TILE

D, N, G, Q = 2, 3, 5, 11
SIZES = (9, 4, 7)
Pairs = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def alone(total: Tensor) -> Tensor:
    """The sum over one process."""
    return total


def hinge(z: NDArray[np.float64], margin: float, smoothing: float) -> NDArray[np.float64]:
    gap = 1 - z / margin
    return np.where(gap < smoothing, np.maximum(gap, 0) ** 2 / (2 * smoothing), gap - smoothing / 2)


def paper(z: NDArray[np.float64], n_pairs: int) -> NDArray[np.float64]:
    """The paper's preset with B = ξ = 1: both margins are 1/2."""
    return (1 + 1 / (4 * n_pairs)) * hinge(z, 0.5, 0.5)


SQUARED, PAPER = LabelLoss(SquaredLoss()), LabelLoss(HybridMarginLoss("paper", n_pairs=200))

LOSSES: dict[str, tuple[MarginLoss, Callable[[NDArray[np.float64], int], NDArray[np.float64]]]] = {
    "squared": (SquaredLoss(), lambda z, n_pairs: (1 - z) ** 2 / 2),
    "logistic": (LogisticLoss(), lambda z, n_pairs: np.logaddexp(0, -z)),
    "paper": (HybridMarginLoss("paper"), paper),
}


def second_block(output: str = "split", **arguments: object) -> HierarchicalResNet:
    """A float64 network whose first block is trained."""
    features = GaussianFeatures(activation="tanh", **arguments)
    net = HierarchicalResNet(D, N, G, Window1d(3), 2, Q, features, output).double()
    net.block(0).weight.copy_(torch.randn(N, Q + 1, generator=torch.Generator().manual_seed(1)) / 3)
    net.n_trained.fill_(1)
    return net


def batches(missing: float = 0.3, sizes: tuple[int, ...] = SIZES, seed: int = 0) -> list[Batch]:
    draw, made, first = np.random.default_rng(seed), [], 0
    for size in sizes:
        labels = draw.choice([-1.0, 1.0], (size, G, N)) * (draw.random((size, G, N)) >= missing)
        inputs = torch.from_numpy(draw.standard_normal((size, G, D)))
        made.append(Batch(inputs, torch.from_numpy(labels), torch.arange(first, first + size)))
        first += size
    return made


def cache(net: HierarchicalResNet, budget: float | None = None, **splits: list[Batch]) -> StreamCache:
    streams = StreamCache(net, budget)
    streams.open()
    for split, made in splits.items():
        streams.fill(split, made)
    return streams


def pairs(net: HierarchicalResNet, made: list[Batch]) -> Pairs:
    """Second-block features with a last constant one, scores before it and labels of all pairs, in float64 NumPy."""
    features, before, labels = [], [], []
    drawn = net.block(1).features
    weight, bias, scale, mean = (part.numpy() for part in (drawn.weight, drawn.bias, drawn.scale, drawn.mean))
    for batch in made:
        stream = net.stream(batch.inputs).numpy()
        scores = stream @ net.output_weight.numpy().T
        windows = np.concatenate([np.roll(stream, shift, axis=1) for shift in (1, 0, -1)], axis=2)
        hidden = np.tanh(scale * windows @ weight.T + bias) - mean
        features.append(np.concatenate([hidden, np.ones((*hidden.shape[:2], 1))], 2).reshape(-1, Q + 1))
        before.append(scores.reshape(-1, N))
        labels.append(batch.labels.numpy().reshape(-1, N))
    return np.concatenate(features), np.concatenate(before), np.concatenate(labels)


def close(found: Tensor, expected: NDArray[np.float64]) -> None:
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("missing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("loss", LOSSES)
def test_moments_are_means_over_the_training_pairs(loss: str, missing: float) -> None:
    net, made = second_block(), batches(missing)
    moments = calibrate(net, 1, cache(net, train=made), alone, LabelLoss(LOSSES[loss][0]))
    features, scores, labels = pairs(net, made)
    residual = (labels - scores) * (labels != 0)
    assert moments.n_pairs == len(labels) == sum(SIZES) * G
    close(moments.gram, features.T @ features / len(labels))
    close(moments.cross, residual.T @ features / len(labels))
    close(moments.power, (residual**2).mean(0))
    close(moments.objective, (LOSSES[loss][1](labels * scores, len(labels)) * (labels != 0)).mean(0))


@pytest.mark.parametrize("output", ["split", "orthogonal"])
@pytest.mark.parametrize("budget", [None, 0.0], ids=["kept", "recomputed"])
@pytest.mark.parametrize(("tile", "flush"), [(2**20, 8192), (Q * 6, 8192), (Q * 6, 6), (Q * 6, 13), (1, 1)])
def test_moments_do_not_depend_on_tiles_flushes_or_memory(
    tile: int, flush: int, budget: float | None, output: str, monkeypatch
) -> None:
    monkeypatch.setitem(TILE, "cpu", tile)
    monkeypatch.setattr(hierlit.layerwise.moments, "FLUSH_PAIRS", flush)
    net, made = second_block(output), batches()
    streams = cache(net, budget, train=made)
    moments = calibrate(net, 1, streams, alone, SQUARED)
    assert {chunk.features is None for chunk in streams.chunks("train")} == {budget == 0}
    features, scores, labels = pairs(net, made)
    residual = (labels - scores) * (labels != 0)
    close(moments.gram, features.T @ features / len(labels))
    close(moments.cross, residual.T @ features / len(labels))
    close(moments.power, (residual**2).mean(0))


def test_moments_in_single_precision_are_as_good_as_its_rounding() -> None:
    net, made = second_block().float(), batches(sizes=(2000,))
    made = [Batch(batch.inputs.float(), batch.labels.float(), batch.index) for batch in made]
    moments = calibrate(net, 1, cache(net, train=made), alone, SQUARED)
    features, _, labels = pairs(net, made)
    assert len(labels) > hierlit.layerwise.moments.FLUSH_PAIRS
    np.testing.assert_allclose(moments.gram, features.T.astype(float) @ features / len(labels), rtol=0, atol=1e-6)


def test_moments_of_leading_chunks_are_theirs_alone_and_keep_no_features() -> None:
    net, made = second_block(input_scale="rms"), batches()
    streams = cache(net, train=made, held=batches(seed=1))
    whole = calibrate(net, 1, streams, alone, LabelLoss(LogisticLoss()))
    mean, scale = net.block(1).features.mean.clone(), float(net.block(1).features.scale)
    assert all(chunk.features is not None for split in ("train", "held") for chunk in streams.chunks(split))
    streams = cache(net, train=made, held=batches(seed=1))
    part = calibrate(net, 1, streams, alone, LabelLoss(LogisticLoss()), leading=2)
    assert all(chunk.features is None for split in ("train", "held") for chunk in streams.chunks(split))
    features, scores, labels = pairs(net, made[:2])
    close(part.gram, features.T @ features / len(labels))
    close(part.objective, (np.logaddexp(0, -labels * scores) * (labels != 0)).mean(0))
    assert part.n_pairs == 13 * G < whole.n_pairs
    # scale and mean are those of all rows either way
    assert torch.equal(net.block(1).features.mean, mean)
    assert float(net.block(1).features.scale) == scale


def test_the_mean_is_that_of_enough_leading_pairs(monkeypatch) -> None:
    net, made = second_block(), batches()
    streams = cache(net, train=made)
    for n_pairs, leading in ((1, 1), (9 * G, 1), (9 * G + 1, 2), (10**6, 3)):
        monkeypatch.setattr(hierlit.layerwise.moments, "MEAN_PAIRS", n_pairs)
        calibrate(net, 1, streams, alone, SQUARED)
        features, _, _ = pairs(net, made[:leading])
        np.testing.assert_allclose(features[:, :-1].mean(0), 0, atol=1e-14)
        assert abs(pairs(net, made[leading:] or made)[0][:, :-1].mean(0)).max() > (1e-3 if leading < 3 else -1)


@pytest.mark.parametrize(("n_pairs", "leading"), [(1, 1), (9 * G, 1), (9 * G + 1, 2), (18 * G + 1, 3)])
def test_leading_chunks_are_counted_over_all_processes(n_pairs: int, leading: int) -> None:
    net = second_block()
    streams = cache(net, train=batches())
    assert leading_chunks(net, streams, alone, n_pairs) == leading
    assert leading_chunks(net, streams, lambda total: 2 * total, 2 * n_pairs) == leading


def test_sums_over_processes_are_divided_by_the_pairs_of_all() -> None:
    net, made = second_block(input_scale="rms"), batches()
    one = calibrate(net, 1, cache(net, train=made), alone, PAPER)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    two = calibrate(net, 1, cache(net, train=made), lambda total: 2 * total, PAPER)
    assert two.n_pairs == 2 * one.n_pairs
    for name in ("gram", "cross", "power", "objective"):
        torch.testing.assert_close(getattr(two, name), getattr(one, name))
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 23), st.integers(0, 30), st.integers(0, 10_000))
def test_a_symmetric_product_is_added_on_and_above_the_diagonal(width: int, n_rows: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    total, rows = draw.standard_normal((width, width)), draw.standard_normal((n_rows, width))
    found = torch.from_numpy(total.copy())
    add_product(found, torch.from_numpy(rows))
    np.testing.assert_allclose(np.triu(found), np.triu(total + rows.T @ rows), rtol=1e-12, atol=1e-12)


def squared_errors(net: HierarchicalResNet, made: list[Batch], weights: Tensor) -> SetAsideErrors:
    """What `set_aside_errors` should find, label by label over the rows where it is observed."""
    features, scores, labels = pairs(net, made)
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
def test_set_aside_errors_are_those_of_the_observed_set_aside_pairs(
    missing: float, budget: float | None, monkeypatch
) -> None:
    monkeypatch.setitem(TILE, "cpu", Q * 6)
    net, held = second_block(), batches(missing, seed=1)
    held[0].labels[..., 1] = held[1].labels[..., 1] = held[2].labels[..., 1] = 0
    streams = cache(net, budget, train=batches(), held=held)
    calibrate(net, 1, streams, alone, SQUARED)
    assert {chunk.features is None for chunk in streams.chunks("held")} == {budget == 0}
    weights = torch.randn(4, N, Q + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found, expected = (
        set_aside_errors(net, 1, streams, alone, weights, SQUARED),
        squared_errors(net, held, weights),
    )
    for name in ("before", "after", "observed"):
        close(getattr(found, name), getattr(expected, name).numpy())
    assert found.observed[1] == 0
    twice = set_aside_errors(net, 1, streams, lambda total: 2 * total, weights, SQUARED)
    close(twice.after, expected.after.numpy())
    close(twice.observed, 2 * expected.observed.numpy())


def test_without_set_aside_rows_nothing_is_observed() -> None:
    net = second_block()
    errors = set_aside_errors(net, 1, cache(net, train=batches()), alone, torch.zeros(2, N, Q + 1).double(), SQUARED)
    assert not errors.observed.any()
    assert torch.isfinite(errors.after).all()
