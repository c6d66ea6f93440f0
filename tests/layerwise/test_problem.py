"""F_k, its gradient and what else is known of a block, against autograd and NumPy on all rows at once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plain import Doubled, Table, automaton, hide, network, pairs, problem, stream, tile, train_all, xors
from torch import Tensor

from hierlit.layerwise import BlockProblem, ExactSolver, Folds, LabelLoss, LogisticLoss, SquaredLoss
from hierlit.models import HierarchicalResNet


def rings(missing: float = 0.3) -> Table:
    table = automaton(30, n_levels=2, n_cells=5)
    table.labels, table.batch_size = hide(table.labels, missing), 7
    return table


def second(table: Table, budget: float | None = None, folds: Folds | None = None) -> tuple[HierarchicalResNet, Tensor]:
    """A network whose first block is trained, and a weight for the second."""
    net = network(table, 1, 9).double()
    train_all(net, table, ExactSolver())
    deeper = network(table, 2, 9).double()
    deeper.load_state_dict(net.state_dict(), strict=False)
    return deeper, torch.randn(2, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def block_of(net: HierarchicalResNet, table: Table, **options: object) -> BlockProblem:
    block = problem(stream(net, table, **options), 1, LogisticLoss())
    block.calibrate()
    return block


def data_terms(net: HierarchicalResNet, table: Table, weight: Tensor, kept: slice | Tensor) -> tuple[Tensor, Tensor]:
    """Mean losses [n] over some pairs, and their gradient by autograd."""
    features, scores, labels = (torch.from_numpy(part)[kept] for part in pairs(net, table, 1))
    at = weight.clone().requires_grad_()
    terms = (F.softplus(-labels * (scores + features @ at.T)) * labels.abs()).mean(0)
    return terms.detach(), torch.autograd.grad(terms.sum(), at)[0]


@pytest.mark.parametrize("n_pairs", [16, 10**6])
@pytest.mark.parametrize("budget", [None, 0.0], ids=["kept", "recomputed"])
def test_a_pass_gives_the_mean_loss_and_autograds_gradient(budget: float | None, n_pairs: int) -> None:
    table = rings()
    net, weight = second(table)
    block = block_of(tile(net, n_pairs), table, budget=budget)
    block.rows.keep_features(block.block)
    terms, gradient = data_terms(net, table, weight, slice(None))
    for number in (0, 3):  # in whatever order
        at = block.evaluate(weight, number)
        torch.testing.assert_close((at.terms, at.gradient), (terms, gradient))
    twice = replace(block, processes=Doubled()).evaluate(weight)
    torch.testing.assert_close((twice.terms, twice.gradient), (terms, gradient))
    assert block.n_pairs == 24 * 5 == replace(block, processes=Doubled()).n_pairs / 2


def test_batches_add_up_to_the_pass_and_come_in_another_order_each_time() -> None:
    table = rings()
    net, weight = second(table)
    block = block_of(net, table)
    orders = []
    for number in range(4):
        parts = [batch(weight) for batch in block.batches(number)]
        torch.testing.assert_close(sum(part.terms for part in parts), block.evaluate(weight).terms)
        torch.testing.assert_close(sum(part.gradient for part in parts), block.evaluate(weight).gradient)
        orders.append(tuple(float(part.terms[0]) for part in parts))
    assert len(set(orders)) > 1
    assert {frozenset(order) for order in orders} == {frozenset(orders[0])}
    again = [float(batch(weight).terms[0]) for batch in block_of(net, table).batches(3)]
    assert tuple(again) == orders[3]


def test_a_problem_without_a_fold_is_that_of_the_other_rows() -> None:
    table, folds = rings(), Folds(3, 30, seed=2)
    net, weight = second(table)
    block = block_of(net, table, folds=folds)
    own = folds.of(torch.arange(24)).repeat_interleave(5)
    _, scores, labels = map(torch.from_numpy, pairs(net, table, 1))
    for fold in range(3):
        part, kept = block.without(fold), own != fold
        at = part.evaluate(weight)
        torch.testing.assert_close((at.terms, at.gradient), data_terms(net, table, weight, kept))
        residual = ((labels - scores) * labels.abs())[kept]
        torch.testing.assert_close(part.power, residual.square().mean(0))
        torch.testing.assert_close(part.offset, residual.mean(0))
        before = (F.softplus(-labels * scores) * labels.abs())[kept].mean(0)
        torch.testing.assert_close(part.initial_objective, before)
        assert part.n_pairs == int(kept.sum())


def test_a_fold_that_holds_all_fitted_rows_is_refused() -> None:
    table, folds = replace(rings(), n_held=29), Folds(2, 30)
    net, _ = second(table)
    own = int(folds.of(torch.tensor(0)))
    block = block_of(net, table, folds=folds)
    with pytest.raises(ValueError, match=f"fold {own + 1} holds all rows that are fitted"):
        block.without(own)
    assert block.without(1 - own).n_pairs == 5


def test_what_is_known_before_a_block_needs_no_feature() -> None:
    table = rings()
    net, _ = second(table)
    block = block_of(net, table)
    _, scores, labels = map(torch.from_numpy, pairs(net, table, 1))
    net.block(1).features.forward = None
    residual = (labels - scores) * labels.abs()
    torch.testing.assert_close(block.power, residual.square().mean(0))
    torch.testing.assert_close(block.offset, residual.mean(0))
    torch.testing.assert_close(block.initial_objective, (F.softplus(-labels * scores) * labels.abs()).mean(0))


def test_tiles_are_the_pairs_in_the_order_of_the_batches() -> None:
    table = rings()
    net, _ = second(table)
    block = block_of(tile(net, 16), table)
    tiles = list(block.tiles())
    assert [len(part.labels) for part in tiles] == [16, 16, 3] * 3 + [15]
    features, scores, labels = pairs(net, table, 1)
    np.testing.assert_allclose(torch.cat([part.features for part in tiles]), features[:, :-1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(torch.cat([part.scores for part in tiles]), scores, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(torch.cat([part.labels for part in tiles]), labels)
    held = torch.cat([part.labels for part in block.tiles("held")])
    np.testing.assert_array_equal(held, table.rows("held")[1].flatten(0, 1))


def test_leading_rows_are_whole_batches() -> None:
    table = rings()
    net, _ = second(table)
    part = block_of(net, table).leading(8 * 5)
    assert part.n_pairs == 14 * 5
    assert [len(chunk.labels) for chunk in part.chunks()] == [7, 7]
    assert [len(chunk.labels) for chunk in part.chunks("held")] == [6]
    terms = [part.evaluate(part.zeros(), number).terms for number in (0, 1)]
    for found in terms:  # of the same rows in any order of passes
        torch.testing.assert_close(found, part.initial_objective)


def test_nothing_is_added_where_no_label_is_observed() -> None:
    table = rings(missing=1.0)
    net = network(table, 1, 5).double()
    block = problem(stream(net, table))
    at = block.evaluate(torch.ones(2, 6).double())
    assert not at.terms.any() and not at.gradient.any()


def test_a_loss_that_is_not_finite_names_block_pass_and_batch() -> None:
    table = xors(200, batch_size=50)
    net = network(table, 1).double()
    rows = stream(net, table, seed=3)
    block = problem(rows)
    block.calibrate()
    _, second_visited, _ = rows.visit(0, 4)
    second_visited.stream[0, 0, -1] = torch.nan
    with pytest.raises(FloatingPointError) as error:
        block.evaluate(block.zeros(), 4)
    where = "block 1, epoch 5, batch 2: lower the solver's step or the inputs"
    assert str(error.value) == f"loss or gradient is not finite in {where}"


def test_what_is_kept_is_made_once_and_belongs_to_its_block() -> None:
    table, made = rings(), []
    net, _ = second(table)
    block = block_of(net, table)
    for _ in range(2):
        assert block.keep("factor", lambda: made.append(1) or 7) == 7
    assert replace(block, block=net.frozen_block(0)).keep("factor", lambda: 8) == 8
    assert block.with_penalty(block.penalty).keep("factor", lambda: 9) == 9
    assert made == [1]
    assert block.zeros().shape == (2, 10)
    assert block.n_labels == 2
    assert problem(block.rows).label_loss == LabelLoss(SquaredLoss())
