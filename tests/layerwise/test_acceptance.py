from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain import Doubled, Table, network, problem, stream, train_all
from torch import Tensor

from hierlit.layerwise import Acceptance, ExactSolver, LabelLoss, LogisticLoss, SquaredLoss
from hierlit.layerwise.acceptance import RULES, SetAsideSums, gains, gains_most, is_learned

FLIPS = 0.1


def decide(rule: str, before: Tensor, after: Tensor, labels: Tensor, learned: bool = False) -> list[bool]:
    """What a rule says of scores before and after a block and labels, all [rows, n]."""
    sums = SetAsideSums.of(LabelLoss(SquaredLoss()), before[:, None], after[:, None], labels[:, None])
    if rule == "gain":
        return gains(sums).tolist()
    return gains_most(sums, torch.full((labels.shape[1],), learned), 0.9).tolist()


def signs(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).choice([-1.0, 1.0], shape))


def flipped(labels: Tensor, rate: float) -> Tensor:
    return torch.where(torch.from_numpy(np.random.default_rng(9).random(labels.shape)) < rate, -labels, labels)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 8), st.integers(1, 3), st.integers(1, 9))
def test_sums_are_over_examples_of_means_over_observed_locations_and_add_up_over_batches(
    seed: int, n_rows: int, n_locations: int, cut: int
) -> None:
    draw = np.random.default_rng(seed)
    before, after = draw.standard_normal((2, n_rows, n_locations, 2))
    labels = draw.choice([-1.0, 0.0, 1.0], (n_rows, n_locations, 2))
    expected = np.zeros((11, 2))
    for row in range(n_rows):
        for label in range(2):
            seen = labels[row, :, label] != 0
            if seen.any():
                y, old, new = labels[row, seen, label], before[row, seen, label], after[row, seen, label]
                gain = (np.logaddexp(0, -y * old) - np.logaddexp(0, -y * new)).mean()
                wrong = (new**2 * (new * y < 0)).mean()
                residuals = ((y - old) ** 2).mean(), ((y - new) ** 2).mean()
                right = (old * y > 0).sum(), (new * y > 0).sum()
                parts = [1, gain, gain**2, (y - old).mean(), *residuals, (new**2).mean(), wrong, *right, seen.sum()]
                expected[:, label] += parts
    cut = min(cut, n_rows)
    tensors = [torch.from_numpy(values) for values in (before, after, labels)]
    parts = [[values[:cut] for values in tensors], [values[cut:] for values in tensors]]
    total = sum(SetAsideSums.of(LabelLoss(LogisticLoss()), *part).stack() for part in parts)
    np.testing.assert_allclose(total, expected, rtol=1e-10, atol=1e-12)


def test_a_label_that_is_nearly_always_the_same_is_learned_by_a_constant() -> None:
    labels = -torch.ones(2000, 6)
    labels[0, 0], labels[:4, 1], labels[:, 5] = 1, 1, 0
    before = torch.zeros(2000, 6).index_fill(1, torch.tensor([4]), -0.2)
    after = torch.tensor([-0.999, -0.999, -0.3, 0.999, -0.3, -0.999]).expand(2000, 6)
    sums = SetAsideSums.of(LabelLoss(SquaredLoss()), before[:, None], after[:, None], labels[:, None])
    found = is_learned(sums, 0.999, 0.9)
    whole = "one wrong, too many wrong, too faint, the other constant, faint but right before"
    assert found[:5].tolist() == [True, False, False, False, True], whole
    assert gains_most(sums, found, 0.9).tolist() == [True, False, False, False, True, False], "the last is not observed"


@pytest.mark.parametrize("rule", ["gain", "strict"])
def test_every_rule_accepts_a_block_that_gets_everything_right(rule: str) -> None:
    labels = signs(50, 3)
    assert decide(rule, torch.zeros(50, 3), labels, labels) == [True] * 3


