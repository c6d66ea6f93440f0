from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from hierlit.data import ArrayHierarchy, CellularAutomaton, JuntaHierarchy
from hierlit.data.base import Batch
from hierlit.estimator import HierarchicalClassifier
from hierlit.layerwise.adaptive_draw import FEATURES_PER_TARGET, AdaptiveDraw, agop_diagonals
from hierlit.layerwise.solvers import ExactSolver, GradientSolver, Solver
from hierlit.layerwise.stream import StreamCache
from hierlit.models import GaussianFeatures, HierarchicalResNet, Window1d
from hierlit.models.first_layer import TILE
from hierlit.training import LayerwiseTask

SOLVERS: dict[str, Callable[[], Solver]] = {"exact": ExactSolver, "gradient": GradientSolver}
ADAPTIVE, TANH = AdaptiveDraw(), GaussianFeatures(activation="tanh")
both_outputs = pytest.mark.parametrize("output", ["split", "orthogonal"])


def xor_task(adaptation: AdaptiveDraw | None = ADAPTIVE, **arguments: object) -> LayerwiseTask:
    sizes = {"n_blocks": 2, "n_features": 64, "solver": ExactSolver()}
    return LayerwiseTask(6, 3, adaptation=adaptation, **{**sizes, **arguments})


def draws(task: LayerwiseTask) -> list[Tensor]:
    return [block.features.weight.clone() for block in task.net.blocks]


def products(*supports: tuple[int, ...], n_rows: int = 1000, seed: int = 0, **data: object) -> ArrayHierarchy:
    """Rows of 10 signs, and for each support the product of its coordinates as a label."""
    x = np.random.default_rng(seed).choice([-1.0, 1.0], (n_rows, 10))
    y = np.stack([x[:, list(support)].prod(1) for support in supports], 1)
    return ArrayHierarchy(x, y, **{"batch_size": 256, **data})


def magnitudes(task: LayerwiseTask, label: int = 0, of: int = 1) -> NDArray[np.float32]:
    """Mean |W¹| of the first block by input, over every `of`-th row from row `label` on."""
    drawn = task.net.split_coordinates(task.net.block(0).features.weight)
    return drawn[label::of, : task.net.n_inputs].abs().mean(0).numpy()


def test_without_it_every_draw_is_the_papers(fit, xors) -> None:
    assert LayerwiseTask(6, 3, n_features=5).adaptation is None
    assert HierarchicalClassifier().adaptation is None
    task = xor_task(None, weight_seed=3)
    fit(task, xors())
    paper = HierarchicalResNet(6, 3, n_blocks=2, n_features=64, weight_seed=3)
    for block in (0, 1):
        assert task.net.block(block).weight.any()
        assert torch.equal(task.net.block(block).features.weight, paper.block(block).features.weight)


