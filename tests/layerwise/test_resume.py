"""Training that stops after any pass, or between blocks, and resumes from what was saved ends to the same bit."""

import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from plain import ALL, Table, gather, hide, label_loss, network, stream, xors
from torch import Tensor

from hierlit.layerwise import (
    Acceptance,
    AdaptiveDraw,
    AutoSolver,
    BlockProblem,
    BlockReport,
    Evaluation,
    ExactSolver,
    Folds,
    GradientSolver,
    JointTraining,
    KernelSolver,
    LogisticLoss,
    Pass,
    SizedDraw,
    Solver,
    State,
    Stopping,
    StreamCache,
    train,
)
from hierlit.models import GaussianFeatures, HierarchicalResNet, RadialFeatures
from hierlit.training.resume import as_plain, from_plain

Events = Iterator[Pass | BlockReport]
Start = Callable[..., Events]
Saved = tuple[Pass | BlockReport, bytes]

ADAM = partial(torch.optim.Adam, lr=0.05)
DECAY = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.8)
PLATEAU = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, patience=0)
STOPPING = Stopping(max_epochs=5)


def layerwise(solver: Any, loss: Any = None, folds: int | None = None, **options: Any) -> tuple[Start, int | None]:
    def start(net: HierarchicalResNet, rows: StreamCache, **place: Any) -> Events:
        given = {"acceptance": ALL, "stopping": STOPPING, **options}
        return train(net, rows, solver, label_loss(loss), **given, **place)

    return start, folds


def jointly(joint: JointTraining) -> tuple[Start, int | None]:
    def start(net: HierarchicalResNet, rows: StreamCache, **place: Any) -> Events:
        return joint.train(net, rows, label_loss(LogisticLoss()), **place)

    return start, None


class Halved(Solver):
    """Gradient descent, under a λ of its own and with W¹ half as large as it was drawn."""

    def open(self, problem: BlockProblem, memory: dict[str, Any]) -> BlockProblem:
        problem.block.features.weight.mul_(0.5)
        problem.calibrate()
        memory["halved"] = memory.get("halved", 0) + 1
        return problem.with_penalty(problem.penalty * 10 * memory["halved"])

    def step(self, problem: BlockProblem, state: State, at: Evaluation) -> None:
        state.weight -= 0.1 * (at.gradient.to(state.weight) + problem.penalty[:, None] * state.weight)
        state.steps += 1


STEEP = JointTraining(4, lambda weights: torch.optim.SGD(weights, 0.1, momentum=0.9), DECAY, every_block=True)
GIVEN = Stopping(gradient_tolerance=0.2, max_epochs=5)
SHORT = Stopping(max_epochs=4)
GAIN = Acceptance("gain")
SIZED = SizedDraw(n_pairs=60, smallest=16)
RUNS: dict[str, tuple[Start, int | None]] = {
    "gradient": layerwise(GradientSolver(minibatch_epochs=2)),
    "gradient, Adam": layerwise(GradientSolver(ADAM, DECAY, 3), LogisticLoss()),
    "gradient, plateau": layerwise(GradientSolver(ADAM, PLATEAU, 3)),
    "gradient, given tolerance": layerwise(GradientSolver(minibatch_epochs=0), stopping=GIVEN),
    "exact, logistic loss": layerwise(ExactSolver(), LogisticLoss(), acceptance=GAIN),
    "exact without alphas": layerwise(ExactSolver([]), LogisticLoss()),
    "adaptation": layerwise(ExactSolver(), adaptation=AdaptiveDraw(n_pairs=60), acceptance=GAIN),
    "blocks that size themselves": layerwise(ExactSolver(), LogisticLoss(), adaptation=SIZED, acceptance=GAIN),
    "joint": jointly(JointTraining(5)),
    "joint, momentum": jointly(STEEP),
    "a solver's own λ and features": layerwise(Halved()),
    "folds": layerwise(ExactSolver(), folds=3, stopping=SHORT, acceptance=GAIN),
    "radial units": layerwise(ExactSolver(), LogisticLoss()),
    "radial units, folds": layerwise(ExactSolver(), LogisticLoss(), folds=2, stopping=SHORT),
    "kernel solver": layerwise(KernelSolver(), stopping=SHORT, folds=2),
    "a unit for each pair": layerwise(KernelSolver(), stopping=SHORT, folds=2),
    "cosines": layerwise(AutoSolver(), stopping=SHORT, folds=2),
    "folds, mini-batches": layerwise(GradientSolver(minibatch_epochs=2), LogisticLoss(), folds=2, stopping=SHORT),
}
KERNELS = ("kernel solver", "a unit for each pair", "cosines")
RADIAL = ("radial units", "radial units, folds", *KERNELS)
ADAPTED = ("adaptation", "blocks that size themselves")
DEEPER = ("folds", *KERNELS)
WIDTHS = {**dict.fromkeys(ADAPTED, 32), "a unit for each pair": 60}
ROTATED = ("gradient", "adaptation", "joint", "folds")


