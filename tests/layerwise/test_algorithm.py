"""Algorithm 4.2 on plain tensors: what it makes of blocks, and that LayerwiseTask under a Trainer makes the same."""

from dataclasses import replace

import lightning as L
import pytest
import torch
from plain import ALL, Table, Trained, automaton, gather, label_loss, network, pairs, stream, train_all, xors
from torch import Tensor

from hierlit.layerwise import (
    Acceptance,
    AdaptiveDraw,
    BlockProblem,
    BlockReport,
    ExactSolver,
    Folds,
    GradientSolver,
    HingeLoss,
    JointTraining,
    KernelSolver,
    LabelLoss,
    LogisticLoss,
    Pass,
    Solver,
    State,
    Stopping,
    StreamCache,
    train,
)
from hierlit.layerwise.algorithm import NO_GAIN
from hierlit.layerwise.problem import Evaluation
from hierlit.models import HierarchicalResNet, RadialFeatures
from hierlit.training import LayerwiseTask

SOLVERS = {"exact": ExactSolver, "gradient": GradientSolver}
every_solver = pytest.mark.parametrize("solver", SOLVERS)


def copy(net: HierarchicalResNet) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


class Reports(L.Callback):
    """Keeps the reports of the blocks that a task trains."""

    def __init__(self) -> None:
        self.seen: list[BlockReport] = []

    def on_train_batch_end(self, trainer: L.Trainer, task: LayerwiseTask, *_: object) -> None:
        if task.report is not None:
            self.seen.append(task.report)