def test_none_accepts_everything_and_the_others_no_loss() -> None:
    labels = signs(50, 3)
    worse = (torch.zeros(50, 3), -labels, labels)
    assert decide("gain", *worse) == decide("strict", *worse) == [False] * 3
    table = Table(labels[:, None], labels[:, None], n_held=20)
    net = network(table, 1, 5).double()
    weight = torch.zeros(3, 6).double()
    weight[:, -1] = 1e3
    found = {rule: Acceptance(rule)(problem(stream(net, table)), weight).tolist() for rule in RULES}
    assert found == {"none": [True] * 3, "gain": [False] * 3, "strict": [False] * 3}


@pytest.mark.parametrize("rule", ["gain", "strict"])
def test_a_block_that_changes_nothing_is_rejected(rule: str) -> None:
    labels = signs(50, 3)
    assert decide(rule, labels / 2, labels / 2, labels, learned=True) == [False] * 3


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1000), st.floats(-0.3, 0.3))
def test_gain_asks_for_more_than_the_standard_error_of_the_mean(seed: int, shift: float) -> None:
    draw = np.random.default_rng(seed)
    labels = torch.ones(30, 1).double()
    after = torch.from_numpy(draw.standard_normal((30, 1)) / 2 + shift)
    gain = (0.5 - (1 - after) ** 2 / 2).flatten().numpy()
    assert decide("gain", torch.zeros(30, 1).double(), after, labels) == [gain.mean() > gain.std(ddof=1) / np.sqrt(30)]


def test_strict_accepts_the_true_sign_of_flipped_labels_at_their_best_scores() -> None:
    truth = signs(400, 3)
    best = (1 - 2 * FLIPS) * truth
    assert decide("strict", torch.zeros(400, 3), best, flipped(truth, FLIPS)) == [True] * 3


def test_strict_rejects_half_of_a_label_until_it_has_been_learned() -> None:
    truth = signs(400, 3)
    half = truth * (signs(400, 3, seed=1) > 0)
    assert decide("strict", torch.zeros(400, 3), half, truth) == [False] * 3
    assert decide("strict", torch.zeros(400, 3), half, truth, learned=True) == [True] * 3
    assert decide("gain", torch.zeros(400, 3), half, truth) == [True] * 3


def test_strict_rejects_faint_scores_that_explain_little() -> None:
    truth = signs(400, 3)
    assert decide("strict", torch.zeros(400, 3), 0.3 * truth, truth) == [False] * 3


@pytest.mark.parametrize("rule", ["gain", "strict"])
def test_a_label_never_observed_on_set_aside_rows_is_rejected(rule: str) -> None:
    labels = signs(50, 2)
    labels[:, 1] = 0
    assert decide(rule, torch.zeros(50, 2), signs(50, 2) * 0.9, labels) == [True, False]


def mixed_labels(n_rows: int = 1080, n_held: int = 216) -> Table:
    """Three clean labels, three flipped at rate 0.1, three of which half is explained by an input, nine of noise."""
    x = signs(n_rows, 8)
    clean = torch.stack([x[:, 0] * x[:, 1], x[:, 2], x[:, 3] * x[:, 4]], 1)
    coin = signs(n_rows, 3, seed=2)
    half = torch.where(x[:, 5:6] > 0, clean, coin)
    labels = torch.cat([clean, flipped(clean, FLIPS), half, signs(n_rows, 9, seed=3)], 1)
    return Table(x[:, None].float(), labels[:, None].float(), n_held)