@pytest.mark.parametrize(("solver", "output"), [("exact", "split"), ("gradient", "orthogonal")])
def test_two_runs_draw_and_learn_the_same_to_the_last_bit(solver: str, output: str, fit, xors) -> None:
    states = []
    for global_seed, weight_seed in ((1, 5), (2, 5), (1, 6)):
        torch.manual_seed(global_seed)
        task = xor_task(solver=SOLVERS[solver](), output=output, weight_seed=weight_seed)
        fit(task, xors(), gradient_tolerance=1e3)
        states.append(task.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    for block in (0, 1):
        name = f"net.blocks.{block}.features.weight"
        assert not (states[0][name] == states[2][name]).any()


def test_a_draw_changes_when_its_own_block_starts_and_never_again(fit, xors) -> None:
    seen: list[tuple[int, list[Tensor]]] = []

    class Snapshots(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, task: LayerwiseTask, batch: Batch, batch_idx: int) -> None:
            seen.append((task.block, draws(task)))

    task = xor_task(n_blocks=3, solver=GradientSolver())
    before = draws(task)
    fit(task, xors(), Snapshots(), acceptance="none", gradient_tolerance=1e3)
    after = draws(task)
    assert [sum(block == active for active, _ in seen) > 8 for block in range(3)] == [True] * 3
    for active, at in seen:
        for block in range(3):
            assert torch.equal(at[block], after[block] if block <= active else before[block])
    assert not any((before[block] == after[block]).any() for block in range(3))


def test_each_redraw_of_each_block_and_seed_is_a_draw_of_its_own(fit, xors) -> None:
    signs = []
    for redraws, weight_seed in ((1, 0), (2, 0), (1, 1)):
        task = xor_task(AdaptiveDraw(redraws=redraws), weight_seed=weight_seed)
        fit(task, xors())
        signs += [(drawn > 0).double() for drawn in draws(task)]
    for one, two in combinations(signs, 2):
        # 64·9 signs agree in half of their places, to 5 standard errors
        assert abs(float((one == two).double().mean()) - 0.5) < 5 * 0.5 / 24


def test_biases_are_left_as_they_were_drawn(fit, xors) -> None:
    task = xor_task()
    before = [block.features.bias.clone() for block in task.net.blocks]
    fit(task, xors())
    assert all(torch.equal(block.features.bias, bias) for block, bias in zip(task.net.blocks, before, strict=True))


@both_outputs
def test_a_draw_concentrates_on_the_inputs_that_its_label_depends_on(output: str, fit) -> None:
    data = products((0, 1))
    task = LayerwiseTask(
        10, 1, n_blocks=1, n_features=200, solver=ExactSolver(), adaptation=AdaptiveDraw(), output=output
    )
    assert magnitudes(task)[:2].min() < 2 * magnitudes(task)[2:].max()
    fit(task, data)
    assert magnitudes(task)[:2].min() > 20 * magnitudes(task)[2:].max()
    assert task.results["val"]["accuracy"].tolist() == [1.0]


def test_labels_of_different_inputs_share_the_rows(fit) -> None:
    adaptation = AdaptiveDraw(threshold=0.3)
    task = LayerwiseTask(10, 2, n_blocks=1, n_features=200, solver=ExactSolver(), adaptation=adaptation)
    fit(task, products((0, 1), (2, 3)))
    supports = set()
    for label in (0, 1):
        size = magnitudes(task, label, of=2)
        order = size.argsort()
        assert size[order[-2]] > 5 * size[order[-3]]
        supports.add(frozenset(order[-2:].tolist()))
    assert supports == {frozenset({0, 1}), frozenset({2, 3})}


def test_only_the_labels_that_gain_most_are_drawn_for(fit) -> None:
    # products of three and of five are far from what 200 features fit
    data = products((0, 1), (2, 3, 4), (5, 6, 7, 8, 9))
    task = LayerwiseTask(10, 3, n_blocks=1, n_features=200, solver=ExactSolver(), adaptation=AdaptiveDraw())
    fit(task, data)
    assert magnitudes(task)[:2].min() > 20 * magnitudes(task)[2:].max()


@pytest.mark.parametrize("held", ["constant", "not observed"])
def test_a_block_keeps_the_papers_draw_where_no_label_gains(held: str, fit, xors) -> None:
    inputs, labels = xors().make_tables()["train"]
    data = ArrayHierarchy(inputs, torch.ones_like(labels) if held == "constant" else labels)
    data.setup()
    if held == "not observed":
        data.tables["train"].labels[data.held_rows] = 0
    task = xor_task(n_blocks=1)
    before = draws(task)
    fit(task, data, acceptance="none")
    assert all(torch.equal(one, two) for one, two in zip(before, draws(task), strict=True))


def test_rows_beyond_the_leading_batches_do_not_change_a_draw(fit) -> None:
    after = {}
    for n_pairs in (256, 10_000):
        for poison in (False, True):
            data, task = products((0, 1), (2, 3)), None
            data.setup()
            order = [batch.index for batch in data.train_dataloader()]
            assert len(order) == 3
            if poison:
                data.tables["train"].labels[torch.cat(order[2:]), :, 0] *= -1
            adaptation = AdaptiveDraw(n_pairs=n_pairs)
            task = LayerwiseTask(10, 2, n_blocks=1, n_features=64, solver=ExactSolver(), adaptation=adaptation)
            fit(task, data, acceptance="none")
            after[n_pairs, poison] = draws(task)[0]
    assert torch.equal(after[256, False], after[256, True])
    assert not torch.equal(after[10_000, False], after[10_000, True])


def agop_case(output: str) -> tuple[HierarchicalResNet, StreamCache, Tensor, Tensor]:
    """A network whose second block is active, its cache of two chunks, their inputs, and weights of three labels."""
    draw = torch.Generator().manual_seed(0)
    net = HierarchicalResNet(
        2, 3, 5, Window1d(3), n_blocks=2, n_features=9, features=TANH, output=output, weight_seed=4
    ).double()
    net.block(0).weight.copy_(torch.randn(3, 10, generator=draw))
    net.n_trained.fill_(1)
    net.block(1).features.scale.fill_(1.7)
    net.block(1).features.mean.copy_(torch.randn(9, generator=draw))
    inputs = torch.randn(11, 5, 2, generator=draw, dtype=torch.float64)
    labels, rows = torch.ones(11, 5, 3).double(), torch.arange(11)
    streams = StreamCache(net)
    streams.open()
    streams.fill("train", [Batch(inputs[part], labels[part], rows[part]) for part in (slice(6), slice(6, 11))])
    return net, streams, inputs, torch.randn(3, 10, generator=draw, dtype=torch.float64)


@both_outputs
@pytest.mark.parametrize(("leading", "n_rows"), [(1, 6), (2, 11)])
def test_the_gradients_are_those_of_autograd_in_the_coordinates_of_inputs_and_scores(
    leading: int, n_rows: int, output: str, monkeypatch
) -> None:
    monkeypatch.setitem(TILE, "cpu", 9 * 7)
    net, streams, inputs, weights = agop_case(output)
    stream = net.stream(inputs[:n_rows])
    read = torch.cat([inputs[:n_rows], net.scores(stream)], 2)
    windows = torch.cat([read.roll(shift, 1) for shift in (1, 0, -1)], 2).flatten(0, 1).requires_grad_()
    embedding = torch.eye(5).double() if net.rotation is None else net.rotation
    drawn = net.block(1).features

    def change(window: Tensor) -> Tensor:
        seen = (window.view(3, 5) @ embedding).flatten()
        hidden = torch.tanh(drawn.scale * drawn.weight @ seen + drawn.bias) - drawn.mean
        return weights[:, :-1] @ hidden + weights[:, -1]

    slopes = torch.func.vmap(torch.func.jacrev(change))(windows)
    agop, power = agop_diagonals(net, 1, streams, lambda total: total, weights, leading)
    # rotations are orthonormal to float32 only
    tolerance = {"rtol": 1e-11, "atol": 0} if net.rotation is None else {"rtol": 1e-5, "atol": 0}
    torch.testing.assert_close(agop, slopes.square().mean(0), **tolerance)
    torch.testing.assert_close(power, windows.square().mean(0), **tolerance)
    twice = agop_diagonals(net, 1, streams, lambda total: 2 * total, weights, leading)
    torch.testing.assert_close(twice, (agop, power))


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 4), st.integers(1, 12), st.floats(0, 1), st.integers(0, 10_000))
def test_factors_leave_the_mean_square_of_preactivations_and_keep_a_floor(
    n_targets: int, fan_in: int, floor: float, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    agop = (4 * torch.randn(n_targets, fan_in, generator=draw, dtype=torch.float64)).exp()
    power = torch.randn(fan_in, generator=draw, dtype=torch.float64).square() + 1e-6
    factors = AdaptiveDraw(floor=floor).coordinates(agop, power)
    torch.testing.assert_close(factors.square() @ power, power.sum().expand(n_targets))
    importance = agop * power
    adapted = importance * (power.sum() / (importance.square() @ power)).sqrt()[:, None]
    mixed = floor + (1 - floor) * adapted
    torch.testing.assert_close(factors / factors[:, :1], mixed / mixed[:, :1])
    # the mixture of two draws of equal mean square has at most that, and is scaled up
    assert (factors >= floor * (1 - 1e-12)).all()


def test_factors_without_a_floor_are_proportional_to_the_gradients_and_with_all_of_it_uniform() -> None:
    agop, power = torch.tensor([[4.0, 1.0, 0.0], [0.0, 0.0, 1e-30]]), torch.tensor([1.0, 4.0, 1.0])
    # importances 4, 4, 0 and 0, 0, 1; the mean squares of their pre-activations 5·4² and 1 become 1 + 4 + 1
    expected = torch.tensor([[4.0, 4.0, 0.0], [0.0, 0.0, 1.0]]) * torch.tensor([[(6 / 80) ** 0.5], [6**0.5]])
    torch.testing.assert_close(AdaptiveDraw(floor=0.0).coordinates(agop, power), expected)
    torch.testing.assert_close(AdaptiveDraw(floor=1.0).coordinates(agop, power), torch.ones(2, 3))


def test_by_channel_the_places_of_a_window_count_alike() -> None:
    # places × channels; mean importances by channel 3 and 1 of the first target, 0 and 2 of the second
    agop = torch.tensor([[9.0, 1.0, 0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 6.0, 0.0, 0.0]])
    factors = AdaptiveDraw(floor=0.0, by_channel=True).coordinates(agop, torch.ones(6), 3).view(2, 3, 2)
    torch.testing.assert_close(factors, factors[:, :1].expand_as(factors))
    torch.testing.assert_close(factors[:, 0] / factors[:, 0].amax(1, keepdim=True), torch.tensor([[1, 1 / 3], [0, 1]]))
    torch.testing.assert_close(factors.square().sum((1, 2)), torch.tensor([6.0, 6.0]))
    uneven = AdaptiveDraw(floor=0.0, by_channel=True).coordinates(torch.ones(1, 4), torch.tensor([1.0, 1, 4, 1]), 2)
    torch.testing.assert_close(uneven[0] / uneven[0, 1], torch.tensor([2.5, 1.0, 2.5, 1.0]))


@pytest.mark.parametrize("by_channel", [False, True])
def test_a_draw_by_channel_does_not_lose_a_place(by_channel: bool, fit) -> None:
    data = CellularAutomaton(170, 1, 16, n_train=200, n_val=20, n_test=20)  # a cell takes its right neighbour's state
    task = LayerwiseTask(
        1,
        1,
        16,
        proximity=Window1d(3),
        n_blocks=1,
        n_features=400,
        solver=ExactSolver(),
        adaptation=AdaptiveDraw(by_channel=by_channel),
    )
    fit(task, data)
    drawn = task.net.split_coordinates(task.net.block(0).features.weight).view(400, 3, 2)
    left, own, right = drawn[..., 0].abs().mean(0).tolist()
    assert max(left, own) < 0.1 * right if not by_channel else min(left, own) > 0.8 * right


def test_a_coordinate_that_is_always_zero_gets_no_more_than_the_floor() -> None:
    agop, power = torch.tensor([[1.0, 1.0, 1e6]]), torch.tensor([1.0, 1.0, 0.0])
    factors = AdaptiveDraw(floor=0.01).coordinates(agop, power)
    torch.testing.assert_close(factors, torch.tensor([[1.0, 1.0, 0.01]]))


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_factors_do_not_depend_on_the_size_of_the_gradients(unit: float) -> None:
    agop, power = torch.tensor([[4.0, 1.0, 0.5]]), torch.tensor([1.0, 4.0, 1.0])
    torch.testing.assert_close(ADAPTIVE.coordinates(agop * unit, power), ADAPTIVE.coordinates(agop, power))


@pytest.mark.parametrize(
    ("gain", "n_features", "threshold", "expected"),
    [
        ([0.1, 0.9, 0.5, 0.44], 1000, 0.5, [1, 2]),
        ([0.1, 0.9, 0.5, 0.44], 1000, 0.1, [1, 2, 3, 0]),
        ([0.1, 0.9, 0.5, 0.44], 1000, 1.0, [1]),
        ([0.1, 0.9, 0.5, 0.44], 2 * FEATURES_PER_TARGET, 0.1, [1, 2]),
        ([0.1, 0.9, 0.5, 0.44], FEATURES_PER_TARGET - 1, 0.1, [1]),
        ([-0.1, 0.2, 0.0], 1000, 0.5, [1]),
        ([-0.1, -0.2, 0.0], 1000, 0.5, []),
        ([0.0], 1000, 0.5, []),
    ],
)
def test_targets_are_the_labels_of_the_largest_gains_as_far_as_features_go(
    gain: list[float], n_features: int, threshold: float, expected: list[int]
) -> None:
    found = AdaptiveDraw(threshold=threshold).targets(torch.tensor(gain), n_features)
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"redraws": 0}, "redraws must be a positive integer, got 0"),
        ({"n_pairs": 0}, "n_pairs must be a positive integer, got 0"),
        ({"threshold": 0.0}, "threshold must be in (0, 1], got 0.0"),
        ({"threshold": 1.5}, "threshold must be in (0, 1], got 1.5"),
        ({"floor": -0.1}, "floor must be in [0, 1], got -0.1"),
        ({"floor": float("nan")}, "floor must be in [0, 1], got nan"),
        (
            {"redraws": -1, "threshold": 2.0, "floor": 2.0},
            "redraws must be a positive integer, got -1; threshold must be in (0, 1], got 2.0; "
            "floor must be in [0, 1], got 2.0",
        ),
    ],
)
def test_arguments_out_of_range_are_named_in_one_line(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError) as error:
        AdaptiveDraw(**arguments)
    assert str(error.value) == message


