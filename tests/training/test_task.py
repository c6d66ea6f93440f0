import re
from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import Tensor

from hierlit.data import ArrayHierarchy, CellularAutomaton
from hierlit.layerwise import SizedDraw
from hierlit.layerwise.losses import HybridMarginLoss
from hierlit.layerwise.solvers import ExactSolver, GradientSolver, Solver
from hierlit.metrics import MarginHistogram, compute, label_metrics
from hierlit.models import Features, GaussianFeatures, RandomFeatures, Window1d
from hierlit.training import LayerwiseTask

SOLVERS: dict[str, Callable[[], Solver]] = {"exact": ExactSolver, "gradient": GradientSolver}
every_solver = pytest.mark.parametrize("solver", SOLVERS)


def rings(seed: int = 0) -> CellularAutomaton:
    return CellularAutomaton(n_levels=2, n_cells=16, n_train=40, n_val=5, n_test=10, batch_size=16, data_seed=seed)


def ring_task(solver: str = "exact", **arguments: object) -> LayerwiseTask:
    sizes = {"proximity": Window1d(3), "n_blocks": 2, "n_features": 30}
    return LayerwiseTask(1, 2, 16, solver=SOLVERS[solver](), **{**sizes, **arguments})


def state(task: LayerwiseTask) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in task.state_dict().items()}


def different(one: dict[str, Tensor], two: dict[str, Tensor]) -> set[str]:
    assert one.keys() == two.keys()
    return {name for name in one if not torch.equal(one[name], two[name])}


@every_solver
@pytest.mark.parametrize("output", ["split", "orthogonal"])
def test_the_same_seeds_give_the_same_weights_to_the_last_bit(solver: str, output: str, fit) -> None:
    states = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        task = ring_task(solver, output=output)
        fit(task, rings(), relative_suboptimality=0.1)
        states.append(state(task))
    assert states[0]["net.blocks.1.weight"].any()
    assert different(*states) == set()


def test_another_seed_of_weights_or_batches_gives_other_weights(fit) -> None:
    states = {}
    for key, weight_seed, data_seed in (("base", 0, 0), ("weights", 1, 0), ("data", 0, 1)):
        task = ring_task(weight_seed=weight_seed)
        fit(task, rings(data_seed))
        states[key] = state(task)
    drawn = {f"net.blocks.{block}.features.{name}" for block in (0, 1) for name in ("weight", "bias")}
    assert drawn <= different(states["base"], states["weights"])
    assert "net.blocks.0.weight" in different(states["base"], states["weights"])
    assert not drawn & different(states["base"], states["data"])
    assert "net.blocks.0.weight" in different(states["base"], states["data"])


@every_solver
def test_labels_of_val_and_test_rows_and_their_inputs_are_never_read_by_training(solver: str, fit, xors) -> None:
    states, rows = [], xors().make_tables()
    inputs, labels = rows["train"]
    for poison in (False, True):
        other = tuple(-rows["val"][part] if poison else rows["val"][part] for part in (0, 1))
        data = ArrayHierarchy(inputs, labels, val=other, test=other)
        task = LayerwiseTask(6, 3, n_blocks=2, n_features=20, solver=SOLVERS[solver]())
        fit(task, data, relative_suboptimality=0.1)
        states.append(state(task))
    assert states[0]["net.blocks.1.weight"].any()
    assert {name for name in different(*states) if "net.calibration." not in name} == set()


def test_set_aside_rows_are_not_fitted(fit, xors) -> None:
    states = []
    for poison in (False, True):
        data = xors()
        data.setup()
        if poison:
            data.tables["train"].labels[data.held_rows] *= -1
        task = LayerwiseTask(6, 3, n_blocks=2, n_features=20, solver=ExactSolver(choice="gcv"))
        fit(task, data, acceptance="none")
        states.append(state(task))
    assert {name for name in different(*states) if "net.calibration." not in name} == set()


