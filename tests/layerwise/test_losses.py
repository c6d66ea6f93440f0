import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hierlit.layerwise.losses import (
    HingeLoss,
    HybridMarginLoss,
    LogisticLoss,
    MarginLoss,
    SquaredHingeLoss,
    SquaredLoss,
)
from hierlit.layerwise.unobserved import LabelLoss

LOSSES = [
    SquaredLoss(),
    HingeLoss(),
    HingeLoss(margin=0.25, smoothing=1.0),
    HingeLoss(margin=2.0, smoothing=0.1),
    SquaredHingeLoss(),
    SquaredHingeLoss(margin=0.3),
    LogisticLoss(),
    HybridMarginLoss(),
    HybridMarginLoss(ceiling=math.inf),
    HybridMarginLoss(near=0.9, far=3.0, far_weight=0.01, ceiling=3.5),
    HybridMarginLoss("paper", bound=2.0, robustness=0.4, n_pairs=3),
    HybridMarginLoss("paper", bound=1.5, robustness=0.7, ceiling=1.0).for_data(10),
]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=repr)
margin = st.floats(-6, 6)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def gradient(loss: MarginLoss, margins: Tensor) -> Tensor:
    margins = margins.clone().requires_grad_()
    return torch.autograd.grad(loss(margins).sum(), margins)[0]


@every_loss
@settings(max_examples=50, deadline=None)
@given(first=margin, second=margin)
def test_convex_nonnegative_and_smooth(loss: MarginLoss, first: float, second: float) -> None:
    left, right, middle = loss(tensor(first, second, (first + second) / 2))
    assert min(left, right, middle) >= 0
    assert middle <= (left + right) / 2 + 1e-12
    slopes = gradient(loss, tensor(first, second))
    assert abs(slopes[0] - slopes[1]) <= loss.curvature * abs(first - second) + 1e-9


@every_loss
def test_gradient_is_the_derivative_everywhere(loss: MarginLoss) -> None:
    margins = torch.linspace(-4, 4, 801, dtype=torch.float64)
    step = 1e-6
    differences = (loss(margins + step) - loss(margins - step)) / (2 * step)
    torch.testing.assert_close(gradient(loss, margins), differences, rtol=0, atol=loss.curvature * step + 1e-8)


@every_loss
def test_curvature_is_attained(loss: MarginLoss) -> None:
    margins = torch.linspace(-6, 6, 120001, dtype=torch.float64)
    steepest = gradient(loss, margins).diff().max() / 1e-4
    assert 0.5 * loss.curvature < steepest <= loss.curvature * 1.0001


@every_loss
def test_shape_and_dtype_are_kept(loss: MarginLoss) -> None:
    losses = loss(torch.zeros(2, 3, 4))
    assert losses.shape == (2, 3, 4) and losses.dtype == torch.float32


@every_loss
def test_pickle_equality_and_repr(loss: MarginLoss) -> None:
    assert pickle.loads(pickle.dumps(loss)) == loss
    assert repr(loss).startswith(type(loss).__name__ + "(")
    assert eval(repr(loss), globals() | {"inf": math.inf}) == loss


@pytest.mark.parametrize(
    ("loss", "edge"),
    [
        (HingeLoss(0.25), 0.25),
        (SquaredHingeLoss(0.3), 0.3),
        (HybridMarginLoss(ceiling=math.inf), 1.0),
        (HybridMarginLoss("paper", robustness=0.4, n_pairs=3), 0.8),
    ],
    ids=repr,
)
def test_zero_from_the_margin_on(loss: MarginLoss, edge: float) -> None:
    beyond = edge * (1 + tensor(0, 1e-9, 0.1, 10))
    assert not loss(beyond).any() and not gradient(loss, beyond).any()
    assert loss(tensor(edge * 0.99)) > 0


def test_closed_forms() -> None:
    margins = tensor(-1, 0, 0.5, 0.75, 1, 2)
    expected = {
        SquaredLoss(): [2, 0.5, 0.125, 0.03125, 0, 0.5],
        HingeLoss(1.0, 0.5): [1.75, 0.75, 0.25, 0.0625, 0, 0],
        SquaredHingeLoss(): [2, 0.5, 0.125, 0.03125, 0, 0],
        LogisticLoss(): [math.log1p(math.exp(-z)) for z in margins.tolist()],
        HybridMarginLoss(near=0.5, far=1.0, far_weight=2.0, smoothing=1.0, ceiling=1.0): [
            *[2.5 + 2 * 1.5, 0.5 + 2 * 0.5, 2 * 0.125, 2 * 0.03125, 0, 0.5]
        ],
    }
    for loss, values in expected.items():
        torch.testing.assert_close(loss(margins), tensor(*values))