@pytest.mark.parametrize("solver", [ExactSolver(), None], ids=["exact", "gradient"])
@pytest.mark.parametrize("rule", RULES)
def test_a_trained_block_changes_accepted_labels_alone(rule: str, solver: ExactSolver | None) -> None:
    table = mixed_labels()
    net = network(table, 1, 120)
    report = train_all(net, table, solver, acceptance=Acceptance(rule), relative=0.1).reports[0]
    accepted = torch.tensor(report.accepted_labels)
    expected = {"none": [True] * 18, "gain": [True] * 9, "strict": [True] * 6 + [False] * 12}[rule]
    assert accepted[: len(expected)].tolist() == expected
    if rule == "gain":
        assert not accepted[9:].any(), "noise is never a gain at a fixed seed"
    assert report.accepted == int(accepted.sum())
    weight, scores = net.block(0).weight, net(table.inputs)
    assert weight[accepted].abs().amax(1).min() > 0
    assert not weight[~accepted].any()
    assert not scores[..., ~accepted].any()


def test_a_label_learned_and_then_rejected_keeps_its_scores() -> None:
    table, outputs = mixed_labels(), []
    for n_blocks in (1, 2):
        net = network(table, n_blocks, 120)
        trained = train_all(net, table, ExactSolver(), acceptance=Acceptance("strict"))
        outputs.append(net(table.inputs))
    rejected = ~torch.tensor(trained.reports[1].accepted_labels)
    learned_before = net.block(0).weight.abs().amax(1) > 0
    assert (rejected & learned_before).any(), "the problem should have a label learned in block 1 and rejected in 2"
    assert not net.block(1).weight[rejected].any()
    assert torch.equal(outputs[0][..., rejected], outputs[1][..., rejected])


@pytest.mark.parametrize("doubled", [False, True])
def test_it_is_judged_by_the_change_on_the_set_aside_rows_of_all_processes(doubled: bool) -> None:
    table = mixed_labels(200, 80)
    table.labels[-80:-40, :, 2] = 0
    net = network(table, 1, 10).double()
    block = problem(stream(net, table), loss=LogisticLoss())
    if doubled:
        block = replace(block, processes=Doubled())
    weight = torch.randn(18, 11, generator=torch.Generator().manual_seed(0)).double()
    inputs, labels = table.rows("held")
    net.block(0).set_weight(weight)
    net.n_trained.fill_(1)
    after = net(inputs.double())
    net.n_trained.fill_(0)
    expected = SetAsideSums.of(block.loss, torch.zeros_like(after), after, labels.double()).stack() * (1 + doubled)
    torch.testing.assert_close(block.held_sums(weight).stack(), expected)


def test_a_label_counts_as_learned_from_the_accuracy_given_on() -> None:
    x = signs(200, 1)
    table = Table(x[:, None], x[:, None], n_held=100)
    net = network(table, 1, 4).double()
    rows = stream(net, table)
    for chunk in rows.chunks("held"):  # scores of which nine in ten are right, and which half a block would mend
        right = torch.arange(len(chunk.labels)) % 10 != 0
        chunk.stream[:, 0, 1] = torch.where(right, 0.9, -0.9) * chunk.labels[:, 0, 0]
    block = problem(rows)
    seen = torch.cat([tile.features for tile in block.tiles("held")])
    slope = torch.linalg.lstsq(seen, 0.2 * torch.cat([chunk.labels for chunk in rows.chunks("held")]).view(-1, 1))
    weight = torch.cat([slope.solution.T, torch.zeros(1, 1)], 1)
    assert Acceptance("gain")(block, weight).tolist() == [True]
    found = [Acceptance("strict", learned_accuracy=share)(block, weight).tolist() for share in (0.85, 0.95)]
    assert found == [[True], [False]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "all"}, "acceptance must be one of none, gain, strict, got 'all'"),
        ({"strict_share": 0.0}, "strict_share must be in (0, 1], got 0.0"),
        ({"learned_accuracy": float("nan")}, "learned_accuracy must be in (0, 1], got nan"),
        (
            {"rule": "", "strict_share": 1.5},
            "acceptance must be one of none, gain, strict, got ''; strict_share must be in (0, 1], got 1.5",
        ),
    ],
)
def test_arguments_out_of_range_are_named_in_one_line(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as error:
        Acceptance(**arguments)
    assert str(error.value) == message
