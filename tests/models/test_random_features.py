import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from hierlit.models import RandomFeatures
from hierlit.models.random_features import ACTIVATIONS

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


def draw(seed: int = 0, fan_in: int = FAN_IN, n_features: int = N_FEATURES, **arguments: object) -> RandomFeatures:
    return RandomFeatures(fan_in, n_features, generator=torch.Generator().manual_seed(seed), **arguments)


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
    features = draw(bias="uniform_phase", activation="cos", beta=0.5)
    assert float(features.bias.min()) >= 0
    assert float(features.bias.max()) < 2 * math.pi
    assert stats.kstest(features.bias.numpy() / (2 * math.pi), stats.uniform.cdf).pvalue > 1e-4
    assert torch.equal(features.weight, draw(beta=0.5).weight)


def test_cosine_features_with_uniform_phases_have_the_gaussian_kernel() -> None:
    x, y = torch.linspace(-1, 1, FAN_IN), torch.linspace(1, -0.5, FAN_IN).square()
    products = 2 * torch.prod(draw(bias="uniform_phase", activation="cos", beta=0.5)(torch.stack([x, y])), dim=0)
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
