"""Diagnostics: warns of the paper's failure signatures, and says of each label that was not learned why."""

import csv
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from hierlit.data.base import names_of
from hierlit.files.atomic import replace_text
from hierlit.layerwise.problem import BlockProblem
from hierlit.layerwise.processes import Processes
from hierlit.theory import KernelExpansion, Polynomial, expansion
from hierlit.training.layerwise import LayerwiseTraining
from hierlit.training.task import LayerwiseTask
from hierlit.watching.diagnostics.causes import RunSettings, Unlearned, explain
from hierlit.watching.diagnostics.evidence import Evidence, Probes
from hierlit.watching.diagnostics.labels import needed_square, parents_of, polynomials, stuck
from hierlit.watching.diagnostics.probe import probe, widened
from hierlit.watching.diagnostics.signatures import (
    DiagnosticWarning,
    Finding,
    exploding_norm,
    missing_degree,
    narrow_window,
    single_label,
)

NEAR = 0.03
"""How far above the share of the more frequent value an accuracy still is chance."""
MOST_PRINTED = 20
"""Labels of which the terminal says why; `unlearned.csv` has all."""
COLUMNS = ("label", "level", "accuracy", "cause", "evidence", "setting")


class Diagnostics(L.Callback):
    """Warns once a run of each failure signature it finds; at the end writes and prints why labels were not learned.

    Warnings are `DiagnosticWarning`s, from rank 0. `unlearned.csv` goes to the run's log folder, none where the trainer
    has no logger. What a further block would do is tried at most twice a run, on a few thousand pairs; it is thrown
    away, and training continues to the bit as without. Nothing is looked at where the features' kernel is unknown.

    Attributes:
        findings: What was warned of.
        unlearned: Why each label was not learned, once the run has ended.
    """

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.unlearned: list[Unlearned] = []
        self._raised: list[str] = []
        self._accuracy: list[Tensor] = []
        self._losses: Tensor | None = None
        self._zero: Tensor | None = None
        self._accepted: list[bool] = []
        self._needs: list[Polynomial | None] = []
        self._lacking: list[Finding | None] = []
        self._evidence: Evidence | None = None
        self._windows_tried = False
        self._names: list[str] = []
        self._folder = Path()

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Settle the folder: all processes must ask for it."""
        self._folder = Path(trainer.log_dir or ".")

    def state_dict(self) -> dict[str, Any]:
        """Signatures that were warned of, each label's accuracy block by block, and its loss on rows set aside."""
        return {"raised": self._raised, "accuracy": self._accuracy, "losses": self._losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self._raised, self._accuracy = state_dict["raised"], state_dict["accuracy"]
        self._losses = state_dict["losses"]

    def on_train_start(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """Look at the labels and at the kernel before any block is trained."""
        self._zero = None
        if trainer.ckpt_path is None:
            self._losses, self._accuracy = None, []
        data, kernel = trainer.datamodule, pl_module.net.features.kernel()  # type: ignore[attr-defined]
        self._names = names_of(data, data.n_labels)
        if not trainer.is_global_zero or kernel is None:
            return
        rows = data.tables["train"]
        negative, unobserved, _ = rows.counts()
        if not negative.any() or not unobserved.any():  # all labels are looked at only where it may be
            self._raise(single_label(torch.cat([labels.to(torch.int8) for labels in rows.label_pairs()])))
        self._needs = polynomials(data)
        self._lacking = [None if need is None else missing_degree(need.degree, *kernel) for need in self._needs]
        self._raise(next((found for found in self._lacking if found is not None), None))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """After a block, look at its norms and at labels that stay at chance; after the last, at all not learned."""
        task, kernel = pl_module, pl_module.net.features.kernel()
        if task.report is None or kernel is None:
            return
        self._accuracy.append(reported_accuracy(task))
        self._accepted = task.report.accepted_labels
        has_held = bool(len(trainer.datamodule.held_rows))  # type: ignore[attr-defined]
        problem = last_problem(trainer, task)
        if task.joint is None:
            rise = self._rise(task, problem, "held" if has_held else "val")
            if trainer.is_global_zero:
                self._look_at_norms(task, expansion(*kernel), rise)
            self._look_at_windows(trainer, task, problem)
        if trainer.should_stop and not self._learned(task).all():
            known = self._known(trainer, task)
            probes = Probes.of(problem, task.adaptation, known, "held" if has_held else "fit")
            self._evidence = replace(known, probes=probes)

    def on_train_end(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """Write `unlearned.csv`, and print its first rows."""
        if not self._accepted or trainer.fast_dev_run or not trainer.is_global_zero:  # type: ignore[attr-defined]
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        evidence = self._evidence or self._known(trainer, pl_module)
        learned_by = [
            None if pl_module.joint else first_learned(self._accuracy, label, pl_module.learned_accuracy)
            for label in range(data.n_labels)
        ]
        settings = settings_of(trainer, pl_module)
        self.unlearned = explain(evidence, settings, data.levels, parents_of(data), learned_by, self._lacking)
        if trainer.loggers:
            write_table(self._folder / "unlearned.csv", self.unlearned)
        print_unlearned(self.unlearned, data.n_labels)

    def _learned(self, task: LayerwiseTask) -> Tensor:
        return self._accuracy[-1] >= task.learned_accuracy

    def _known(self, trainer: L.Trainer, task: LayerwiseTask) -> Evidence:
        counts = trainer.datamodule.tables["train"].counts().double()  # type: ignore[attr-defined]
        observed, accepted = (counts[0] + counts[2]) / counts.sum(0), torch.tensor(self._accepted)
        training = next(found for found in trainer.callbacks if isinstance(found, LayerwiseTraining))  # type: ignore[attr-defined]
        refused = ~accepted & (training.acceptance.rule == "strict")
        return Evidence(self._accuracy[-1], self._learned(task), observed, refused)

    def _raise(self, finding: Finding | None) -> None:
        if finding is not None and finding.signature not in self._raised:
            self._raised.append(finding.signature)
            self.findings.append(finding)
            rank_zero_warn(str(finding), category=DiagnosticWarning)

    def _rise(self, task: LayerwiseTask, problem: BlockProblem, split: str) -> Tensor:
        """Return by how much the last block raises each label's loss on a split, in units of that of scores 0, [n]."""
        zero = judged_losses(problem, split, is_zero=True) if self._zero is None else self._zero
        before, changed = self._losses, torch.tensor(self._accepted).nonzero()[:, 0]
        if before is None or task.net.neighbours is not None:
            losses = judged_losses(problem, split)
        elif len(changed):
            here = problem.of_labels(changed.to(problem.penalty.device))
            losses = before.index_copy(0, changed, judged_losses(here, split))
        else:
            losses = before
        self._zero, self._losses = zero, losses
        return (losses - (zero if before is None else before)) / zero

    def _look_at_norms(self, task: LayerwiseTask, kernel: KernelExpansion, rise: Tensor) -> None:
        block = task.net.block(task.block - 1)
        whole = task.net.frozen_block(task.block - 1).of_all(block.weight, task.net.n_scores)
        weight, n_features = whole[: task.net.n_labels, :-1].double(), block.features.n_features
        live = block.features.weight.shape[1] / float(block.features.scale) ** 2
        squares = n_features * weight.square().sum(1).cpu()
        needed = torch.ones_like(squares)
        for label in squares.nonzero()[:, 0].tolist():
            needed[label] = needed_square(self._needs[label], kernel, live)
        self._raise(exploding_norm(squares, needed, rise, task.block, n_features, penalty_of(task), self._names))

    def _look_at_windows(self, trainer: L.Trainer, task: LayerwiseTask, problem: BlockProblem) -> None:
        chance, wide = chance_of(trainer), widened(task.net.proximity, task.net.n_locations, not task.net.masked)
        labels = stuck(self._accuracy, chance + NEAR, task.levels, task.learned_accuracy)
        if not labels or wide is None or self._windows_tried:
            return
        self._windows_tried = True
        size, unlearned, variance = task.net.n_features, ~self._learned(task), 4 * chance * (1 - chance)
        narrow, wider = (
            probe(problem, [size], without=unlearned, windows=windows).after[0] / variance for windows in (None, wide)
        )
        self._raise(narrow_window(labels, narrow, wider, (task.net.windows.size, wide.shape[1]), self._names))


def last_problem(trainer: L.Trainer, task: LayerwiseTask) -> BlockProblem:
    """Return the block that was trained last, with the rows as they stand after it."""
    block, processes = task.net.frozen_block(task.block - 1), Processes(trainer.world_size, trainer.global_rank)
    block = block._replace(labels=None)
    penalty = torch.full((task.net.n_scores,), task.regularization).to(task.net.block(0).weight)
    return BlockProblem(block, task.rows, task.loss, penalty, int(task.net.draw["weight_seed"]), processes)


def reported_accuracy(task: LayerwiseTask) -> Tensor:
    """Return each label's accuracy on held-out rows, where it has none there on training rows, [n]."""
    train = task.results["train"]["accuracy"].double().cpu()
    if "val" not in task.results:
        return train
    held_out = task.results["val"]["accuracy"].double().cpu()
    return held_out.where(held_out.isfinite(), train)


def first_learned(accuracy: list[Tensor], label: int, threshold: float) -> int | None:
    """Return the block, from 1, after which a label was learned for the first time."""
    return next((block for block, values in enumerate(accuracy, 1) if float(values[label]) >= threshold), None)


def chance_of(trainer: L.Trainer) -> Tensor:
    """Return the share of the more frequent value of each label in the training table, [n]."""
    negative, _, positive = trainer.datamodule.tables["train"].counts().double()  # type: ignore[attr-defined]
    ones = positive / (negative + positive).clamp(min=1)
    return torch.maximum(ones, 1 - ones)


@torch.no_grad()
def judged_losses(problem: BlockProblem, split: str, is_zero: bool = False) -> Tensor:
    """Return the loss of each label's scores, or of scores 0, summed over the rows of a split, [n]."""
    net, total = problem.rows.net, torch.zeros(problem.n_labels, dtype=torch.float64, device=problem.penalty.device)
    for chunk in problem.chunks(split):
        scores, labels = (problem.block.of_labels(each) for each in (net.scores(chunk.stream), chunk.labels))
        total += problem.loss(torch.zeros_like(scores) if is_zero else scores, labels).sum((0, 1))
    losses = problem.processes.sum(total).cpu()[: net.n_labels]
    return losses.clamp(min=1e-12) if is_zero else losses


def settings_of(trainer: L.Trainer, task: LayerwiseTask) -> RunSettings:
    """Return what of a run may be changed."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    return RunSettings(
        n_blocks=task.block,
        n_declared=len(task.net.blocks),
        n_features=task.net.n_features,
        window=task.net.windows.size,
        n_rows=len(data.fit_rows),
        no_negatives=not data.tables["train"].counts()[0].any(),
        unobserved=str(task.hparams["unobserved"]),
        learned_accuracy=task.learned_accuracy,
        names=names_of(data, data.n_labels),
        more_rows="raise data.n_train" if data.sizes else "find more training rows",
    )


def penalty_of(task: LayerwiseTask) -> str:
    """Return what to raise for smaller weights."""
    alphas: list[float] = getattr(task.solver, "alphas", [])
    if alphas:
        return f"raise model.solver.alphas, the least of them {min(alphas):g}"
    return f"raise model.regularization, now {task.regularization:g}"


def write_table(path: Path, rows: list[Unlearned]) -> None:
    """Write `unlearned.csv`, with a header alone if every label was learned."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(vars(row) for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, text.getvalue())


def print_unlearned(rows: list[Unlearned], n_labels: int) -> None:
    """Print how many labels were not learned for what cause, and the first of them."""
    if rows:
        causes = ", ".join(f"{cause}: {count}" for cause, count in Counter(row.cause for row in rows).most_common())
        print(f"not learned: {len(rows)} of {n_labels} labels ({causes})")
    for row in rows[:MOST_PRINTED]:
        print(f"- {row}")
    if len(rows) > MOST_PRINTED:
        print(f"- and {len(rows) - MOST_PRINTED} more, in unlearned.csv")
