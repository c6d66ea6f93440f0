"""What a task and its callback make of options that belong together: checks before any work, checkpoints, failures."""

import os
import tempfile
from pathlib import Path

import lightning as L
import pytest
import torch

from hierlit.layerwise import AdaptiveDraw, ExactSolver, JointTraining, LabelLoss, SquaredLoss
from hierlit.training import LayerwiseTask

REFUSED: dict[str, tuple[dict[str, object], dict[str, object], dict[str, object], str]] = {
    "passes of mini-batches": (
        {},
        {},
        {"max_epochs_per_block": 5},
        "max_epochs_per_block must be at least 6 for GradientSolver, got 5",
    ),
    "passes of joint training": (
        {"joint": JointTraining()},
        {},
        {"max_epochs_per_block": 50},
        "max_epochs_per_block must be at least 101 for joint training, got 50",
    ),
    "draws of blocks trained jointly": (
        {"joint": JointTraining(), "adaptation": AdaptiveDraw()},
        {},
        {},
        "adaptation redraws a block after those before it are trained: leave it out of joint training",
    ),
    "draws without rows set aside": (
        {"solver": ExactSolver(), "adaptation": AdaptiveDraw()},
        {"acceptance_fraction": 0.0},
        {"acceptance": "none"},
        "adaptation needs acceptance_fraction above 0 in the data, got 0; or leave it out",
    ),
    "gain without rows set aside": (
        {"solver": ExactSolver()},
        {"acceptance_fraction": 0.0},
        {"acceptance": "gain"},
        "acceptance 'gain' needs acceptance_fraction above 0 in the data, got 0; or choose none",
    ),
    "strict gain without rows set aside": (
        {"solver": ExactSolver()},
        {"acceptance_fraction": 0.0},
        {"acceptance": "strict"},
        "acceptance 'strict' needs acceptance_fraction above 0 in the data, got 0; or choose none",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_go_together_is_refused_in_one_line_before_any_work(what: str, fit, xors) -> None:
    model, data, layerwise, message = REFUSED[what]
    task = LayerwiseTask(6, 3, n_blocks=2, n_features=20, **model)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    with pytest.raises(ValueError) as error:
        fit(task, xors(**data), **layerwise)
    assert str(error.value) == message
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    assert not list(task.rows.chunks("fit"))


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
def test_a_treatment_of_unobserved_labels_that_is_not_one_is_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayerwiseTask(2, 2, **arguments)


def test_by_default_labels_not_observed_are_ignored_and_draws_are_the_papers() -> None:
    task = LayerwiseTask(2, 2)
    assert task.loss == LabelLoss(SquaredLoss())
    assert task.adaptation is None
    assert task.joint is None


def adapted(adaptation: AdaptiveDraw | None = None) -> LayerwiseTask:
    return LayerwiseTask(
        6, 3, n_blocks=2, n_features=64, solver=ExactSolver(), adaptation=adaptation or AdaptiveDraw(n_pairs=100)
    )


def test_checkpoints_hold_an_adaptation_and_open_without_running_any_code(fit, xors, tmp_path: Path) -> None:
    path, data = tmp_path / "adapted.ckpt", xors()
    task = adapted(AdaptiveDraw(redraws=1, n_pairs=100, threshold=0.3, floor=0.1))
    fit(task, data).save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["hyper_parameters"]["adaptation"] == AdaptiveDraw(1, 100, 0.3, 0.1)
    again = LayerwiseTask.load_from_checkpoint(path)
    assert again.adaptation == task.adaptation
    inputs = data.tables["test"].inputs
    assert task(inputs).any()
    assert torch.equal(again(inputs), task(inputs))


def test_a_stopped_run_resumes_with_the_same_draws(fit, xors) -> None:
    data, whole, parts = xors(), adapted(), adapted()
    fit(whole, data)
    with pytest.warns(UserWarning, match="training ended after 1 of 2 blocks"):
        fit(parts, data, max_epochs=1)
    fit(parts, data)
    assert all(torch.equal(value, parts.state_dict()[name]) for name, value in whole.state_dict().items())


def test_a_run_that_fails_leaves_no_file_and_forgets_its_streams(fit, xors, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[int] = []

    class Failure(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, task: LayerwiseTask, batch: object, batch_idx: int) -> None:
            seen.append(task.rows.n_chunks())
            assert os.listdir(tmp_path) == []
            if task.block == 1:
                raise RuntimeError("the power is out")

    task = LayerwiseTask(6, 3, n_blocks=2, n_features=20, solver=ExactSolver(), cache_budget_gib=0.0)
    with pytest.raises(RuntimeError, match="the power is out"):
        fit(task, xors(), Failure())
    assert set(seen) == {4}
    assert os.listdir(tmp_path) == []
    assert not any(list(task.rows.chunks(split)) for split in ("fit", "held", "val"))