def rows_of(net: HierarchicalResNet, table: Table, folds: int | None, memory: dict[str, Any]) -> StreamCache:
    made = None if folds is None else Folds(folds, len(table.inputs))
    return stream(net, table, folds=made, by_fold=memory.get("by_fold", ()), seed=2)


def save(net: HierarchicalResNet, memory: dict[str, Any], event: Pass | BlockReport) -> bytes:
    file = io.BytesIO()
    kept = as_plain(event) if isinstance(event, Pass) else None
    torch.save({"net": net.state_dict(), "memory": memory, "pass": kept}, file)
    return file.getvalue()


def saving(events: Events, net: HierarchicalResNet, memory: dict[str, Any], kept: list[Saved]) -> Events:
    """The events, each saved before the next."""
    for event in events:
        kept.append((event, save(net, memory, event)))
        yield event


def streams(rows: StreamCache) -> list[Tensor]:
    return [chunk.stream for split in ("fit", "held") for chunk in rows.chunks(split)]


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("name", "output"), [(name, "split") for name in RUNS] + [(name, "orthogonal") for name in ROTATED]
)
def test_a_run_resumes_after_any_pass_to_the_bit(name: str, output: str, every: int) -> None:
    """After one of so many passes; which of them are tried differs from run to run."""
    start, folds = RUNS[name]
    table = xors(80, missing=0.1, n_held=20, batch_size=25)
    n_blocks, n_features = 3 if name in DEEPER and output == "split" else 2, WIDTHS.get(name, 10)
    features = RadialFeatures() if name in RADIAL else GaussianFeatures()
    is_sized = name == "blocks that size themselves"
    made = partial(network, table, n_blocks, n_features, features=features, output=output, is_sized=is_sized)
    net, memory, kept = made(), {}, []
    rows = rows_of(net, table, folds, memory)
    whole = gather(saving(start(net, rows, memory=memory), net, memory, kept), rows)
    n_trained = int(net.n_trained)
    assert n_trained == n_blocks or name in KERNELS
    assert name != "cosines" or net.block(0).features.are_cosines
    assert net.block(0).weight.any()
    assert len(kept) >= 5, "there should be passes to stop after"
    first = list(RUNS).index(name) % every
    for number, (event, saved) in list(enumerate(kept))[first::every]:
        loaded = torch.load(io.BytesIO(saved), weights_only=True)
        again, at = made(), None if loaded["pass"] is None else from_plain(loaded["pass"])
        again.load_state_dict(loaded["net"])
        fresh = rows_of(again, table, folds, loaded["memory"])
        done = gather(start(again, fresh, memory=loaded["memory"], resume_after=at), fresh)
        where = f"after event {number}, {event}"
        different = [key for key, value in net.state_dict().items() if not torch.equal(value, again.state_dict()[key])]
        assert different == [], where
        assert all(torch.equal(*both) for both in zip(streams(rows), streams(fresh), strict=True)), where
        rest = whole.reports[len(whole.reports) - len(done.reports) :]
        assert len(done.reports) == n_trained - int(loaded["net"]["n_trained"]), where
        for theirs, ours in zip(rest, done.reports, strict=True):
            assert {**vars(ours), "seconds": 0, "train": 0} == {**vars(theirs), "seconds": 0, "train": 0}, where
            assert all(torch.equal(value, ours.train[key]) for key, value in theirs.train.items()), where


def test_seconds_go_on_from_where_a_block_was() -> None:
    table = Table(torch.randn(20, 1, 2), hide(torch.ones(20, 1, 2), 0.2))
    net = network(table, 1, 5)
    events = train(net, stream(net, table), GradientSolver(), label_loss(None), acceptance=ALL)
    at = next(events)._replace(seconds=1000.0)
    resumed = train(net, stream(net, table), GradientSolver(), label_loss(None), acceptance=ALL, resume_after=at)
    assert 1000 < next(resumed).seconds < 1060


def test_a_pass_is_kept_as_tensors_and_plain_values_alone() -> None:
    table = xors(60, n_held=0)
    net = network(table, 1, 5)
    for at in train(net, stream(net, table), GradientSolver(ADAM, PLATEAU, 2), label_loss(None), acceptance=ALL):
        if isinstance(at, BlockReport):
            break
        again = from_plain(as_plain(at))
        assert again.state == at.state
        assert vars(again.certificate) == vars(at.certificate) if at.certificate else again.certificate is None
        assert again[3:6] == pytest.approx(at[3:6], nan_ok=True)
        assert again.by_fold == at.by_fold == ()
