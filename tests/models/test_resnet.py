from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hierlit.models import (
    Features,
    GaussianFeatures,
    HierarchicalResNet,
    Identity,
    Proximity,
    RadialFeatures,
    RadialUnits,
    Window1d,
)

CASES = [(Identity(), 1), (Window1d(3), 5), (Window1d(3, periodic=False), 4)]
every_window = pytest.mark.parametrize(("proximity", "n_locations"), CASES, ids=repr)
both_outputs = pytest.mark.parametrize("output", ["split", "orthogonal"])
D, N = 3, 4


def network(output: str = "split", proximity: Proximity | None = None, n_locations: int = 1, **arguments: object):
    sizes = {"n_blocks": 3, "n_features": 11}
    return HierarchicalResNet(D, N, n_locations, proximity, output=output, **{**sizes, **arguments})


def trained(net: HierarchicalResNet) -> HierarchicalResNet:
    """The network with weights as if its blocks had been trained."""
    generator = torch.Generator().manual_seed(5)
    for block in net.blocks:
        if isinstance(block.features, RadialUnits):  # which has no units before
            width = net.sizes["n_features"]
            block.features.place(torch.randn(width, net.windows.size * (D + N), generator=generator))
            block.set_weight(torch.zeros(N, width + 1))
        block.weight.copy_(torch.randn(block.weight.shape, generator=generator) / 3)
    net.n_trained.fill_(len(net.blocks))
    return net


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


@both_outputs
@every_window
def test_an_untrained_network_is_the_identity_on_the_stream_and_scores_zero(
    proximity: Proximity, n_locations: int, output: str
) -> None:
    net, inputs = network(output, proximity, n_locations), normal(6, n_locations, D)
    stream = net.stream(inputs)
    assert torch.equal(stream, net.embed(inputs))
    net.n_trained.fill_(len(net.blocks))
    assert torch.equal(net.stream(inputs), stream)
    torch.testing.assert_close(
        net(inputs), torch.zeros(6, n_locations, N), rtol=0, atol=1e-6 if net.rotation is not None else 0
    )


@both_outputs
def test_output_weights_are_orthonormal_and_the_input_lies_in_the_complement_of_their_rows(output: str) -> None:
    net, inputs = network(output), normal(6, 1, D)
    torch.testing.assert_close(net.output_weight @ net.output_weight.T, torch.eye(N), rtol=0, atol=1e-6)
    torch.testing.assert_close(net.embed(inputs) @ net.output_weight.T, torch.zeros(6, 1, N), rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-10, 10, width=32), min_size=D, max_size=D), st.integers(0, 100))
def test_the_embedding_keeps_norms(values: list[float], seed: int) -> None:
    inputs = torch.tensor([[values]])
    embedded = network("orthogonal", weight_seed=seed).embed(inputs)
    torch.testing.assert_close(embedded.norm(), inputs.norm(), rtol=1e-6, atol=1e-6)


@both_outputs
def test_scores_are_the_output_weights_times_the_stream(output: str) -> None:
    net, stream = network(output), normal(6, 1, D + N)
    torch.testing.assert_close(net.scores(stream), stream @ net.output_weight.T, rtol=1e-6, atol=1e-6)


@both_outputs
def test_output_weights_have_the_precision_of_the_network(output: str) -> None:
    assert network(output).double().output_weight.dtype == torch.float64


@both_outputs
@every_window
def test_inputs_stay_readable_after_every_block(proximity: Proximity, n_locations: int, output: str) -> None:
    net, inputs = trained(network(output, proximity, n_locations)), normal(6, n_locations, D)
    read = net.split(net.stream(inputs))[..., :D]
    torch.testing.assert_close(read, inputs, rtol=0, atol=1e-5 if net.rotation is not None else 0)


@both_outputs
@every_window
def test_the_forward_pass_is_the_residual_network_of_the_paper(
    proximity: Proximity, n_locations: int, output: str
) -> None:
    net = trained(network(output, proximity, n_locations, features=GaussianFeatures(activation="tanh"))).double()
    inputs = normal(6, n_locations, D).double()
    final = net.output_weight.double().numpy()
    first = np.eye(D + N)[:D] if net.rotation is None else net.rotation[:D].numpy()
    stream = inputs.numpy() @ first
    for block in net.blocks:
        padded = np.concatenate([stream, np.zeros((6, 1, D + N))], 1)
        windows = padded[:, proximity.table(n_locations).numpy()].reshape(6, n_locations, -1)
        hidden = np.tanh(windows @ block.features.weight.numpy().T + block.features.bias.numpy())
        second = final.T @ block.weight.numpy()
        stream = stream + hidden @ second[:, :-1].T + second[:, -1]
    # W^D is orthonormal to float32 only
    np.testing.assert_allclose(net.stream(inputs), stream, rtol=0, atol=1e-10 * np.abs(stream).max())
    np.testing.assert_allclose(net(inputs), stream @ final.T, rtol=0, atol=1e-10 * np.abs(stream).max())


