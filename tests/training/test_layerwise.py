from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from torch import Tensor

from hierlit.data import ArrayHierarchy, CellularAutomaton
from hierlit.layerwise import AdaptiveDraw, JointTraining
from hierlit.layerwise.losses import HingeLoss
from hierlit.layerwise.solvers import ExactSolver, GradientSolver, Solver
from hierlit.models import GaussianFeatures, RadialFeatures, Window1d
from hierlit.training import LayerwiseTask, LayerwiseTraining

SOLVERS = {
    "exact": ExactSolver,
    "gradient": GradientSolver,
    "adam": lambda: GradientSolver(partial(torch.optim.Adam, lr=0.01)),
}


class Snapshots(L.Callback):
    """Copies the state after every pass, with the weight that it trains as `active`; keeps the blocks' reports."""

    def __init__(self) -> None:
        self.states: list[tuple[int, dict[str, Tensor]]] = []
        self.reports = []

    def on_train_batch_end(self, trainer: L.Trainer, task: LayerwiseTask, *_: object) -> None:
        if task.report is not None:
            self.reports.append(task.report)
            return
        state = {**task.state_dict(), "active": task.last.state.weight}
        self.states.append((task.block, {name: value.clone() for name, value in state.items()}))


def rings(**arguments: object) -> CellularAutomaton:
    sizes = {"n_levels": 3, "n_cells": 16, "n_train": 40, "n_val": 5, "n_test": 5, "batch_size": 16}
    return CellularAutomaton(**{**sizes, **arguments})


def ring_task(solver: Solver, **arguments: object) -> LayerwiseTask:
    sizes = {"proximity": Window1d(3), "n_blocks": 3, "n_features": 30}
    return LayerwiseTask(1, 3, 16, solver=solver, **{**sizes, **arguments})


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("output", ["split", "orthogonal"])
def test_only_the_active_weight_changes_during_a_block_and_draws_never_do(solver: str, output: str, fit) -> None:
    task, snapshots = ring_task(SOLVERS[solver](), output=output), Snapshots()
    before = {name: value.clone() for name, value in task.state_dict().items()}
    fit(task, rings(), snapshots, relative_suboptimality=0.1)
    drawn = [name for name in before if name.endswith(("features.weight", "features.bias", "rotation"))]
    assert len(drawn) == 6 + (output == "orthogonal")
    assert {block for block, _ in snapshots.states} == {0, 1, 2}
    assert all(torch.equal(task.state_dict()[name], before[name]) for name in drawn)
    start_of: dict[int, dict[str, Tensor]] = {}
    moved = set()
    for block, state in snapshots.states:
        start = start_of.setdefault(block, state)
        assert all(torch.equal(state[name], before[name]) for name in drawn)
        changed = {name for name in state if not torch.equal(state[name], start[name])}
        assert changed <= {"active"}
        moved |= {block} if changed else set()
    # the exact solver is at the minimum before its first pass
    assert moved == (set() if solver == "exact" else {0, 1, 2})
    assert all(task.net.block(block).weight.any() for block in (0, 1, 2))


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_transition_freezes_one_block_and_calibrates_the_next_for_good(solver: str, fit) -> None:
    task, snapshots = ring_task(SOLVERS[solver]()), Snapshots()
    fit(task, rings(), snapshots, relative_suboptimality=0.1)
    last = dict(snapshots.states)
    for block in (0, 1):
        names = {name for name in last[block] if not torch.equal(last[block][name], last[block + 1][name])}
        own, following = f"net.blocks.{block}.", f"net.blocks.{block + 1}."
        assert f"{own}weight" in names
        assert f"{following}features.mean" in names
        assert names <= {
            "active",
            "net.n_trained",
            f"{own}weight",
            f"{following}features.mean",
            f"{following}features.scale",
            *(f"net.calibration.{name}" for name in ("knots", "slopes", "intercepts")),
        }


