"""The trainer and the threads of fits in memory, and which trainers make sense here at all."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import lightning as L
import torch
from joblib import effective_n_jobs
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy

STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true", "single_device")
LEFT_ALONE = {
    "min_epochs": ((None, 0), "a block ends at its tolerance"),
    "min_steps": ((None, 0), "a block ends at its tolerance"),
    "gradient_clip_val": ((None, 0), "the solver settles its steps"),
    "accumulate_grad_batches": ((1,), "the solver settles its steps"),
    "overfit_batches": ((0,), "every split has rows of its own; limit_train_batches leaves out some"),
    "val_check_interval": ((1,), "val rows follow each block"),
    "check_val_every_n_epoch": ((1,), "val rows follow each block"),
}
"""Arguments of a trainer with the values that make sense here, and why others do not."""


def fit_in_memory(
    task: L.LightningModule,
    data: L.LightningDataModule,
    callbacks: list[L.Callback],
    accelerator: str = "auto",
    verbose: bool = False,
    **limits: Any,
) -> None:
    """Fit a task on one device, writing no file.

    Args:
        task: The task.
        data: Its data.
        callbacks: `LayerwiseTraining` among them.
        accelerator: Lightning's name of the device.
        verbose: Show Lightning's progress and messages.
        limits: Further arguments of the trainer.
    """
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    with warnings.catch_warnings():
        if not verbose:
            logger.setLevel(logging.ERROR)
            warnings.simplefilter("ignore", PossibleUserWarning)
        for notice in ("Total length of .* across ranks is zero", ".isinstance.treespec, LeafSpec"):
            warnings.filterwarnings("ignore", notice)
        try:
            L.Trainer(
                accelerator=accelerator,
                devices=1,
                max_epochs=-1,
                callbacks=callbacks,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=verbose,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                **limits,
            ).fit(task, datamodule=data)
        finally:
            logger.setLevel(level)


@contextmanager
def threads(n_jobs: int | None) -> Iterator[None]:
    """Let torch compute with as many threads as joblib makes of `n_jobs`, or with as many as before when None."""
    before = torch.get_num_threads()
    if n_jobs is not None:
        torch.set_num_threads(effective_n_jobs(n_jobs))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_trainer(trainer: L.Trainer) -> None:
    """Check that a trainer can train block after block.

    Raises:
        ValueError: One line naming each argument, its value and the valid choices.
    """
    given = {name: getattr(trainer, name, "a time") for name in LEFT_ALONE}
    problems = [strategy_problem(trainer.strategy)]
    for name, (valid, reason) in LEFT_ALONE.items():
        if given[name] not in valid:
            problems.append(f"trainer.{name} must be left out, got {given[name]}: {reason}")
    if any(problems):
        raise ValueError("; ".join(filter(None, problems)))


def strategy_problem(strategy: Any) -> str:
    """Return why a strategy cannot train a block; or nothing.

    Args:
        strategy: By its name, as an object, or as a config's class path and arguments.
    """
    start, kind = "popen", type(strategy)
    if isinstance(strategy, str):
        name, is_valid = repr(strategy), strategy in STRATEGIES
    else:
        if isinstance(strategy, Strategy):
            start = getattr(strategy, "_start_method", start)
        else:
            module, _, name = strategy.class_path.rpartition(".")
            kind, start = getattr(import_module(module), name), strategy.get("init_args", {}).get("start_method", start)
        name, is_valid = kind.__name__, issubclass(kind, DDPStrategy | SingleDeviceStrategy) and start == "popen"
    if is_valid:
        return ""
    is_ddp = "ddp" in name.lower()
    reason = "processes start as commands" if is_ddp else "one block's weights leave nothing to shard"
    return f"trainer.strategy must be one of {', '.join(STRATEGIES)}, got {name}: {reason}"