def test_the_bathtub_is_zero_only_at_its_bottom() -> None:
    loss = HybridMarginLoss(near=0.5, far=0.9, ceiling=1.1)
    assert (loss(tensor(0.8, 0.9, 1.0, 1.1, 1.2)) > 0).tolist() == [True, False, False, False, True]


def test_smoothing_tends_to_the_hinge() -> None:
    margins = torch.linspace(-2, 2, 101, dtype=torch.float64)
    hinge = (1 - margins / 0.5).clamp(min=0)
    torch.testing.assert_close(HingeLoss(0.5, 1e-6)(margins), hinge, rtol=0, atol=1e-6)


def test_paper_preset_is_our_reading() -> None:
    loss = HybridMarginLoss("paper", bound=2.0, robustness=0.5)
    assert (loss.near, loss.far, loss.far_weight, loss.ceiling) == (0.25, 0.75, None, math.inf)
    filled = loss.for_data(100)
    assert filled.far_weight == 1 / 400 and filled.for_data(7) is filled
    margins = torch.linspace(-2, 2, 41, dtype=torch.float64)
    expected = HingeLoss(0.25)(margins) + HingeLoss(0.75)(margins) / 400
    torch.testing.assert_close(filled(margins), expected)
    assert filled.curvature == pytest.approx(HingeLoss(0.25).curvature + HingeLoss(0.75).curvature / 400)


@pytest.mark.parametrize("use", [lambda loss: loss(torch.zeros(1)), lambda loss: loss.curvature])
def test_paper_preset_without_data_says_what_is_missing(use: object) -> None:
    with pytest.raises(ValueError, match=r"for_data\(n_pairs\)"):
        use(HybridMarginLoss("paper"))  # type: ignore[operator]


def test_for_data_leaves_other_losses_alone() -> None:
    for loss in LOSSES:
        assert loss.for_data(5) is loss
    assert [loss.is_squared for loss in LOSSES] == [True] + [False] * (len(LOSSES) - 1)


@every_loss
@settings(max_examples=20, deadline=None)
@given(values=st.lists(st.tuples(margin, st.sampled_from([-1, 0, 1])), min_size=1, max_size=8))
def test_masked_labels_have_no_loss_and_no_gradient(loss: MarginLoss, values: list[tuple[float, int]]) -> None:
    scores = tensor(*[score for score, _ in values]).requires_grad_()
    labels = torch.tensor([label for _, label in values], dtype=torch.int8)
    losses = LabelLoss(loss)(scores, labels)
    slopes = torch.autograd.grad(losses.sum(), scores)[0]
    hidden = labels == 0
    assert losses.shape == labels.shape
    assert not losses[hidden].any() and not slopes[hidden].any()
    margins = scores.detach() * labels
    torch.testing.assert_close(losses[~hidden], loss(margins)[~hidden])
    torch.testing.assert_close(slopes[~hidden], (labels * gradient(loss, margins))[~hidden])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: HingeLoss(margin=0), "margin must be positive and finite, got 0"),
        (lambda: HingeLoss(margin=math.nan), "margin must be positive and finite, got nan"),
        (lambda: HingeLoss(smoothing=1.5), r"smoothing must be in \(0, 1\], got 1.5"),
        (lambda: SquaredHingeLoss(margin=-1), "margin must be positive and finite, got -1"),
        (lambda: HybridMarginLoss("papre"), "preset must be one of practical, paper, got 'papre'"),
        (lambda: HybridMarginLoss("paper", bound=0.5), "bound must be at least 1 and finite, got 0.5"),
        (lambda: HybridMarginLoss("paper", robustness=0), r"robustness must be in \(0, 1\], got 0"),
        (lambda: HybridMarginLoss(smoothing=0), r"smoothing must be in \(0, 1\], got 0"),
        (lambda: HybridMarginLoss("paper", n_pairs=0), "n_pairs must be a positive integer, got 0"),
        (lambda: HybridMarginLoss(near=-1), "near must be positive and finite, got -1"),
        (lambda: HybridMarginLoss(far=0.2), "far must be at least near = 0.5, got 0.2"),
        (lambda: HybridMarginLoss(far_weight=-1), "far_weight must be at least 0 and finite, got -1"),
        (lambda: HybridMarginLoss(ceiling=0.9), r"ceiling must be at least far = 1.0 \(inf for none\), got 0.9"),
    ],
)
def test_bad_arguments(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        build()  # type: ignore[operator]
