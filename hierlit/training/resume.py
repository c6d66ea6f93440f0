"""What a checkpoint says about the run it was saved in, made exact: where it was, its last pass, its config."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lightning.pytorch.utilities import rank_zero_warn

from hierlit.files.checkpoints import origin_problem
from hierlit.files.digests import KEY, damage
from hierlit.layerwise.solve import Pass
from hierlit.layerwise.solvers import Certificate, State
from hierlit.models.resnet import OPTIONAL_SIZES, HierarchicalResNet, described

if TYPE_CHECKING:
    from hierlit.training.task import LayerwiseTask

PARTS: dict[str, type] = {"state": State, "certificate": Certificate, "fold_state": State}
"""What a pass has that is neither a tensor nor a plain value."""
HARMLESS_KEYS = ("seed_everything", "trainer.limit_val_batches", "model.n_blocks")
"""Values of a config that leave the block under way as it is, as those of `checkpoint` do: it has seeds of its own."""
FILES_APART = (".test_files", ".predict_files", ".ckpt_path")
"""Ends of names of values that decide nothing of a fit."""
FITTED_FILES = (".train_files", ".val_files")
"""And where they are None, for what was fitted to these files is a checkpoint's."""


class Change(NamedTuple):
    """A value of a config that differs, by its dotted name."""

    name: str
    before: Any
    after: Any

    def __str__(self) -> str:
        """Return what a person reads of it."""
        return f"{self.name} {self.before} → {self.after}"


def settle(loops: dict[str, Any], blocks: int, passes: int) -> None:
    """Rewrite Lightning's counters to the place that a run resumes from.

    Lightning raises its counters one by one between hooks, and guesses from their differences where a checkpoint was
    saved. Settled counters agree with one another: so many epochs are over, and so many batches of the next.

    Args:
        loops: State of the fit loop, as in `checkpoint["loops"]["fit_loop"]`; changed in place.
        blocks: Blocks that are trained, each an epoch.
        passes: Passes of the block under way that are done, each a batch.
    """
    epochs, batches = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
    begun = blocks + (passes > 0)
    for count in (epochs["total"], epochs["current"]):
        count.update(ready=begun, started=begun, processed=blocks, completed=blocks)
    trained = batches["total"]["processed"]
    batches["total"].update(ready=trained, started=trained, completed=trained)
    batches["current"].update(ready=passes, started=passes, processed=passes, completed=passes)
    batches["is_last_batch"] = False
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] = trained


def as_plain(last: Pass) -> dict[str, Any]:
    """Return a pass as tensors and plain values."""
    parts = {name: getattr(last, name) for name in PARTS}
    return last._asdict() | {name: None if part is None else dict(vars(part)) for name, part in parts.items()}


def from_plain(kept: Mapping[str, Any]) -> Pass:
    """Return the inverse of `as_plain`."""
    parts = {name: None if kept[name] is None else kind(**kept[name]) for name, kind in PARTS.items()}
    return Pass(**{**kept, **parts})


def save_place(task: LayerwiseTask, checkpoint: dict[str, Any]) -> None:
    """Add to a checkpoint what a run of a task needs to resume, beside the network's tensors."""
    checkpoint["sizes"], checkpoint["config"] = task.net.sizes | task.net.draw, task.config
    checkpoint["rounding"], checkpoint["memory"] = task.net.rounding, task.memory
    checkpoint["solver"] = described(task.joint or task.solver)
    if task.last is not None:
        checkpoint["pass"] = as_plain(task.last)
    settle(checkpoint["loops"]["fit_loop"], task.block, 0 if task.last is None else task.last.state.passes)


def restore_place(task: LayerwiseTask, checkpoint: dict[str, Any]) -> None:
    """Take a task to where a checkpoint was saved; a block under way starts anew if values that decide it have changed.

    Raises:
        ValueError: If a tensor is not as it was saved, or a size is not the checkpoint's; one line names them.
    """
    if problem := origin_problem(checkpoint):
        raise ValueError(f"the checkpoint was {problem}")
    if KEY in checkpoint and (problem := damage(checkpoint, "state_dict")):
        raise ValueError(f"the checkpoint is damaged: {problem}")
    net, state = task.net, checkpoint["state_dict"]
    check_sizes(net, checkpoint["sizes"], may_be_deeper=task.joint is None)
    for name, drawn in task.state_dict().items() if checkpoint["sizes"]["n_blocks"] < len(net.blocks) else ():
        state.setdefault(name, drawn)
    task.origin, net.rounding = repr(checkpoint.get(KEY)), checkpoint.get("rounding")
    net.n_trained.copy_(state["net.n_trained"])
    kept, task.memory = checkpoint.get("pass"), checkpoint["memory"]
    task.last = None if kept is None else from_plain(kept)
    before, after = checkpoint.get("config"), task.config
    if not before or not after:  # a run in Python, of which a pass alone is its solver's
        ours = described(task.joint or task.solver)
        before, after = {"solver": ours if task.last is None else checkpoint.get("solver")}, {"solver": ours}
    changes = config_changes(before, after)
    if changes:
        rank_zero_warn(f"values that differ from the checkpoint's, then → now: {', '.join(map(str, changes))}")
    if task.last is not None and deciding(changes):
        rank_zero_warn(f"block {task.block + 1}, which was under way, starts anew with them")
        task.last = None
        settle(checkpoint["loops"]["fit_loop"], task.block, 0)


def check_sizes(net: HierarchicalResNet, saved: Mapping[str, Any], may_be_deeper: bool) -> None:
    """Raise a ValueError unless a network is the one of a checkpoint, or one with more blocks where that may be."""
    here = dict.fromkeys(OPTIONAL_SIZES) | net.sizes | net.draw
    differ = [name for name in here if saved.get(name) != here[name]]
    is_deeper = "n_blocks" in differ and saved.get("n_blocks", math.inf) < len(net.blocks)
    if is_deeper and may_be_deeper:  # blocks are drawn one after another: a deeper net begins like this
        differ.remove("n_blocks")
    if differ:
        theirs, ours = (", ".join(f"{name}={sizes.get(name)}" for name in differ) for sizes in (saved, here))
        raise ValueError(f"the checkpoint holds another network ({theirs}) than this one ({ours})")


def config_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Return what differs between two configs, but the files of rows that a fit does not see."""
    old, new = dict(flattened(before)), dict(flattened(after))
    unread = (*FILES_APART, *(each for each in FITTED_FILES if new.get(f"data.init_args{each}") is None))
    names = [name for name in {**old, **new} if not name.endswith(unread)]
    return [Change(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)]


def deciding(changes: Sequence[Change]) -> list[Change]:
    """Return those that may decide weights."""
    return [each for each in changes if each.name not in HARMLESS_KEYS and not each.name.startswith("checkpoint.")]


def flattened(config: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a nested config by dotted names."""
    if not isinstance(config, Mapping):
        yield name, config
        return
    for key, value in config.items():
        yield from flattened(value, f"{name}.{key}" if name else key)