@pytest.mark.parametrize("output", ["split", "orthogonal"])
def test_the_network_after_training_gives_the_scores_that_training_saw(output: str, fit, xors) -> None:
    data, task = xors(), LayerwiseTask(6, 3, n_blocks=2, n_features=40, output=output, solver=ExactSolver())
    fit(task, data)
    table = data.tables["train"]
    margins = task(table.inputs) * table.labels
    torch.testing.assert_close(task.report.train["accuracy"], (margins > 0).double().mean((0, 1)), check_dtype=False)
    least = margins.amin((0, 1))
    torch.testing.assert_close(task.report.train["min_margin"], least, rtol=0, atol=1e-5, check_dtype=False)


def test_validation_while_fitting_reads_the_cached_streams(fit, xors, monkeypatch) -> None:
    task, calls = LayerwiseTask(6, 3, n_blocks=3, n_features=20, solver=ExactSolver()), []

    class Counter(L.Callback):
        def on_validation_start(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:
            stream = type(task.net).stream
            monkeypatch.setattr(task.net, "stream", lambda inputs: calls.append(1) or stream(task.net, inputs))

        def on_validation_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:
            monkeypatch.undo()
            assert "val" in task.results

    fit(task, xors(), Counter())
    assert len(calls) == 0


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("adaptation", [None, SizedDraw()], ids=["all labels", "few labels"])
def test_validation_of_changed_labels_is_that_of_all(adaptation: SizedDraw | None, every: int, fit) -> None:
    data = CellularAutomaton(n_levels=4, n_cells=16, n_train=150, n_val=20, batch_size=64, acceptance_fraction=0.2)
    task = LayerwiseTask(
        1, 4, 16, proximity=Window1d(3), n_blocks=6, n_features=200, solver=ExactSolver(), adaptation=adaptation
    )
    compared, measured = [], []

    class Compare(L.Callback):
        def setup(self, trainer: L.Trainer, pl_module: LayerwiseTask, stage: str) -> None:
            trainer.check_val_every_n_epoch = every

        def on_validation_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:
            scores, labels = task.net.judged(task(data.tables["val"].inputs), data.tables["val"].labels)
            metrics, margins = label_metrics(4), MarginHistogram(4)
            metrics.update(scores, labels)
            margins.update(scores, labels)
            for name, values in compute(metrics).items():
                torch.testing.assert_close(task.results["val"][name], values, rtol=1e-5, atol=1e-6)
            assert (task.margin_counts - margins.compute()).abs().sum() <= 0.01 * labels.numel()
            compared.append(task.block)
            measured.append(task.val_metrics["accuracy"].n_labels)

    fit(task, data, Compare(), acceptance="strict")
    assert task.block >= 4 and compared == list(range(every, task.block + 1, every))
    assert measured[0] == 4 and (min(measured) < 4) == (every == 1)


def test_validation_after_a_fit_that_was_interrupted_measures_all_labels(fit, xors) -> None:
    task, data = LayerwiseTask(6, 3, n_blocks=3, n_features=40, solver=ExactSolver()), xors()

    class Interrupt(L.Callback):
        def on_validation_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:
            if task.block == 2:
                raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(task, data, Interrupt())
    rows = data.tables["val"]
    other = ArrayHierarchy(rows.inputs, -rows.labels, val=(rows.inputs, -rows.labels))
    accuracy = task.results["val"]["accuracy"]
    L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False).validate(task, other, verbose=False)
    torch.testing.assert_close(task.results["val"]["accuracy"], 1 - accuracy)


@every_solver
def test_a_checkpoint_gives_back_the_scores_and_every_frozen_weight(solver: str, fit, tmp_path: Path) -> None:
    data, path = rings(), tmp_path / "trained.ckpt"
    task = ring_task(solver, output="orthogonal", loss=HybridMarginLoss() if solver == "gradient" else None)
    fit(task, data, relative_suboptimality=0.1).save_checkpoint(path)
    again = LayerwiseTask.load_from_checkpoint(path)
    assert different(state(task), state(again)) == set()
    inputs = data.tables["test"].inputs
    scores = task(inputs)
    assert scores.any()
    assert torch.equal(again(inputs), scores)
    assert again.block == task.block == 2
    assert again.loss == task.loss


