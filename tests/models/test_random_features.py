import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from hierlit.models import CosineFeatures, Features, GaussianFeatures, RandomFeatures
from hierlit.models.first_layer import TILE
from hierlit.models.random_features import ACTIVATIONS, rounded_to_tf32

N_FEATURES, FAN_IN = 20_000, 10
REFERENCES = {
    "relu": lambda z: np.maximum(z, 0),
    "gelu": lambda z: z * stats.norm.cdf(z),
    "tanh": np.tanh,
    "erf": special.erf,
    "sigmoid": special.expit,
    "softplus": lambda z: np.logaddexp(0, z),
    "cos": np.cos,
}
SLOPES = {
    "relu": lambda z: (z > 0).astype(float),
    "gelu": lambda z: stats.norm.cdf(z) + z * stats.norm.pdf(z),
    "tanh": lambda z: 1 / np.cosh(z) ** 2,
    "erf": lambda z: 2 / math.sqrt(math.pi) * np.exp(-(z**2)),
    "sigmoid": lambda z: special.expit(z) * special.expit(-z),
    "softplus": special.expit,
    "cos": lambda z: -np.sin(z),
}


def draw(
    seed: int = 0, fan_in: int = FAN_IN, n_features: int = N_FEATURES, features: Features | None = None, **arguments
) -> RandomFeatures:
    features = features or GaussianFeatures(**arguments)
    return features.first_layer(fan_in, n_features, torch.Generator().manual_seed(seed))


def assert_centred_normal(sample: Tensor, variance: float) -> None:
    """Mean, variance and shape of a sample, each within what its size resolves (5 standard errors; p > 1e-4)."""
    n = sample.numel()
    assert abs(float(sample.mean())) < 5 * math.sqrt(variance / n)
    assert float(sample.var()) == pytest.approx(variance, rel=5 * math.sqrt(2 / n))
    assert stats.kstest(sample.flatten().double().numpy(), stats.norm(0, math.sqrt(variance)).cdf).pvalue > 1e-4


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_first_layer_is_drawn_beta_xavier(beta: float) -> None:
    features = draw(beta=beta)
    assert features.weight.shape == (N_FEATURES, FAN_IN)
    assert_centred_normal(features.weight, (1 - beta**2) / FAN_IN)
    assert_centred_normal(features.bias, beta**2)
    weight_and_bias = np.corrcoef(features.weight.T.numpy(), features.bias.numpy())
    assert np.abs(weight_and_bias - np.eye(FAN_IN + 1)).max() < 5 / math.sqrt(N_FEATURES)


def test_without_beta_there_is_no_bias_and_the_weights_have_all_the_variance() -> None:
    features = draw(beta=0)
    assert not features.bias.any()
    assert_centred_normal(features.weight, 1 / FAN_IN)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_an_input_of_squared_norm_fan_in_has_unit_variance_pre_activations(beta: float) -> None:
    z = torch.linspace(-1, 2, FAN_IN)
    z *= math.sqrt(FAN_IN) / z.norm()
    features = draw(beta=beta, activation="softplus")
    assert_centred_normal(features(z).expm1().log(), 1.0)


def test_uniform_phases_are_uniform_on_the_circle_and_leave_the_weights_alone() -> None:
    features = draw(features=CosineFeatures(0.5))
    assert float(features.bias.min()) >= 0
    assert float(features.bias.max()) < 2 * math.pi
    assert stats.kstest(features.bias.numpy() / (2 * math.pi), stats.uniform.cdf).pvalue > 1e-4
    assert torch.equal(features.weight, draw(beta=0.5).weight)


def test_cosine_features_with_uniform_phases_have_the_gaussian_kernel() -> None:
    x, y = torch.linspace(-1, 1, FAN_IN), torch.linspace(1, -0.5, FAN_IN).square()
    products = 2 * torch.prod(draw(features=CosineFeatures(0.5))(torch.stack([x, y])), dim=0)
    kernel = math.exp(-(1 - 0.5**2) / FAN_IN * float((x - y).square().sum()) / 2)
    assert float(products.mean()) == pytest.approx(kernel, abs=5 * float(products.std()) / math.sqrt(N_FEATURES))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_the_function_of_its_name(name: str) -> None:
    features = draw(fan_in=1, n_features=1, activation=name).double()
    features.weight.fill_(1)
    features.bias.zero_()
    z = np.concatenate([np.linspace(-12, 12, 401), [-700.0, 0.0, 700.0]])
    # torch's softplus is linear beyond 20, where it errs by 2e-9
    np.testing.assert_allclose(features(torch.from_numpy(z)[:, None])[:, 0], REFERENCES[name](z), rtol=1e-9, atol=1e-14)


