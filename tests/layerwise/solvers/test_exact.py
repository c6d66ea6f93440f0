from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from plain import Table, automaton, closed_form, network, pairs, problem, stream, train_all, xors
from scipy import optimize, special
from sklearn.linear_model import Ridge

from hierlit.layerwise import Acceptance, AdaptiveDraw, ExactSolver, Stopping, solve
from hierlit.layerwise.losses import HingeLoss, HybridMarginLoss, LogisticLoss, MarginLoss, SquaredHingeLoss

WIDE = [3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0]  # all above the least λ that is resolved

Array = NDArray[np.float64]


def hinge(z: Array, margin: float, smoothing: float) -> tuple[Array, Array]:
    gap = 1 - z / margin
    value = np.where(gap < smoothing, np.maximum(gap, 0) ** 2 / (2 * smoothing), gap - smoothing / 2)
    return value, -np.clip(gap / smoothing, 0, 1) / margin


def squared_hinge(z: Array, margin: float = 1.0) -> tuple[Array, Array]:
    gap = np.maximum(1 - z / margin, 0)
    return gap**2 / 2, -gap / margin


def practical(z: Array) -> tuple[Array, Array]:
    parts = hinge(z, 0.5, 1.0), hinge(z, 1.0, 1.0), (np.maximum(z - 1, 0) ** 2 / 2, np.maximum(z - 1, 0))
    return sum(value for value, _ in parts), sum(slope for _, slope in parts)


LOSSES: dict[str, tuple[MarginLoss, Callable[[Array], tuple[Array, Array]]]] = {
    "hinge": (HingeLoss(), lambda z: hinge(z, 1.0, 0.5)),
    "wide squared hinge": (SquaredHingeLoss(2.0), lambda z: squared_hinge(z, 2.0)),
    "squared hinge": (SquaredHingeLoss(), squared_hinge),
    "logistic": (LogisticLoss(), lambda z: (np.logaddexp(0, -z), -special.expit(-z))),
    "hybrid": (HybridMarginLoss(), practical),
}


