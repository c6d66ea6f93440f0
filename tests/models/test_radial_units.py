import pytest
import torch
from torch import Tensor

from hierlit.models import CosineFeatures
from hierlit.models.radial_units import DualUnits, Kernel, RadialUnits, WhiteUnits


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


STRETCH = torch.tensor([1.0, 0.0, 0.5, 2.0, 0.0])
READ = [0, 2, 3]


def placed(power: float = 2.0, on_sphere: bool = False, stretch: Tensor | None = STRETCH) -> RadialUnits:
    features = RadialUnits(5, 7)
    features.place(normal(7, 5), Kernel(power, 0.6, on_sphere), stretch)
    return features


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("on_sphere", [False, True])
@pytest.mark.parametrize("shape", [(4, 5), (3, 2, 5), (0, 5)])
def test_values(power: float, on_sphere: bool, shape: tuple[int, ...]) -> None:
    def read(windows: Tensor) -> Tensor:
        own = windows[..., READ] * STRETCH[READ]
        return own / (own**2).mean(-1, keepdim=True) ** 0.5 if on_sphere else own

    units, windows = read(normal(7, 5)), normal(*shape, seed=1)
    radius = 0.6 * units.var(0).sum().sqrt()

    def kernel(points: Tensor) -> Tensor:
        distances = (points[..., None, :] - units).norm(dim=-1) / radius
        return torch.exp(-(distances**power) / power)

    expected = kernel(read(windows)) - kernel(units).mean(0)
    torch.testing.assert_close(placed(power, on_sphere)(windows), expected.double(), rtol=1e-4, atol=1e-6)


def test_on_the_sphere_the_size_of_a_window_does_not_count_and_zeros_are_the_centre() -> None:
    features, windows = placed(on_sphere=True), normal(4, 5, seed=1)
    torch.testing.assert_close(features(windows), features(100 * windows))
    assert features(torch.zeros(1, 5)).isfinite().all()


def test_cosines_keep_nothing_of_the_kernel_that_was_tried_before() -> None:
    drawn = CosineFeatures().first_layer(5, 7, torch.Generator().manual_seed(0))
    states = []
    for on_sphere in (False, True):
        features = placed(on_sphere=on_sphere)
        features.take(drawn)
        states.append(features.state_dict())
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def test_a_coordinate_that_is_not_read() -> None:
    features, windows = placed(), normal(4, 5, seed=1)
    changed = windows.clone()
    changed[:, 1] += 1
    assert torch.equal(features(windows), features(changed))
    changed[:, 0] += 1
    assert not torch.equal(features(windows), features(changed))


def test_coordinates_that_do_not_vary_are_not_read_unless_it_is_said() -> None:
    windows = normal(7, 5)
    windows[:, 2] = 3.0
    features = RadialUnits(5, 7)
    features.place(windows)
    assert features.read.tolist() == [0, 1, 3, 4]


def test_a_unit_at_its_own_place_is_1() -> None:
    features = placed()
    torch.testing.assert_close((features(normal(7, 5)) + features.mean).diagonal(), torch.ones(7).double())


def test_there_are_no_units_until_some_are_placed_or_loaded() -> None:
    empty, features, windows = RadialUnits(5, 7), placed(), normal(3, 5, seed=1)
    assert (empty.n_features, empty(windows).shape) == (0, (3, 0))
    empty.load_state_dict(features.state_dict())
    assert torch.equal(empty(windows), features(windows))


def test_they_are_never_rounded() -> None:
    features = placed()
    features.rounding = "bfloat16"
    assert features(torch.ones(2, 5)).dtype == torch.float64


def test_products_of_white_features_are_the_kernels_own() -> None:
    units = RadialUnits(5, 40).double()
    units.place(normal(40, 5).double())
    white, windows = WhiteUnits(units), normal(40, 5).double()
    table = units(windows)
    torch.testing.assert_close(
        white(windows) @ white(windows).T, table - table.mean(1, keepdim=True), rtol=0, atol=1e-6
    )


def test_a_settled_weight_does_for_the_units_what_one_does_for_their_white_features() -> None:
    units = RadialUnits(5, 40).double()
    units.place(normal(40, 5).double(), amplitude=0.3)
    white, windows, weight = WhiteUnits(units), normal(20, 5, seed=1).double(), normal(2, 41, seed=2).double()
    expected = white(windows) @ weight[:, :-1].T + weight[:, -1]
    settled = white.settled(weight)
    torch.testing.assert_close(units(windows) @ settled[:, :-1].T + settled[:, -1], expected, rtol=1e-6, atol=1e-6)


def test_products_of_the_units_are_the_kernel_centred_on_both_sides() -> None:
    units, windows = RadialUnits(5, 40).double(), normal(40, 5).double()
    units.place(windows, Kernel(1.0), amplitude=0.3)
    table = units(windows)
    expected = 0.09 * (table - table.mean(1, keepdim=True))
    torch.testing.assert_close(DualUnits(units).products(), expected, rtol=0, atol=1e-8)
    torch.testing.assert_close(DualUnits(units)(windows), expected, rtol=0, atol=1e-8)


def test_a_settled_weight_does_for_the_units_what_coefficients_of_pairs_do() -> None:
    units = RadialUnits(5, 40).double()
    units.place(normal(40, 5).double(), amplitude=0.3)
    dual, windows, coefficients = DualUnits(units), normal(20, 5, seed=1).double(), normal(2, 40, seed=2).double()
    weight = torch.cat([coefficients, coefficients.sum(1, keepdim=True)], 1)
    expected = dual(windows) @ weight[:, :-1].T + weight[:, -1]
    settled = dual.settled(weight.clone())
    torch.testing.assert_close(units(windows) @ settled[:, :-1].T + settled[:, -1], expected, rtol=1e-8, atol=1e-8)
