import pytest
import torch

from hierlit.models.radial_units import RadialUnits


def drawn(power: float) -> RadialUnits:
    features, generator = RadialUnits(5, 7), torch.Generator().manual_seed(0)
    features.weight.copy_(torch.randn(7, 5, generator=generator))
    features.mean.copy_(torch.rand(7, generator=generator))
    features.coordinates.copy_(torch.tensor([1.0, 0.0, 1.0, 2.0, 0.0]))
    features.power.fill_(power)
    features.scale.fill_(0.6)
    return features


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("shape", [(4, 5), (3, 2, 5), (0, 5)])
def test_values(power: float, shape: tuple[int, ...]) -> None:
    features, windows = drawn(power), torch.randn(shape, generator=torch.Generator().manual_seed(1))
    difference = (windows[..., None, :] - features.weight) * features.coordinates * 0.6
    expected = torch.exp(-(difference.norm(dim=-1) ** power) / power) - features.mean
    torch.testing.assert_close(features(windows), expected)


def test_a_coordinate_that_is_not_read() -> None:
    features, windows = drawn(2.0), torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    changed = windows.clone()
    changed[:, 1] += 1
    assert torch.equal(features(windows), features(changed))
    changed[:, 0] += 1
    assert not torch.equal(features(windows), features(changed))


def test_a_unit_at_its_own_place_is_1() -> None:
    features = drawn(2.0)
    torch.testing.assert_close((features(features.weight) + features.mean).diagonal(), torch.ones(7))


def test_units_out_of_use_are_zero_until_all_are_loaded() -> None:
    features, windows = drawn(2.0), torch.ones(3, 5)
    whole = features(windows)
    features.mean[4:], features.n_used = 0, 4
    assert torch.equal(features(windows)[:, :4], whole[:, :4])
    assert not features(windows)[:, 4:].any()
    features.load_state_dict(drawn(2.0).state_dict())
    assert torch.equal(features(windows), whole)


def test_features_are_rounded() -> None:
    features = drawn(2.0)
    features.rounding = "bfloat16"
    assert features(torch.ones(2, 5)).dtype == torch.bfloat16