def test_a_checkpoint_opens_without_running_any_code(fit, tmp_path: Path) -> None:
    path, task = tmp_path / "trained.ckpt", ring_task()
    fit(task, rings()).save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    assert different(state(task), checkpoint["state_dict"]) == set()


@pytest.mark.parametrize(
    "other",
    [{"n_features": 31}, {"n_blocks": 1}, {"proximity": Window1d(5)}, {"output": "orthogonal"}],
    ids=lambda other: next(iter(other)),
)
def test_a_checkpoint_of_another_network_is_refused_in_one_line(other: dict[str, object], fit, tmp_path: Path) -> None:
    path = tmp_path / "trained.ckpt"
    fit(ring_task(), rings()).save_checkpoint(path)
    with pytest.raises(ValueError, match="checkpoint holds another network") as error:
        LayerwiseTask.load_from_checkpoint(path, **other)
    assert "\n" not in str(error.value)
    here, there = str(error.value).split(" than this one ")
    assert here.removeprefix("the checkpoint holds another network ") != there, "says in what they differ"


def test_a_flipped_bit_of_a_weight_is_found_when_a_checkpoint_is_loaded(fit, tmp_path: Path) -> None:
    path = tmp_path / "trained.ckpt"
    fit(ring_task(), rings()).save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"]["net.blocks.1.weight"].view(torch.int32)[0, 0] ^= 1
    torch.save(checkpoint, path)
    with pytest.raises(
        ValueError, match=r"checkpoint is damaged: tensor state_dict/net\.blocks\.1\.weight is altered$"
    ):
        LayerwiseTask.load_from_checkpoint(path)


def test_a_checkpoint_is_loaded_into_a_deeper_network_of_the_same_draw(fit, tmp_path: Path) -> None:
    data, path, task = rings(), tmp_path / "trained.ckpt", ring_task()
    fit(task, data).save_checkpoint(path)
    deeper = LayerwiseTask.load_from_checkpoint(path, n_blocks=3)
    assert different(state(task), {name: state(deeper)[name] for name in state(task)}) == set()
    drawn = ring_task(n_blocks=3).net.block(2).features
    assert torch.equal(deeper.net.block(2).features.weight, drawn.weight)
    inputs = data.tables["test"].inputs
    assert torch.equal(deeper(inputs), task(inputs))


def test_without_the_callback_training_says_what_is_missing(xors) -> None:
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    with pytest.raises(RuntimeError, match="needs LayerwiseTraining"):
        trainer.fit(LayerwiseTask(6, 3, n_blocks=1, n_features=5), datamodule=xors())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"regularization": 0.0}, "regularization must be positive, got 0.0"),
        ({"regularization": float("nan")}, "regularization must be positive, got nan"),
        ({"regularization": float("inf")}, "regularization must be positive"),
        ({"robustness": 0.0}, "robustness must be in (0, 1], got 0.0"),
        ({"robustness": 1.5}, "robustness must be in (0, 1], got 1.5"),
        ({"levels": [1]}, "levels must have one entry for each of 3 labels, got 1"),
        ({"learned_accuracy": 1.5}, "learned_accuracy must be in (0, 1]"),
        ({"cache_budget_gib": -1.0}, "cache_budget_gib must be"),
        ({"n_blocks": 0}, "n_blocks must be a positive integer, got 0"),
        ({"output": "rotated"}, "output must be one of split, orthogonal"),
    ],
)
def test_an_argument_out_of_range_is_named_with_its_value(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as error:
        LayerwiseTask(6, 3, n_features=5, **arguments)
    assert message in str(error.value)
    assert str(next(iter(arguments.values()))).strip("[]") in str(error.value)


def test_all_arguments_out_of_range_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"(?s)(?=.*regularization)(?=.*robustness)(?=.*n_blocks)"):
        LayerwiseTask(6, 3, regularization=-1.0, robustness=2.0, n_blocks=0)


