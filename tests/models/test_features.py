import pickle
from dataclasses import FrozenInstanceError, dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hierlit.models import (
    CosineFeatures,
    Features,
    FirstLayer,
    GaussianFeatures,
    HierarchicalResNet,
    RadialFeatures,
    Window1d,
)
from hierlit.theory import kernel

PHASES = GaussianFeatures(0.3, "cos", "uniform_phase", "rms")


class Squares(FirstLayer):
    def uncentred(self, windows: Tensor) -> Tensor:
        return F.linear(windows * self.scale, self.weight).square()


@dataclass(frozen=True)
class SquareFeatures(Features):
    def first_layer(self, fan_in: int, n_features: int, generator: torch.Generator) -> Squares:
        return Squares(torch.randn(n_features, fan_in, generator=generator) / fan_in**0.5)


ALL = (GaussianFeatures(0.3, "tanh"), CosineFeatures(), RadialFeatures(), SquareFeatures())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": 1}, "beta must be in [0, 1), got 1"),
        ({"beta": -0.1}, "beta must be in [0, 1), got -0.1"),
        ({"beta": float("nan")}, "beta must be in [0, 1), got nan"),
        (
            {"activation": "swish"},
            "activation must be one of relu, gelu, tanh, erf, sigmoid, softplus, cos, got 'swish'",
        ),
        ({"bias": "none"}, "bias must be one of gaussian, uniform_phase, got 'none'"),
        ({"input_scale": "std"}, "input_scale must be one of fan_in, live, rms, got 'std'"),
        (
            {"beta": 2, "activation": ""},
            "beta must be in [0, 1), got 2; activation must be one of relu, gelu, tanh, erf, sigmoid, softplus, cos, "
            "got ''",
        ),
    ],
)
def test_an_argument_out_of_range_is_named_with_its_value_and_the_choices(
    arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError) as error:
        GaussianFeatures(**arguments)
    assert str(error.value) == message
    if not {"activation", "bias"} & arguments.keys():
        with pytest.raises(ValueError) as error:
            CosineFeatures(**arguments)
        assert str(error.value) == message


def test_the_default_is_the_papers() -> None:
    assert repr(GaussianFeatures()) == (
        "GaussianFeatures(beta=0.5, activation='relu', bias='gaussian', input_scale='live')"
    )


def test_cosine_features_are_gaussian_ones_of_uniform_phase() -> None:
    cosines = CosineFeatures(0.3, input_scale="rms")
    assert repr(cosines) == "CosineFeatures(beta=0.3, input_scale='rms')"
    one, two = (spec.first_layer(4, 9, seeded()) for spec in (cosines, PHASES))
    assert all(torch.equal(tensor, two.state_dict()[name]) for name, tensor in one.state_dict().items())
    assert (one.input_scale, cosines.kind, cosines.kernel()) == (two.input_scale, PHASES.kind, PHASES.kernel())
    assert torch.equal(one(torch.ones(2, 4)), two(torch.ones(2, 4)))


@pytest.mark.parametrize("spec", ALL, ids=repr)
def test_a_kind_is_immutable_and_loads_without_executing_code(spec: Features, tmp_path) -> None:
    with pytest.raises(FrozenInstanceError):
        spec.beta = 0.7
    torch.save(spec, tmp_path / "features.pt")
    loaded = torch.load(tmp_path / "features.pt", weights_only=True)
    assert loaded == spec == pickle.loads(pickle.dumps(spec))
    assert hash(loaded) == hash(spec)


@pytest.mark.parametrize("rounding", [None, "bfloat16", "tf32"])
@pytest.mark.parametrize("spec", [spec for spec in ALL if spec.is_drawn], ids=repr)
def test_every_first_layer_offers_what_training_asks_of_it(spec: Features, rounding: str | None) -> None:
    net = HierarchicalResNet(3, 2, 7, Window1d(3), 2, 11, spec)
    net.rounding, net.n_trained.data[...] = rounding, 2
    net.compile_features(False)
    layer = net.block(1).features
    assert (layer.n_features, layer.weight.shape, layer.mean.shape, layer.scale.shape) == (11, (11, 15), (11,), ())
    assert not any(parameter.requires_grad for parameter in layer.parameters())
    assert layer.input_scale == "live"
    layer.mean.copy_(torch.linspace(-1, 1, 11))
    windows = torch.randn(40, 15, generator=seeded())
    features = layer(windows)
    assert features.shape == (40, 11) and features.dtype == layer.dtype == (
        torch.bfloat16 if rounding == "bfloat16" else torch.float32
    )
    layer.mean.zero_()
    torch.testing.assert_close(features + torch.linspace(-1, 1, 11).to(features), layer(windows), atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(torch.cat(list(layer.tiles(windows))), layer(windows))
    assert layer.rows_at_once() % 16 == 0
    assert net(torch.randn(5, 7, 3, generator=seeded())).shape == (5, 7, 2)


def test_a_first_layer_of_ones_own_is_calibrated_and_centred_by_its_base() -> None:
    layer = SquareFeatures().first_layer(4, 9, seeded()).double()
    layer.scale.fill_(1.7)
    layer.mean.copy_(torch.linspace(-1, 1, 9))
    z = torch.randn(2, 3, 4, generator=seeded(1))
    expected = (1.7 * z.double().numpy() @ layer.weight.numpy().T) ** 2 - layer.mean.numpy()
    np.testing.assert_allclose(layer(z), expected, rtol=1e-12)
    with pytest.raises(NotImplementedError, match=r"FirstLayer must define uncentred\(windows\)"):
        FirstLayer(torch.zeros(2, 3))(z)


@pytest.mark.parametrize("spec", [GaussianFeatures(0.3, "tanh"), GaussianFeatures(0.9), CosineFeatures(0.3)], ids=repr)
def test_the_kernel_of_a_kind_is_what_its_features_have_on_average(spec: Features) -> None:
    x, y = torch.tensor([[1.0, 1, 1, 1], [1.0, -1, 1, 1]]), 0.5
    products = torch.prod(spec.first_layer(4, 200_000, seeded())(x), dim=0)
    activation, beta, bias = spec.kernel()
    deviation = float(products.std()) / len(products) ** 0.5
    assert float(products.mean()) == pytest.approx(float(kernel(activation, beta, y, bias)), abs=5 * deviation)


def test_a_kind_is_known_by_a_word() -> None:
    assert [spec.kind for spec in (*ALL, PHASES)] == ["tanh", "cos", "radial", "SquareFeatures", "cos"]


def test_other_kinds_have_no_known_kernel() -> None:
    for spec in (RadialFeatures(), SquareFeatures(), GaussianFeatures(bias="uniform_phase")):
        assert spec.kernel() is None
