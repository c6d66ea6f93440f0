"""What a checkpoint says about the run it was saved in, made exact: where it was, its sums, its config."""

from collections.abc import Iterator, Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor

NO_MATTER = ("seed_everything ", "checkpoint.", "trainer.limit_val_batches ", "model.n_blocks ")
"""Beginnings of changes of a config that leave the block under way as it is: it is drawn from seeds of its own."""


def settle(loops: dict[str, Any], done: int, n_batches: int) -> None:
    """Rewrites the counters to the place that a run goes on from.

    Lightning raises its counters one by one between hooks, and guesses from their differences where a checkpoint was
    saved. Settled counters agree with one another: so many epochs are over, and so many batches of the next.

    Args:
        loops: State of the fit loop, as in `checkpoint["loops"]["fit_loop"]`; changed in place.
        done: Batches of the epoch under way that have been trained on; all of them if it is over.
        n_batches: Batches in an epoch.
    """
    epochs, batches = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
    is_over = done == n_batches
    for count in (epochs["total"], epochs["current"]):
        finished = count["ready"] if is_over else count["processed"]
        begun = finished if is_over or done == 0 else finished + 1
        count.update(ready=begun, started=begun, processed=finished, completed=finished)
    trained = batches["total"]["processed"]
    batches["total"].update(ready=trained, started=trained, completed=trained)
    within = 0 if is_over else done
    batches["current"].update(ready=within, started=within, processed=within, completed=within)
    batches["is_last_batch"] = False
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] = trained


def own_part(parts: Tensor, trainer: L.Trainer) -> Tensor:
    """This process's share [...] of sums [W, ...] that W processes had; on another number of them, one has all."""
    if len(parts) == trainer.world_size:
        return parts[trainer.global_rank]
    return parts.sum(0) if trainer.is_global_zero else torch.zeros_like(parts[0])


def config_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs between two configs, a line for each value; nothing if one of them is not known."""
    old, new = dict(leaves(before)), dict(leaves(after))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)] if before and after else []
    return [f"{name} {old.get(name)} → {new.get(name)}" for name in names]


def decides_weights(change: str) -> bool:
    """Whether a change of `config_changes` may decide the weights of a block under way."""
    return not change.startswith(NO_MATTER)


def leaves(config: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a nested config by dotted names."""
    if not isinstance(config, Mapping):
        yield name, config
        return
    for key, value in config.items():
        yield from leaves(value, f"{name}.{key}" if name else key)