@pytest.mark.parametrize("input_scale", ["fan_in", "live", "rms"])
def test_features_are_calibrated_on_the_rows_that_are_fitted(input_scale: str, fit, fitted_rows) -> None:
    data, task = rings(), ring_task(ExactSolver(), n_blocks=2, features=GaussianFeatures(input_scale=input_scale))
    fit(task, data, acceptance="none")
    for block in (0, 1):
        features, scores, _ = fitted_rows(task, data, block)
        torch.testing.assert_close(
            torch.from_numpy(features[:, :-1].mean(0)), torch.zeros(30).double(), rtol=0, atol=1e-6
        )
        inputs = data.tables["train"].inputs[data.fit_rows].double()
        power = {
            "fan_in": 4.0,
            "live": 1.0 + 3.0 * (block > 0),
            "rms": float(inputs.square().mean()) + (scores**2).mean(0).sum(),
        }
        assert float(task.net.block(block).features.scale) == pytest.approx((4 / power[input_scale]) ** 0.5, rel=1e-6)


def test_limited_training_batches_are_the_same_in_every_epoch(xors) -> None:
    task = LayerwiseTask(6, 3, n_blocks=1, n_features=20, solver=ExactSolver())
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        limit_train_batches=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[LayerwiseTraining()],
    )
    trainer.fit(task, datamodule=xors(batch_size=50))
    assert (task.report.stop_reason, task.report.epochs) == ("gradient norm", 1)


@pytest.mark.parametrize("output", ["split", "orthogonal"])
@pytest.mark.parametrize("unit", [1e-5, 1.0, 1e4])
def test_live_coordinates_are_counted_whatever_the_unit_of_the_inputs(unit: float, output: str, fit, xors) -> None:
    inputs, labels = xors().make_tables()["train"]
    task = LayerwiseTask(6, 3, n_blocks=1, n_features=20, solver=ExactSolver(), output=output)
    fit(task, ArrayHierarchy(inputs * unit, labels), acceptance="none")
    assert float(task.net.block(0).features.scale) == pytest.approx((9 / 6) ** 0.5)


def test_max_epochs_is_said_as_the_reason_with_a_warning(fit, xors) -> None:
    task, snapshots = LayerwiseTask(6, 3, n_blocks=2, n_features=20), Snapshots()
    with pytest.warns(UserWarning, match="block [12] stopped at max epochs: its gradient norm .* is above") as caught:
        fit(task, xors(), snapshots, max_epochs_per_block=7)
    assert sum("stopped at max epochs" in str(warning.message) for warning in caught) == 2
    assert [(report.stop_reason, report.epochs) for report in snapshots.reports] == [("max epochs", 7)] * 2
    assert all(report.gradient_norm > report.gradient_tolerance for report in snapshots.reports)


def test_a_block_that_reaches_its_tolerance_is_frozen_without_a_warning(fit, xors, recwarn) -> None:
    fit(LayerwiseTask(6, 3, n_blocks=2, n_features=20, solver=ExactSolver()), xors())
    assert not [
        warning for warning in recwarn if "stopped at" in str(warning.message) or "ended" in str(warning.message)
    ]


@pytest.mark.parametrize("solver", ["exact", "gradient"])
def test_a_run_that_ends_before_its_last_block_warns(solver: str, fit, xors) -> None:
    task = LayerwiseTask(6, 3, n_blocks=2, n_features=20, solver=SOLVERS[solver]())
    with pytest.warns(UserWarning, match="training ended after 1 of 2 blocks: raise trainer.max_epochs"):
        fit(task, xors(), max_epochs=1)
    assert task.block == 1


def test_training_goes_on_from_the_blocks_that_are_there(fit, xors) -> None:
    data = xors()
    whole, parts = (LayerwiseTask(6, 3, n_blocks=2, n_features=20, solver=ExactSolver()) for _ in range(2))
    fit(whole, data)
    fit(parts, data, max_epochs=1)
    assert parts.block == 1
    fit(parts, data)
    assert parts.block == 2
    assert all(torch.equal(value, parts.state_dict()[name]) for name, value in whole.state_dict().items())