def assert_same_reports(ours: list[BlockReport], theirs: list[BlockReport]) -> None:
    """Reports are the same to the bit but for seconds and what tables they are in."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one == replace(other, seconds=one.seconds, is_logged=one.is_logged, train=one.train)
        assert one.train.keys() == other.train.keys()
        assert all(torch.equal(value, other.train[name]) for name, value in one.train.items())


TASKS: dict[str, dict[str, object]] = {
    "gradient": {"solver": GradientSolver(minibatch_epochs=3), "loss": HingeLoss()},
    "exact": {"solver": ExactSolver()},
    "exact, logistic loss": {"solver": ExactSolver([0.1]), "loss": LogisticLoss()},
    "exact with adaptation": {"solver": ExactSolver(), "adaptation": AdaptiveDraw(n_pairs=100), "n_features": 64},
    "kernel solver": {"solver": KernelSolver(), "features": RadialFeatures()},
    "joint": {"joint": JointTraining(4, every_block=True)},
}
MOST = 9  # passes of a block


@pytest.mark.filterwarnings("ignore:block . stopped at max epochs", "ignore:acceptance none leaves")
@pytest.mark.parametrize(
    ("name", "output", "folds"),
    [(name, "split", 3 if name == "kernel solver" else None) for name in TASKS]
    + [("gradient", "orthogonal", 3), ("exact with adaptation", "orthogonal", 2), ("joint", "orthogonal", None)],
)
def test_three_blocks_have_the_weights_of_a_task_under_a_trainer_to_the_bit(
    name: str, output: str, folds: int | None, fit, xors
) -> None:
    data, arguments = xors(200, missing=0.2), {"n_blocks": 3, "n_features": 20, "output": output, **TASKS[name]}
    task, theirs = LayerwiseTask(6, 3, **arguments), Reports()
    rule = "gain" if "adaptation" in arguments else "none"
    fit(task, data, theirs, folds=folds, acceptance=rule, max_epochs_per_block=MOST)

    drawn = {"n_features": arguments["n_features"], "features": arguments.get("features")}
    net = HierarchicalResNet(6, 3, n_blocks=3, output=output, **drawn)
    labels = data.tables["train"].labels
    rows = StreamCache(net, seed=data.data_seed, folds=folds and Folds(folds, len(labels), labels=labels))
    rows.fill("fit", data.fit_dataloader())
    rows.fill("held", data.acceptance_dataloader())
    rows.fill("val", data.val_dataloader())
    options = {"loss": label_loss(arguments.get("loss")), "stopping": Stopping(max_epochs=MOST)}
    if name == "joint":
        events = arguments["joint"].train(net, rows, **options)
    else:
        options |= {"adaptation": arguments.get("adaptation"), "acceptance": Acceptance(rule)}
        events = train(net, rows, arguments["solver"], **options)
    ours = gather(events, rows)

    expected = task.net.state_dict()
    assert net.block(0).weight.any()
    assert [key for key, value in net.state_dict().items() if not torch.equal(value, expected[key])] == []
    assert len(ours.reports) == 3 or ours.reasons[-1] == NO_GAIN
    assert_same_reports(ours.reports, theirs.seen)


@every_solver
@pytest.mark.parametrize("output", ["split", "orthogonal"])
def test_nothing_of_the_network_changes_within_a_block_and_draws_never_do(solver: str, output: str) -> None:
    table = automaton(40)
    net = network(table, 3, 30, output=output)
    before, seen, states = copy(net), {}, {}
    options = {"acceptance": ALL, "stopping": Stopping(relative_suboptimality=0.1)}
    for event in train(net, stream(net, table), SOLVERS[solver](), label_loss(None), **options):
        if isinstance(event, Pass):
            state = states.setdefault(event.block, copy(net))
            assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
            seen.setdefault(event.block, []).append(event.state.weight.clone())
    after = copy(net)
    drawn = [name for name in before if name.endswith(("features.weight", "features.bias", "rotation"))]
    assert len(drawn) == 6 + (output == "orthogonal")
    assert all(torch.equal(after[name], before[name]) for name in drawn)
    for block in range(3):
        # the exact solver is at the minimum before the first pass
        assert (len(seen[block]) > 6) == (solver == "gradient")
        assert torch.equal(after[f"blocks.{block}.weight"], seen[block][-1])
        following = states[block + 1] if block < 2 else after
        changed = {name for name in after if not torch.equal(following[name], states[block][name])}
        next_block = {f"blocks.{block + 1}.features.{name}" for name in ("mean", "scale")}
        assert {f"blocks.{block}.weight", "n_trained"} <= changed
        fitted = {f"calibration.{name}" for name in ("knots", "slopes", "intercepts")}
        assert changed <= {f"blocks.{block}.weight", "n_trained"} | next_block | fitted


def test_passes_and_steps_are_counted_block_by_block() -> None:
    table = xors(batch_size=100)
    net, events = network(table), []
    for event in train(net, stream(net, table), GradientSolver(), label_loss(None), acceptance=ALL):
        events.append((event.block, event.state.passes, event.reason) if isinstance(event, Pass) else event)
    reports = [event for event in events if isinstance(event, BlockReport)]
    # 5 passes of mini-batches, then a full-batch step after every pass but the last, which only certifies
    assert [report.steps for report in reports] == [5 * len(table.batches()) + report.epochs - 6 for report in reports]
    for report in reports:
        own = [event for event in events if isinstance(event, tuple) and event[0] == report.block - 1]
        ends = [None] * (report.epochs - 1) + ["gradient norm"]
        assert own == [(report.block - 1, number + 1, reason) for number, reason in enumerate(ends)]
    assert [report.is_last for report in reports] == [False, True]
    assert events[-1] is reports[-1]


@pytest.mark.parametrize("tolerance", [None, 0.05])
@pytest.mark.parametrize("loss", [None, HingeLoss()], ids=repr)
def test_the_initial_objective_is_that_of_the_scores_before_the_block(
    loss: HingeLoss | None, tolerance: float | None
) -> None:
    table = xors()
    net = network(table).double()
    trained = train_all(net, table, loss=loss, tolerance=tolerance, max_epochs=8)
    for index, report in enumerate(trained.reports):
        _, scores, labels = map(torch.from_numpy, pairs(net, table, index))
        expected = label_loss(loss)(scores, labels).mean(0).sum()
        assert report.initial_objective == pytest.approx(float(expected))
    assert trained.reports[0].initial_objective == pytest.approx(3 * (0.5 if loss is None else 0.75))


def test_a_block_that_does_not_converge_ends_with_its_passes() -> None:
    trained = train_all(network(xors()), xors(), max_epochs=7)
    assert [(report.stop_reason, report.epochs) for report in trained.reports] == [("max epochs", 7)] * 2
    assert all(report.gradient_norm > report.gradient_tolerance for report in trained.reports)


def test_the_tolerance_is_where_the_certificate_is_a_share_of_the_initial_objective() -> None:
    table = xors()
    trained = train_all(network(table), table, relative=0.03)
    for report, last in zip(trained.reports, trained.last, strict=True):
        scale = report.gradient_tolerance / report.gradient_norm
        assert report.suboptimality * scale**2 == pytest.approx(0.03 * report.initial_objective)
        assert last.tolerance == report.gradient_tolerance
    given = train_all(network(table), table, tolerance=0.07)
    assert [report.gradient_tolerance for report in given.reports] == [0.07] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gradient_tolerance": 0.0}, "gradient_tolerance must be positive or null, got 0.0"),
        ({"gradient_tolerance": float("nan")}, "gradient_tolerance must be positive or null, got nan"),
        ({"relative_suboptimality": -1.0}, "relative_suboptimality must be positive, got -1.0"),
        ({"max_epochs": 0}, "max_epochs_per_block must be a positive integer, got 0"),
    ],
)
def test_what_cannot_stop_a_block_is_named(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError) as error:
        Stopping(**arguments)
    assert str(error.value) == message


def test_a_run_that_is_over_is_not_taken_up_again() -> None:
    table, memory = automaton(n_levels=1), {}
    net = network(table, 3, 60)
    train_all(net, table, ExactSolver(), stop_when_learned=True, memory=memory)
    assert train_all(net, table, ExactSolver(), stop_when_learned=True, memory=memory).reports == []
    assert [report.block for report in train_all(net, table, ExactSolver(), memory=memory).reports] == [2, 3]


@pytest.mark.parametrize("stop", [True, False])
def test_training_stops_when_every_label_has_its_margin_if_asked_to(stop: bool) -> None:
    table = automaton(n_levels=1)
    net = network(table, 3, 60)
    trained = train_all(net, table, ExactSolver(), stop_when_learned=stop)
    assert int(net.n_trained) == len(trained.reports) == (1 if stop else 3)
    assert trained.reports[-1].is_last
    assert float((net(table.inputs) * table.labels).min()) >= 0.5


def test_the_training_metrics_are_those_of_all_rows_and_of_the_network_after_the_block() -> None:
    table = xors(missing=0.2)
    net = network(table, 2, 40, output="orthogonal")
    report = train_all(net, table, ExactSolver()).reports[-1]
    margins, seen = net(table.inputs) * table.labels, table.labels != 0
    accuracy = (margins > 0).double().sum((0, 1)) / seen.sum((0, 1))
    torch.testing.assert_close(report.train["accuracy"], accuracy, check_dtype=False)
    least = margins.where(seen, torch.inf).amin((0, 1))
    torch.testing.assert_close(report.train["min_margin"], least, rtol=0, atol=1e-5, check_dtype=False)


def test_blocks_that_are_trained_are_left_as_they_are_and_the_others_follow() -> None:
    table = xors()
    whole, parts = network(table, 3), network(table, 3)
    train_all(whole, table, ExactSolver())
    for event in train(parts, stream(parts, table), ExactSolver(), label_loss(None), acceptance=ALL):
        if isinstance(event, BlockReport) and event.block == 2:
            break
    before = copy(parts)
    assert [report.block for report in train_all(parts, table, ExactSolver()).reports] == [3]
    assert all(torch.equal(value, parts.state_dict()[name]) for name, value in copy(whole).items())
    assert all(torch.equal(before[f"blocks.{index}.weight"], parts.block(index).weight) for index in (0, 1))
    assert train_all(parts, table, ExactSolver()).reports == []


def test_rows_that_are_set_aside_are_not_fitted() -> None:
    states = []
    for poison in (False, True):
        table = xors()
        table.labels[-table.n_held :] *= -1 if poison else 1
        net = network(table)
        train_all(net, table, ExactSolver(choice="gcv"))
        states.append(copy(net))
    changed = {name for name, value in states[0].items() if not torch.equal(value, states[1][name])}
    assert "calibration.knots" in changed
    assert all(name.startswith("calibration.") for name in changed)


class Descent(Solver):
    """Gradient descent with a step of its own, after rows whose features are half as large as they were drawn."""

    def __init__(self, gain: bool = True) -> None:
        self.gain, self.closed = gain, []

    def open(self, problem: BlockProblem, memory: dict[str, object]) -> BlockProblem | None:
        memory["opened"] = [*memory.get("opened", []), problem.block.index]
        if not self.gain and problem.block.index:
            return None
        problem.block.features.weight.mul_(0.5)
        problem.calibrate()
        return problem.with_penalty(problem.penalty * 10)

    def step(self, problem: BlockProblem, state: State, at: Evaluation) -> None:
        state.weight -= 0.1 * (at.gradient.to(state.weight) + state.penalty[:, None] * state.weight)
        state.steps += 1

    def close(self, problem: BlockProblem, by_fold: Tensor | None, memory: dict[str, object]) -> None:
        self.closed.append((problem.block.index, int(problem.rows.net.n_trained)))


def test_a_solver_of_ones_own_needs_a_step_alone_and_may_make_the_block_ready() -> None:
    table, solver, memory = xors(), Descent(), {}
    net, fresh = network(table).double(), network(table).double()
    trained = train_all(net, table, solver, LabelLoss(LogisticLoss()), relative=0.3, memory=memory)
    assert trained.reasons == ["gradient norm"] * 2
    assert solver.closed == [(0, 0), (1, 1)], "while the rows still are before the block"
    assert memory["opened"] == [0, 1]
    for index in range(2):
        assert trained.penalty(index) == pytest.approx(1e-2)
        assert torch.equal(net.block(index).features.weight, fresh.block(index).features.weight / 2)


def test_a_solver_that_sees_no_gain_ends_the_run() -> None:
    table, memory = xors(), {}
    net = network(table, 3).double()
    trained = train_all(net, table, Descent(gain=False), relative=0.1, memory=memory)
    assert trained.reasons == ["gradient norm", NO_GAIN]
    assert [report.is_last for report in trained.reports] == [False, True]
    assert [report.accepted for report in trained.reports] == [net.n_labels, 0], "of all that it may, it changes none"
    assert not any(trained.reports[-1].accepted_labels)
    assert int(net.n_trained) == 2
    assert not net.block(1).weight.any()
    assert train_all(net, table, Descent(), memory=memory).reports == []


class Useless(Solver):
    """Sees nothing to gain from any block."""

    def open(self, problem: BlockProblem, memory: dict[str, object]) -> None:
        return None

    def step(self, problem: BlockProblem, state: State, at: Evaluation) -> None:
        raise AssertionError("there is no block to step in")


@pytest.mark.parametrize("folds", [None, 3])
def test_a_first_block_without_gain_gives_each_label_its_mean(folds: int | None) -> None:
    table, memory = xors(missing=0.2), {}
    net, made = network(table, 2).double(), folds and Folds(folds, len(table.inputs))
    trained: Trained = train_all(net, stream(net, table, folds=made), Useless(), memory=memory)
    _, _, labels = pairs(net, table, 0)
    assert trained.reasons == [NO_GAIN]
    assert trained.reports[0].accepted == net.n_labels
    assert net.block(0).weight[:, -1].tolist() == pytest.approx(labels.mean(0))
    assert not net.block(0).weight[:, :-1].any()
    again = stream(net, table, folds=made, by_fold=memory.get("by_fold", ()))
    for split in ("fit", "held"):
        for chunk, same in zip(trained.rows.chunks(split), again.chunks(split), strict=True):
            assert torch.equal(chunk.stream, same.stream)
            expected = net.block(0).weight[:, -1].expand(chunk.labels.shape)
            torch.testing.assert_close(net.scores(chunk.stream), expected)


def test_a_label_that_is_not_accepted_passes_the_block_unchanged() -> None:
    table: Table = xors()
    table.labels[..., 2] = torch.randn(len(table.labels), 1, generator=torch.Generator().manual_seed(1)).sign()
    net = network(table, 1, 100)
    rows = stream(net, table)
    report = train_all(net, rows, ExactSolver(), acceptance=Acceptance("gain")).reports[0]
    assert report.accepted_labels == [True, True, False]
    assert not net.block(0).weight[2].any()
    scores = torch.cat([net.scores(chunk.stream) for chunk in rows.chunks("fit")])
    assert torch.equal(scores, net(table.rows()[0]))