def test_without_set_aside_rows_it_is_refused_before_any_work(fit, xors) -> None:
    task = xor_task()
    before = {name: value.clone() for name, value in task.state_dict().items()}
    with pytest.raises(ValueError) as error:
        fit(task, xors(acceptance_fraction=0), acceptance="none")
    assert str(error.value) == "adaptation needs acceptance_fraction above 0 in the data, got 0; or leave it out"
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    assert not list(task.streams.chunks("train"))


def test_it_learns_a_hierarchy_of_juntas_with_features_too_few_for_the_papers_draw(fit) -> None:
    learned = []
    for adaptation in (None, AdaptiveDraw()):
        data = JuntaHierarchy(n_levels=2, labels_per_level=4, table="parity", n_train=1500, n_val=300, n_test=10)
        task = LayerwiseTask(
            16, 8, levels=data.levels, n_blocks=3, n_features=200, solver=ExactSolver(), adaptation=adaptation
        )
        fit(task, data, acceptance="strict")
        learned.append(int((task.results["val"]["accuracy"] > 0.99).sum()))
    assert learned == [0, 8]


def test_it_climbs_an_automaton_higher_with_the_same_blocks(fit) -> None:
    learned = []
    for adaptation in (None, AdaptiveDraw()):
        data = CellularAutomaton(n_levels=8, n_cells=16, n_train=300, n_val=50, n_test=10)
        task = LayerwiseTask(
            1, 8, 16, proximity=Window1d(3), n_blocks=9, n_features=80, solver=ExactSolver(), adaptation=adaptation
        )
        fit(task, data, acceptance="strict")
        learned.append(int((task.results["val"]["accuracy"] > 0.95).sum()))
    # measured over five seeds: 5, and 6 or 7
    assert learned[0] <= 5 < learned[1]