def test_a_trained_network_is_left_as_it_is(fit, xors) -> None:
    data, task = xors(), LayerwiseTask(6, 3, n_blocks=1, n_features=20, solver=ExactSolver())
    fit(task, data)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    fit(task, data)
    assert all(torch.equal(before[name], value) for name, value in task.state_dict().items())


def test_training_stops_when_every_label_has_its_margin_if_asked_to(fit) -> None:
    for stop, n_blocks in ((True, 1), (False, 3)):
        data, task = (
            rings(n_levels=1),
            LayerwiseTask(1, 1, 16, proximity=Window1d(3), n_blocks=3, n_features=60, solver=ExactSolver()),
        )
        fit(task, data, acceptance="none", stop_when_learned=stop)
        assert task.block == n_blocks
        margins = task(data.tables["train"].inputs) * data.tables["train"].labels
        assert float(margins.min()) >= 0.5


def test_the_report_counts_epochs_and_steps_of_its_own_block(fit, xors) -> None:
    snapshots, data = Snapshots(), xors(batch_size=100)
    trainer = fit(LayerwiseTask(6, 3, n_blocks=2, n_features=20), data, snapshots, acceptance="none")
    n_batches = len(data.fit_dataloader())
    # 5 mini-batch epochs, then a full-batch step after every epoch but the last, which only certifies
    assert [report.steps for report in snapshots.reports] == [
        5 * n_batches + report.epochs - 6 for report in snapshots.reports
    ]
    assert trainer.current_epoch == 2


@pytest.mark.parametrize("loss", [None, HingeLoss()], ids=repr)
def test_the_initial_objective_is_that_of_the_scores_before_the_block(loss: HingeLoss | None, fit, xors) -> None:
    snapshots, data = Snapshots(), xors()
    task = LayerwiseTask(6, 3, n_blocks=1, n_features=20, loss=loss)
    fit(task, data, snapshots)
    assert snapshots.reports[0].initial_objective == pytest.approx(3 * (0.5 if loss is None else 0.75), rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gradient_tolerance": 0.0}, "gradient_tolerance must be positive or null, got 0.0"),
        ({"gradient_tolerance": float("nan")}, "gradient_tolerance must be positive or null, got nan"),
        ({"relative_suboptimality": -1.0}, "relative_suboptimality must be positive, got -1.0"),
        ({"max_epochs_per_block": 0}, "max_epochs_per_block must be a positive integer, got 0"),
        ({"acceptance": "all"}, "acceptance must be one of none, gain, strict, got 'all'"),
    ],
)
def test_an_argument_out_of_range_is_named_with_its_value_and_the_choices(
    arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError) as error:
        LayerwiseTraining(**arguments)
    assert str(error.value) == message


def test_all_arguments_out_of_range_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"relative_suboptimality.*; max_epochs_per_block.*; acceptance"):
        LayerwiseTraining(relative_suboptimality=0, max_epochs_per_block=0, acceptance="")


def test_it_drives_a_layerwise_task_only(xors) -> None:
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[LayerwiseTraining()])
    with pytest.raises(TypeError, match="drives a LayerwiseTask, got BoringModel"):
        trainer.fit(BoringModel(), datamodule=xors())


def test_loaders_without_a_data_module_are_refused_by_name(xors) -> None:
    data = xors()
    data.setup()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[LayerwiseTraining()],
    )
    with pytest.raises((TypeError, ValueError), match=r"(?i)data ?module"):
        trainer.fit(LayerwiseTask(6, 3, n_blocks=1, n_features=5), data.train_dataloader())