def minimiser(
    rows: tuple[Array, ...], label: int, penalty: float, loss: Callable[[Array], tuple[Array, Array]]
) -> tuple[Array, float]:
    """SciPy's minimum of one label's F_k: the weights [q+1] and the norm of the gradient that is left."""
    features, scores, labels = rows[0], rows[1][:, label], rows[2][:, label]

    def objective(weight: Array) -> tuple[float, Array]:
        value, slope = loss(labels * (scores + features @ weight))
        gradient = (slope * labels) @ features / len(labels) + penalty * weight
        return float((value * (labels != 0)).mean() + penalty / 2 * weight @ weight), gradient

    options = {"ftol": 0, "gtol": 1e-12, "maxiter": 5000, "maxfun": 10_000}
    found = optimize.minimize(objective, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B", options=options)
    return found.x, float(np.linalg.norm(objective(found.x)[1]))


@pytest.mark.parametrize("alphas", [None, [], [1e-3, 0.3]])
def test_every_block_is_the_closed_form_under_its_own_regularization(alphas: list[float] | None) -> None:
    table = automaton(flips=0.05)
    net = network(table, n_features=40).double()
    trained = train_all(net, table, ExactSolver(alphas))
    for index, report in enumerate(trained.reports):
        expected = closed_form(pairs(net, table, index), trained.penalty(index))
        np.testing.assert_allclose(net.block(index).weight, expected, rtol=0, atol=1e-8)
        assert (report.stop_reason, report.epochs, report.steps) == ("gradient norm", 1, 0)


def test_without_alphas_the_solution_is_scikit_learns_ridge() -> None:
    table = xors()
    net = network(table, n_blocks=1).double()
    train_all(net, table, ExactSolver([]), regularization=0.01)
    features, _, labels = pairs(net, table, 0)
    model = Ridge(alpha=len(labels) * float(np.float32(0.01)), fit_intercept=False).fit(features, labels)
    np.testing.assert_allclose(net.block(0).weight, model.coef_, rtol=0, atol=1e-9)


def test_without_alphas_each_label_has_its_own_penalty_of_the_problem() -> None:
    table = xors()
    net = network(table, n_blocks=1).double()
    whole = problem(stream(net, table))
    whole.calibrate()
    penalty = torch.tensor([0.3, 0.01, 0.3]).double()
    (last,) = solve(replace(whole, penalty=penalty), ExactSolver([]), Stopping())
    np.testing.assert_allclose(last.state.weight, closed_form(pairs(net, table, 0), penalty.numpy()), rtol=0, atol=1e-9)
    assert torch.equal(last.certificate.modulus, penalty)


def test_regularization_minimises_the_gcv_score_of_the_hat_matrix_label_by_label() -> None:
    table = automaton(flips=0.05)
    net = network(table, n_features=40).double()
    trained = train_all(net, table, ExactSolver(WIDE, "gcv"))
    features, scores, labels = pairs(net, table, 1)
    n, residual = len(labels), labels - scores
    candidates = np.array(WIDE) * (features[:, :-1] ** 2).sum() / n / (features.shape[1] - 1)
    gcv = []
    for candidate in candidates:
        gram = features.T @ features / n + candidate * np.eye(features.shape[1])
        hat = features @ np.linalg.solve(gram, features.T) / n
        gcv.append(((residual - hat @ residual) ** 2).mean(0) / (1 - np.trace(hat) / n) ** 2)
    best = candidates[np.argmin(gcv, axis=0)]
    np.testing.assert_allclose(trained.penalty(), best, rtol=1e-6)


def test_labels_of_different_difficulty_get_different_regularization() -> None:
    draw = np.random.default_rng(0)
    x = torch.from_numpy(draw.choice([-1.0, 1.0], (270, 1, 6))).float()
    noise = torch.from_numpy(draw.choice([-1.0, 1.0], (270, 1))).float()
    table = Table(x, torch.stack([x[..., 0], noise], -1), n_held=54)
    learnable, noisy = train_all(network(table, 1, 60), table, ExactSolver()).penalty()
    assert learnable < noisy


@pytest.mark.parametrize("missing", [0.1, 0.6])
def test_with_missing_labels_it_iterates_to_the_weighted_closed_form(missing: float) -> None:
    table = xors(missing=missing)
    net = network(table).double()
    trained = train_all(net, table, ExactSolver(), tolerance=1e-8)
    assert trained.reasons == ["gradient norm"] * 2
    assert trained.reports[1].epochs > 1
    penalty = trained.penalty()
    expected = closed_form(pairs(net, table, 1), penalty)
    np.testing.assert_allclose(net.block(1).weight, expected, rtol=0, atol=1e-8 / penalty.min())


def test_missing_labels_reach_the_default_tolerance() -> None:
    table = xors(missing=0.3)
    report = train_all(network(table), table, ExactSolver()).reports[-1]
    assert report.stop_reason == "gradient norm"
    assert report.suboptimality <= 0.01 * report.initial_objective * (1 + 1e-5)


def test_more_features_than_rows_still_reach_the_certificate() -> None:
    table = xors(90, n_held=18)
    net = network(table, n_features=200)
    assert train_all(net, table, ExactSolver()).reasons == ["gradient norm"] * 2
    assert torch.isfinite(net.block(1).weight).all()


@pytest.mark.parametrize("alphas", [[0.0], [0.1, -1.0], [float("nan")]])
def test_alphas_that_are_not_positive_are_refused(alphas: list[float]) -> None:
    with pytest.raises(ValueError, match="alphas must all be positive, got"):
        ExactSolver(alphas)


def test_blocks_after_everything_has_been_learned_reach_their_certificate_too() -> None:
    table = xors()
    trained = train_all(network(table, 3, 100), table, ExactSolver(), max_epochs=50)
    assert trained.reasons == ["gradient norm"] * 3


@pytest.mark.parametrize(("n_features", "seed"), [(60, 1), (60, 9), (80, 5)])
def test_features_that_float32_hardly_tells_apart_are_solved_in_one_epoch_a_block(n_features: int, seed: int) -> None:
    # deep blocks of adapted features, where a penalty of one rounding error let the steps diverge
    table = automaton(200, n_levels=6, seed=seed)
    net = network(table, 5, n_features)
    options = {"acceptance": Acceptance("strict"), "adaptation": AdaptiveDraw(threshold=0.5)}
    trained = train_all(net, table, ExactSolver(), **options)
    assert [report.epochs for report in trained.reports] == [1] * 5


def test_a_single_row_to_fit_gives_finite_weights() -> None:
    table = xors(2, n_held=1)
    net = network(table)
    train_all(net, table, ExactSolver())
    assert torch.isfinite(net.block(1).weight).all()


@pytest.mark.parametrize(("loss", "missing"), [*((name, 0.0) for name in LOSSES), ("hinge", 0.4), ("hybrid", 0.4)])
def test_other_losses_are_minimised_as_by_scipy(loss: str, missing: float) -> None:
    ours, theirs = LOSSES[loss]
    table = xors(missing=missing, batch_size=300)
    net = network(table).double()
    trained = train_all(net, table, ExactSolver([0.1]), ours, tolerance=1e-8)
    assert trained.reasons == ["gradient norm"] * 2
    # measured: 24 to 56
    assert max(report.epochs for report in trained.reports) < 100
    rows, penalty = pairs(net, table, 1), trained.penalty()
    curvature, mean_diagonal = ours.curvature, (rows[0][:, :-1] ** 2).mean()
    np.testing.assert_allclose(penalty, 0.1 * curvature * mean_diagonal, rtol=1e-6)
    for label in range(3):
        expected, left = minimiser(rows, label, penalty[label], theirs)
        assert left < 1e-7
        # F_k is strongly convex: two points with such gradients are no further apart
        apart = np.linalg.norm(net.block(1).weight[label].numpy() - expected)
        assert apart <= (1.1e-8 + left) / penalty[label]
        assert np.linalg.norm(expected) > 100 * apart


@pytest.mark.parametrize("loss", ["wide squared hinge", "logistic"])
def test_without_alphas_other_losses_have_the_regularization_of_the_problem(loss: str) -> None:
    ours, theirs = LOSSES[loss]
    table = xors(batch_size=300)
    net = network(table, n_blocks=1).double()
    options = {"tolerance": 1e-7, "max_epochs": 100, "regularization": 0.05}
    trained = train_all(net, table, ExactSolver([]), ours, **options)
    assert trained.reasons == ["gradient norm"]
    np.testing.assert_allclose(trained.penalty(), 0.05, rtol=1e-6)
    expected, left = minimiser(pairs(net, table, 0), 0, 0.05, theirs)
    np.testing.assert_allclose(net.block(0).weight[0], expected, rtol=0, atol=(1.1e-7 + left) / 0.05)


# measured: 20, 26 and 193
@pytest.mark.parametrize(("missing", "most"), [(0.3, 30), (0.5, 40), (0.9, 290)])
def test_missing_labels_cost_a_moderate_number_of_epochs(missing: float, most: int) -> None:
    table = xors(missing=missing, batch_size=300)
    net = network(table, n_blocks=1).double()
    trained = train_all(net, table, ExactSolver([0.01]), tolerance=1e-8)
    assert trained.reasons == ["gradient norm"]
    assert 1 < trained.reports[0].epochs <= most
    penalty = trained.penalty()
    expected = closed_form(pairs(net, table, 0), penalty)
    np.testing.assert_allclose(net.block(0).weight, expected, rtol=0, atol=1e-8 / penalty.min())


@pytest.mark.parametrize("missing", [0.0, 0.5])
@pytest.mark.parametrize("n_features", [20, 150])
def test_each_label_takes_the_candidate_of_least_error_on_the_set_aside_rows(n_features: int, missing: float) -> None:
    table = xors(missing=missing)
    net = network(table, 1, n_features).double()
    trained = train_all(net, table, ExactSolver(WIDE), max_epochs=1000)
    features, scores, labels = pairs(net, table, 0)
    held_features, held_scores, held_labels = pairs(net, table, 0, "held")
    residual = (labels - scores) * (labels != 0)
    candidates = np.array(WIDE) * (features[:, :-1] ** 2).mean()
    errors = []
    for candidate in candidates:
        gram = features.T @ features / len(labels) + candidate * np.eye(features.shape[1])
        weights = np.linalg.solve(gram, features.T @ residual / len(labels))
        left = (held_labels - held_scores - held_features @ weights) * (held_labels != 0)
        errors.append((left**2).sum(0))
    best = candidates[np.argmin(errors, axis=0)]
    np.testing.assert_allclose(trained.penalty(), best, rtol=1e-6)


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize("without", ["rows set aside", "labels on them"])
def test_without_set_aside_rows_the_choice_is_that_of_gcv(without: str, missing: float) -> None:
    states = []
    for choice in ("set_aside", "gcv"):
        table = xors(missing=missing)
        if without == "rows set aside":
            table = Table(*table.rows("fit"))
        else:
            table.labels[-table.n_held :] = 0
        net = network(table)
        trained = train_all(net, table, ExactSolver(choice=choice))
        states.append(net.state_dict() | {"penalty": torch.from_numpy(trained.penalty())})
    assert states[0]["blocks.1.weight"].any()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_label_that_no_set_aside_row_observes_has_the_choice_of_gcv() -> None:
    table, chosen = xors(60, n_held=12), {}
    table.labels[-table.n_held :, :, 1] = 0
    for choice in ("set_aside", "gcv"):
        chosen[choice] = train_all(network(table, 1, 60), table, ExactSolver(choice=choice)).penalty()
    assert chosen["set_aside"][1] == chosen["gcv"][1]
    assert (chosen["set_aside"] != chosen["gcv"]).any()


def test_the_two_choices_differ() -> None:
    table, chosen = xors(60, n_held=12), []
    for choice in ("set_aside", "gcv"):
        trained = train_all(network(table, 1, 60), table, ExactSolver(choice=choice), max_epochs=500)
        chosen.append(trained.penalty().tolist())
    assert chosen[0] != chosen[1]


def test_another_choice_is_refused_by_name() -> None:
    with pytest.raises(ValueError) as error:
        ExactSolver(choice="loo")
    assert str(error.value) == "choice must be one of set_aside, gcv, got 'loo'"


@pytest.mark.parametrize(
    ("solver", "reads"),
    [(ExactSolver(), True), (ExactSolver(choice="gcv"), False), (ExactSolver([]), False), (ExactSolver([0.1]), True)],
)
def test_it_says_whether_it_reads_the_rows_set_aside(solver: ExactSolver, reads: bool) -> None:
    assert solver.reads_held_rows == reads
    assert not solver.at_fixed_penalty().reads_held_rows
