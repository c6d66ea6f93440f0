"""What becomes of labels that are not observed: losses, their derivatives, and what training makes of them."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from plain import Table, network, pairs, problem, stream, train_all
from scipy.optimize import minimize

from hierlit.layerwise import ExactSolver, GradientSolver, Solver
from hierlit.layerwise.losses import (
    HingeLoss,
    HybridMarginLoss,
    LogisticLoss,
    MarginLoss,
    SquaredHingeLoss,
    SquaredLoss,
)
from hierlit.layerwise.unobserved import TREATMENTS, LabelLoss, label_loss

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
@pytest.mark.parametrize("solver", [ExactSolver([]), GradientSolver()], ids=["exact", "gradient"])
def test_the_objective_s_minimum_is_scipy_s(solver: Solver, treatment: str) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 1, 4, dtype=torch.float64, generator=generator)
    table = Table(inputs, torch.randint(-1, 2, (60, 1, 3), generator=generator).double())
    net = network(table, 1, 4).double()
    loss = label_loss(LogisticLoss(), treatment, None, 3)
    train_all(net, table, solver, loss, regularization=0.0625, tolerance=1e-6)
    features, _, labels = map(torch.from_numpy, pairs(net, table, 0))
    factors = {
        "ignore": (0.0, 0.0),
        "assume_negative": (1.0, 0.0),
        "weak_assume_negative": (1 / 2, 0.0),
        "maximize_entropy": (1 / 4, 1 / 4),
    }[treatment]

    def value(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        at = torch.tensor(flat, requires_grad=True)
        weight = at.view(3, 5)
        scores = features @ weight.T
        seen = torch.log1p(torch.exp(-labels * scores)) * (labels != 0)
        unseen = factors[0] * torch.log1p(torch.exp(scores)) + factors[1] * torch.log1p(torch.exp(-scores))
        total = (seen + unseen * (labels == 0)).sum() / 60 + 0.0625 / 2 * weight.square().sum()
        return total.item(), torch.autograd.grad(total, at)[0].numpy()

    best = minimize(value, np.zeros(15), jac=True, options={"gtol": 1e-9}).x
    np.testing.assert_allclose(net.block(0).weight.flatten(), best, rtol=0, atol=1e-6 / 0.0625 + 1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("guess", None), "unobserved must be one of ignore, assume_negative, .*, got 'guess'"),
        (("assume_negative", 0.0), r"unobserved_weight must be in \(0, 1\].*got 0.0"),
        (("ignore", 0.5), "unobserved_weight must be .* null for ignore, got 0.5"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple[str, float | None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label_loss(SquaredLoss(), *arguments, 2)


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_its_weight_is_the_treatments_own_or_what_is_given(treatment: str) -> None:
    own = {"ignore": 0.0, "assume_negative": 1.0, "weak_assume_negative": 0.25, "maximize_entropy": 0.25}
    assert label_loss(SquaredLoss(), treatment, None, 5).weight == own[treatment]
    if treatment == "ignore":
        assert label_loss(SquaredLoss(), treatment, None, 5) == LabelLoss(SquaredLoss())
    else:
        assert label_loss(SquaredLoss(), treatment, 0.7, 5).weight == 0.7


def test_constants_of_the_loss_are_filled_in_for_the_pairs_whatever_is_observed() -> None:
    table = Table(torch.randn(10, 1, 2), torch.ones(10, 1, 3))
    table.labels[:5] = 0
    loss = LabelLoss(HybridMarginLoss("paper"), -1.0, 0.5)
    filled = problem(stream(network(table, 1), table), loss=loss).loss
    assert filled == LabelLoss(HybridMarginLoss("paper", n_pairs=10), -1.0, 0.5)