def test_features_are_scaled_before_the_bias_and_centred_after_the_activation() -> None:
    features = draw(fan_in=4, n_features=7, activation="tanh").double()
    features.scale.fill_(1.7)
    features.mean.copy_(torch.linspace(-1, 1, 7))
    z = torch.randn(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = np.tanh(1.7 * z.numpy() @ features.weight.numpy().T + features.bias.numpy()) - features.mean.numpy()
    np.testing.assert_allclose(features(z), expected, rtol=1e-12, atol=1e-15)


def test_a_draw_is_fixed_by_its_seed() -> None:
    first, again, other = draw(3, n_features=9), draw(3, n_features=9), draw(4, n_features=9)
    assert torch.equal(first.weight, again.weight)
    assert torch.equal(first.bias, again.bias)
    assert not (first.weight == other.weight).any()
    assert not (first.bias == other.bias).any()


def test_nothing_is_trained_and_everything_is_in_the_checkpoint() -> None:
    features = draw(n_features=5)
    assert not any(parameter.requires_grad for parameter in features.parameters())
    assert set(features.state_dict()) == {"weight", "bias", "scale", "mean"}
    assert not features(torch.ones(FAN_IN)).requires_grad


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slopes_are_the_activations_derivative_at_the_preactivations(name: str) -> None:
    features = draw(fan_in=4, n_features=50, activation=name).double()
    features.scale.fill_(2.5)
    features.mean.fill_(7)
    z = torch.randn(6, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    before = z.clone()
    with torch.no_grad():
        slopes = features.slopes(z)
    preactivations = 2.5 * z.numpy() @ features.weight.numpy().T + features.bias.numpy()
    np.testing.assert_allclose(slopes, SLOPES[name](preactivations), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(features.preactivations(z), preactivations, rtol=1e-12, atol=1e-14)
    assert torch.equal(z, before)
    assert not slopes.requires_grad


@pytest.mark.parametrize(("tile", "rows"), [(1, 16), (9 * 31, 16), (9 * 32, 32), (2**20, 116_496)])
def test_tiles_of_rows_make_up_all_features(tile: int, rows: int, monkeypatch) -> None:
    monkeypatch.setitem(TILE, "cpu", tile)
    features = draw(n_features=9, activation="tanh")
    features.mean.fill_(0.25)
    windows = torch.randn(75, FAN_IN, generator=torch.Generator().manual_seed(1))
    assert features.rows_at_once() == rows
    tiles = list(features.tiles(windows))
    assert [len(part) for part in tiles[:-1]] == [rows] * (len(tiles) - 1)
    assert 1 <= len(tiles[-1]) <= rows
    torch.testing.assert_close(torch.cat(tiles), features(windows))
    monkeypatch.undo()
    torch.testing.assert_close(torch.cat(tiles), features(windows))


def test_a_redraw_with_equal_coordinates_is_the_papers_draw() -> None:
    features, fresh = draw(3, beta=0.8), draw(4, beta=0.8)
    bias = features.bias.clone()
    features.redraw(torch.ones(1, FAN_IN), torch.Generator().manual_seed(4))
    assert torch.equal(features.weight, fresh.weight)
    assert torch.equal(features.bias, bias)
    assert_centred_normal(features.weight, (1 - 0.8**2) / FAN_IN)


def test_rows_of_a_redraw_take_turns_in_the_standard_deviations_of_their_coordinates() -> None:
    features, again = draw(0, beta=0.6), draw(1, beta=0.6)
    deviations = torch.rand(3, FAN_IN, generator=torch.Generator().manual_seed(2)) * 4
    deviations[1, 7] = 0
    for redrawn in (features, again):
        redrawn.redraw(deviations, torch.Generator().manual_seed(9))
    assert torch.equal(features.weight, again.weight)
    for turn in range(3):
        for coordinate in range(FAN_IN):
            sample, deviation = features.weight[turn::3, coordinate], float(deviations[turn, coordinate])
            if deviation:
                assert_centred_normal(sample, deviation**2 * (1 - 0.6**2) / FAN_IN)
            else:
                assert not sample.any()


def test_a_redraw_has_the_precision_of_the_features_and_stays_frozen() -> None:
    features = draw(n_features=5).double()
    before = features.weight
    features.redraw(torch.ones(2, FAN_IN).double(), torch.Generator().manual_seed(0))
    assert features.weight is before
    assert features.weight.dtype == torch.float64
    assert not features.weight.requires_grad


@pytest.mark.parametrize(("rounding", "dtype"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_rounded_features_are_the_features_to_their_precision(name: str, rounding: str, dtype: torch.dtype) -> None:
    features = draw(fan_in=4, n_features=50, activation=name)
    z = torch.randn(7, 3, 4, generator=torch.Generator().manual_seed(1))
    features.mean.copy_(features(z).mean((0, 1)))
    exact, before = features(z), {key: value.clone() for key, value in features.state_dict().items()}
    features.rounding = rounding
    rounded = features(z)
    assert rounded.dtype == features.dtype == dtype
    # four roundings, of numbers up to about 4
    torch.testing.assert_close(rounded.float(), exact, rtol=0, atol=16 * torch.finfo(dtype).eps)
    assert not torch.equal(rounded.float(), exact)
    assert all(torch.equal(value, before[key]) for key, value in features.state_dict().items())
    assert features.slopes(z).dtype == torch.float32


def test_factors_rounded_to_tf32_are_those_of_the_product() -> None:
    features = draw(fan_in=4, n_features=50, activation="softplus")
    z = torch.randn(7, 4, generator=torch.Generator().manual_seed(1))
    exact = features(z)
    features.rounding = "tf32"
    rounded = features(z)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0, atol=8 * 2.0**-11)
    factors = [rounded_to_tf32(factor).double() for factor in (z, features.weight)]
    torch.testing.assert_close(
        rounded.double(), torch.nn.functional.softplus(factors[0] @ factors[1].T + features.bias), rtol=1e-5, atol=1e-6
    )
    assert torch.equal(features.double()(z.double()), rounded), "and in a network of float64"
