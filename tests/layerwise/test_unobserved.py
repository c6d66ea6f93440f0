"""What becomes of labels that are not observed: losses, their derivatives, and what training makes of them."""

import pytest
import torch
from scipy.optimize import minimize

from hierlit.layerwise.losses import (
    HingeLoss,
    HybridMarginLoss,
    LogisticLoss,
    MarginLoss,
    SquaredHingeLoss,
    SquaredLoss,
)
from hierlit.layerwise.solvers.base import BlockObjective
from hierlit.layerwise.stream import Tile
from hierlit.layerwise.unobserved import TREATMENTS, LabelLoss, label_loss
from hierlit.training import LayerwiseTask

LOSSES: list[MarginLoss] = [SquaredLoss(), HingeLoss(), SquaredHingeLoss(), LogisticLoss(), HybridMarginLoss()]
SCORES = torch.linspace(-2.9, 3.1, 43, dtype=torch.float64)


def expected(loss: MarginLoss, treatment: str, score: float, label: int, n_labels: int) -> float:
    """The loss of one score by the definitions, case by case."""
    one = {sign: float(loss(torch.tensor(sign * score, dtype=torch.float64))) for sign in (-1, 1)}
    if label:
        return one[label]
    return {
        "ignore": 0.0,
        "assume_negative": one[-1],
        "weak_assume_negative": one[-1] / (n_labels - 1),
        "maximize_entropy": (one[-1] + one[1]) / 2 / (n_labels - 1),
    }[treatment]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("treatment", TREATMENTS)
def test_losses_and_derivatives_are_the_definition(treatment: str, loss: MarginLoss) -> None:
    made = label_loss(loss, treatment, None, n_labels=5)
    for label in (-1, 0, 1):
        labels = torch.full_like(SCORES, label)
        values = [expected(loss, treatment, float(score), label, 5) for score in SCORES]
        assert made(SCORES, labels).tolist() == pytest.approx(values)
        at = SCORES.clone().requires_grad_()
        (slopes,) = torch.autograd.grad(made(at, labels).sum(), at)
        torch.testing.assert_close(made.derivative(SCORES, labels), slopes)
        assert (slopes.diff() >= -1e-12).all()  # convex


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_the_squared_loss_is_drawn_to_its_targets(treatment: str) -> None:
    made = label_loss(SquaredLoss(), treatment, None, n_labels=4)
    for label in (-1.0, 0.0, 1.0):
        labels = torch.full_like(SCORES, label)
        targets, weights = made.targets(labels)
        gap = made(SCORES, labels) - weights * (SCORES - targets).square() / 2
        assert float(gap.max() - gap.min()) == pytest.approx(0, abs=1e-12)


def test_the_entropy_treatment_has_the_minimum_of_the_entropy_and_is_convex() -> None:
    made, labels = label_loss(LogisticLoss(), "maximize_entropy", 1.0, 3), torch.zeros_like(SCORES)
    share = SCORES.sigmoid()
    negative_entropy = share * share.log() + (1 - share) * (1 - share).log()
    assert int(made(SCORES, labels).argmin()) == int(negative_entropy.argmin())
    assert (negative_entropy.diff().diff() < 0).any() and (made(SCORES, labels).diff().diff() >= 0).all()


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_the_objective_s_minimum_is_scipy_s(treatment: str) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 4, dtype=torch.float64, generator=generator)
    labels = torch.randint(-1, 2, (60, 3), generator=generator).double()
    tile = Tile(features, torch.zeros_like(labels), labels)
    loss = label_loss(LogisticLoss(), treatment, None, 3)
    objective = BlockObjective(loss, len(features), torch.full((3,), 0.01, dtype=torch.float64))
    weight = torch.zeros(3, 5, dtype=torch.float64)
    for _ in range(4000):
        weight -= 2 * (objective.data_term(weight, [tile])[1] + 0.01 * weight)

    def value(flat) -> float:
        at = torch.tensor(flat).view(3, 5)
        scores = features @ at[:, :4].T + at[:, 4]
        total = sum(
            expected(LogisticLoss(), treatment, float(score), int(label), 3)
            for score, label in zip(scores.flatten(), labels.flatten(), strict=True)
        )
        return total / 60 + 0.005 * float(at.square().sum())

    found = value(weight.flatten().numpy())
    assert found == pytest.approx(minimize(value, weight.flatten().numpy() * 0.9, tol=1e-9).fun, rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unobserved": "guess"}, "unobserved must be one of ignore, assume_negative, .*, got 'guess'"),
        (
            {"unobserved": "assume_negative", "unobserved_weight": 0.0},
            r"unobserved_weight must be in \(0, 1\].*got 0.0",
        ),
        ({"unobserved_weight": 0.5}, "unobserved_weight must be .* null for ignore, got 0.5"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayerwiseTask(2, 2, **arguments)


def test_the_default_ignores() -> None:
    assert LayerwiseTask(2, 2).loss == LabelLoss(SquaredLoss())