@pytest.mark.parametrize(("before", "after"), [(3, 2), (3, None), (None, 3), (3, 3)])
def test_blocks_are_added_with_the_folds_of_those_before_or_after_blocks_without(
    before: int | None, after: int | None, fit, xors, tmp_path: Path
) -> None:
    def task(n_blocks: int) -> LayerwiseTask:
        return LayerwiseTask(6, 3, n_blocks=n_blocks, n_features=20, solver=ExactSolver([]), regularization=0.1)

    fit(short := task(1), xors(), folds=before).save_checkpoint(path := tmp_path / "short.ckpt")
    if before not in (None, after):
        with pytest.raises(ValueError, match=f"layerwise.folds must be .*, {before}; got {after or 'null'}"):
            fit(task(2), xors(), ckpt_path=path, folds=after)
        return
    fit(longer := task(2), xors(), ckpt_path=path, folds=after).save_checkpoint(path := tmp_path / "longer.ckpt")
    assert torch.equal(longer.net.block(0).weight, short.net.block(0).weight)
    fit(third := task(3), xors(), ckpt_path=path, folds=after)
    fit(whole := task(3), xors(), folds=after)
    if before == after:
        assert all(torch.equal(third.net.block(k).weight, whole.net.block(k).weight) for k in range(3))


def test_a_second_fit_of_a_task_has_the_folds_of_the_first(fit, xors) -> None:
    task = LayerwiseTask(6, 3, n_blocks=2, n_features=20, solver=ExactSolver())
    fit(task, xors(), folds=3, max_epochs=1)
    with pytest.raises(ValueError, match=r"layerwise\.folds must be .*, 3; got null"):
        fit(task, xors())
    task.net.n_trained.zero_()
    fit(task, xors())
    assert "by_fold" not in task.memory


@pytest.mark.parametrize(
    ("arguments", "folds", "line"),
    [
        ({}, 3, "folds are for blocks trained one by one"),
        ({"adaptation": AdaptiveDraw()}, None, "adaptation redraws a block"),
        ({"features": RadialFeatures()}, None, "joint training needs features that are drawn"),
    ],
)
def test_what_joint_training_cannot_do_is_said_before(
    arguments: dict[str, object], folds: int | None, line: str, fit, xors
) -> None:
    task = LayerwiseTask(6, 3, n_blocks=2, n_features=20, joint=JointTraining(epochs=2), **arguments)
    with pytest.raises(ValueError, match=line):
        fit(task, xors(), acceptance="none", folds=folds)


def test_blocks_trained_one_by_one_are_not_trained_jointly_after(fit, xors) -> None:
    task = LayerwiseTask(6, 3, n_blocks=2, n_features=20, solver=ExactSolver())
    fit(task, xors(), max_epochs=1)
    task.joint = JointTraining(epochs=2)
    with pytest.raises(ValueError, match="of all blocks at once, but 1 are trained already"):
        fit(task, xors(), acceptance="none")


def test_global_step_counts_passes_and_max_steps_ends_a_run(fit, xors) -> None:
    task, snapshots = LayerwiseTask(6, 3, n_blocks=2, n_features=20), Snapshots()
    trainer = fit(task, xors(), snapshots)
    assert trainer.global_step == len(snapshots.states) == sum(report.epochs for report in snapshots.reports)
    task = LayerwiseTask(6, 3, n_blocks=2, n_features=20)
    with pytest.warns(UserWarning, match="training ended after 0 of 2 blocks"):
        assert fit(task, xors(), max_steps=7).global_step == 7
    assert task.last.state.passes == 7


def test_a_limit_that_leaves_no_batch_is_refused(fit, xors) -> None:
    with pytest.raises(ValueError, match="limit_train_batches must leave a batch of rows, got 0"):
        fit(LayerwiseTask(6, 3, n_blocks=1, n_features=20), xors(), limit_train_batches=0)


def test_fits_of_folds_that_do_not_converge_are_named(fit, xors) -> None:
    task = LayerwiseTask(6, 3, n_blocks=1, n_features=20)
    with pytest.warns(UserWarning, match="block 1 stopped at max epochs in its fit without fold 2"):
        fit(task, xors(), folds=2, max_epochs_per_block=7)