def test_a_single_label_is_a_hierarchy_of_one(fit) -> None:
    data = CellularAutomaton(rule=110, n_levels=1, n_cells=16, n_train=40, n_val=10, n_test=10)
    task = LayerwiseTask(1, 1, 16, data.levels, proximity=Window1d(3), n_blocks=1, n_features=40)
    fit(task, data)
    assert task.results["val"]["accuracy"].tolist() == [1.0]


def test_a_checkpoint_of_something_else_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="the checkpoint was not saved by hierlit"):
        LayerwiseTask(6, 3, n_blocks=1, n_features=5).on_load_checkpoint({"state_dict": {}})


def test_a_checkpoint_of_version_0_1_0_is_refused_by_its_version() -> None:
    with pytest.raises(ValueError, match=r"the checkpoint was saved by hierlit 0\.1\.0 or older: fit again"):
        LayerwiseTask(6, 3, n_blocks=1, n_features=5).on_load_checkpoint({"sizes": {"activation": "relu"}})


def test_other_activations_do_not_take_a_checkpoints_weights(fit, xors, tmp_path: Path) -> None:
    task = LayerwiseTask(6, 3, n_blocks=1, n_features=20)
    fit(task, xors()).save_checkpoint(tmp_path / "relu.ckpt")
    with pytest.raises(ValueError, match=r"features=relu.*'relu'.*features=tanh.*'tanh'"):
        LayerwiseTask.load_from_checkpoint(tmp_path / "relu.ckpt", features=GaussianFeatures(activation="tanh"))


@pytest.mark.parametrize("solvers", [(GradientSolver(), ExactSolver()), (ExactSolver([]), GradientSolver())])
def test_a_block_under_way_starts_anew_with_another_solver(solvers: tuple[Solver, Solver], fit, xors, tmp_path) -> None:
    begun, whole, again = (LayerwiseTask(6, 3, n_blocks=1, n_features=20) for _ in range(3))
    begun.solver, again.solver, whole.solver = solvers[0], *solvers[1:] * 2
    limits = {"relative_suboptimality": 1e-12}
    with pytest.warns(UserWarning, match="training ended after 0 of 1 blocks"):
        fit(begun, xors(missing=0.3), max_steps=2, **limits).save_checkpoint(tmp_path / "begun.ckpt")
    kept, other = (type(solver).__name__ for solver in solvers)
    with pytest.warns(UserWarning) as warned:
        fit(again, xors(missing=0.3), ckpt_path=tmp_path / "begun.ckpt", max_steps=4, **limits)
    said = [str(warning.message) for warning in warned]
    assert any(re.search(rf"then → now: solver {kept}.* → {other}", line) for line in said)
    assert "block 1, which was under way, starts anew with them" in said
    with pytest.warns(UserWarning):
        fit(whole, xors(missing=0.3), max_steps=2, **limits)
    assert torch.equal(again.last.state.weight, whole.last.state.weight)


class Wider(Features):
    """A kind of features that says nothing of itself."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def first_layer(self, fan_in: int, n_features: int, generator: torch.Generator) -> RandomFeatures:
        drawn = GaussianFeatures().first_layer(fan_in, n_features, generator)
        drawn.weight.data *= self.factor
        return drawn


def test_features_without_a_repr_resume_and_are_told_apart(fit, xors, tmp_path: Path) -> None:
    tasks = [LayerwiseTask(6, 3, n_blocks=2, n_features=20, features=Wider(factor)) for factor in (2.0, 2.0, 3.0)]
    with pytest.warns(UserWarning, match="training ended after 1 of 2 blocks"):
        fit(tasks[0], xors(), max_epochs=1).save_checkpoint(tmp_path / "begun.ckpt")
    fit(tasks[1], xors(), ckpt_path=tmp_path / "begun.ckpt")
    assert tasks[1].block == 2
    with pytest.raises(ValueError, match=r"another network \(first_layers=Wider\({'factor': 2.0}\)\) than this one"):
        fit(tasks[2], xors(), ckpt_path=tmp_path / "begun.ckpt")