@both_outputs
def test_every_draw_is_fixed_by_the_weight_seed_alone(output: str) -> None:
    torch.manual_seed(1)
    first = network(output, weight_seed=7).state_dict()
    torch.manual_seed(2)
    after_global_draws = torch.random.get_rng_state()
    again, other = network(output, weight_seed=7).state_dict(), network(output, weight_seed=8).state_dict()
    assert torch.equal(torch.random.get_rng_state(), after_global_draws)
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if name.endswith(("features.weight", "features.bias", "rotation"))]
    assert len(drawn) == 6 + (output == "orthogonal")
    assert not any((first[name] == other[name]).any() for name in drawn)
    blocks = [first[name] for name in drawn if name.endswith("features.weight")]
    assert not any((one == two).any() for one, two in pairwise(blocks))


def test_no_parameter_of_the_network_is_trainable() -> None:
    assert not any(parameter.requires_grad for parameter in network("orthogonal").parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_inputs": 0}, "n_inputs must be a positive integer, got 0"),
        ({"n_labels": -1}, "n_labels must be a positive integer, got -1"),
        ({"n_locations": 0}, "n_locations must be a positive integer, got 0"),
        ({"n_blocks": 0}, "n_blocks must be a positive integer, got 0"),
        ({"n_blocks": 2.5}, "n_blocks must be a positive integer, got 2.5"),
        ({"n_features": 0}, "n_features must be a positive integer, got 0"),
        ({"output": "rotated"}, "output must be one of split, orthogonal, got 'rotated'"),
        (
            {"output": "orthogonal", "features": RadialFeatures()},
            "output must be split with RadialFeatures, got 'orthogonal'",
        ),
    ],
)
def test_an_argument_out_of_range_is_named_with_its_value_and_the_choices(
    arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError) as error:
        HierarchicalResNet(**{"n_inputs": 2, "n_labels": 2, "n_blocks": 1, "n_features": 3, **arguments})
    assert message in str(error.value)


def test_all_arguments_out_of_range_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"n_features.*; output"):
        HierarchicalResNet(2, 2, n_features=0, output="rotated")


def test_sizes_and_draw_say_what_the_features_are() -> None:
    net = network(features=GaussianFeatures(0.3, "tanh"), weight_seed=4)
    assert (net.sizes["features"], net.sizes["n_features"]) == ("tanh", 11)
    drawn = "GaussianFeatures(beta=0.3, activation='tanh', bias='gaussian', input_scale='live')"
    assert net.draw == {"first_layers": drawn, "weight_seed": 4}
    assert network().features == GaussianFeatures()


@both_outputs
@every_window
def test_a_frozen_block_has_the_features_and_windows_of_the_network(
    proximity: Proximity, n_locations: int, output: str
) -> None:
    net, stream = network(output, proximity, n_locations), normal(6, n_locations, D + N)
    features, windows, index, labels = net.frozen_block(1)
    assert index == 1 and labels is None
    assert torch.equal(features(windows(stream)), net.features_of(stream, 1))


def test_a_blocks_weight_can_be_of_another_width() -> None:
    block = network().block(0)
    parameter, weight = block.weight, normal(N, 21).double()
    for width in (12, 21, 5):
        block.set_weight(weight[:, :width])
        assert block.weight is parameter and block.weight.is_contiguous() and not block.weight.requires_grad
        assert torch.equal(block.weight, weight[:, :width].float())
    weight.zero_()
    assert block.weight.any()


@pytest.mark.parametrize("features", [GaussianFeatures(), RadialFeatures()], ids=repr)
@pytest.mark.parametrize("width", [4, 29])
def test_a_network_loads_blocks_of_another_width(features: Features, width: int) -> None:
    net, inputs = trained(network(features=features)), normal(6, 1, D)
    other = trained(network(features=features, n_features=width, weight_seed=1))
    assert net.block(1).features.n_features == 11
    net.load_state_dict(other.state_dict())
    assert net.block(1).features.n_features == width
    assert torch.equal(net(inputs), other(inputs))
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_a_network_loads_no_blocks_of_other_windows_or_labels() -> None:
    net = network()
    for other in (HierarchicalResNet(D + 1, N, n_blocks=3, n_features=5), HierarchicalResNet(D, N + 1, n_blocks=3)):
        with pytest.raises(RuntimeError, match="size mismatch for blocks"):
            net.load_state_dict(other.state_dict())


@pytest.mark.parametrize("labels", [None, [2, 0]])
@pytest.mark.parametrize(("output", "masked"), [("split", False), ("split", True), ("orthogonal", False)])
def test_scores_are_added_in_place_as_they_are_elsewhere(output: str, masked: bool, labels: list[int] | None) -> None:
    net, stream = network(output, masked=masked), normal(6, 1, D + N)
    chosen = None if labels is None else torch.tensor(labels)
    change, before = normal(6, 1, N if labels is None else len(labels)), stream.clone()
    moved = net.add_scores(stream, change, chosen)
    assert torch.equal(stream, before)
    added = net.scores(moved) - net.scores(before)
    wanted = torch.zeros(6, 1, N).index_copy(-1, chosen if chosen is not None else torch.arange(N), change)
    torch.testing.assert_close(added, wanted * (before[..., :1] if masked else 1), rtol=0, atol=1e-5)
    assert net.add_scores(stream, change, chosen, in_place=True) is stream
    assert torch.equal(stream, moved)