def test_checkpoints_hold_it_and_open_without_running_any_code(fit, xors, tmp_path: Path) -> None:
    path, data = tmp_path / "adapted.ckpt", xors()
    task = xor_task(AdaptiveDraw(redraws=1, n_pairs=100, threshold=0.3, floor=0.1))
    fit(task, data).save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["hyper_parameters"]["adaptation"] == AdaptiveDraw(1, 100, 0.3, 0.1)
    again = LayerwiseTask.load_from_checkpoint(path)
    assert again.adaptation == task.adaptation
    inputs = data.tables["test"].inputs
    assert task(inputs).any()
    assert torch.equal(again(inputs), task(inputs))


def test_a_stopped_run_goes_on_with_the_same_draws(fit, xors) -> None:
    data, whole, parts = xors(), xor_task(), xor_task()
    fit(whole, data)
    with pytest.warns(UserWarning, match="training ended after 1 of 2 blocks"):
        fit(parts, data, max_epochs=1)
    fit(parts, data)
    assert all(torch.equal(value, parts.state_dict()[name]) for name, value in whole.state_dict().items())


def test_the_classifier_fits_with_it() -> None:
    x = np.random.default_rng(0).choice([-1.0, 1.0], (1200, 12))
    y = np.stack([x[:, 0] * x[:, 1], x[:, 2] * x[:, 3]], 1)
    scores = []
    for adaptation in (None, AdaptiveDraw(threshold=0.3)):
        classifier = HierarchicalClassifier(n_blocks=1, n_features=64, adaptation=adaptation, accelerator="cpu")
        scores.append(classifier.fit(x[:1000], y[:1000]).score(x[1000:], y[1000:]))
    assert scores[0] < 0.95
    assert scores[1] == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"adaptation": 2}, "adaptation must be a AdaptiveDraw or None, got 2"),
        (
            {"adaptation": AdaptiveDraw(), "acceptance": "none", "acceptance_fraction": 0},
            "acceptance_fraction must be positive for an adaptation, got 0",
        ),
    ],
)
def test_the_classifier_names_what_does_not_go_with_it(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as error:
        HierarchicalClassifier(**arguments).fit(np.eye(4), 2 * np.eye(4) - 1)
    assert str(error.value) == message
