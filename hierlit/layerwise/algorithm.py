"""Algorithm 4.2, the paper's outer loop: open a block, solve it, judge, freeze, advance."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from hierlit.files.digests import tensor_digest
from hierlit.layerwise.acceptance import Acceptance
from hierlit.layerwise.adaptive_draw import AdaptiveDraw
from hierlit.layerwise.calibration import calibrate
from hierlit.layerwise.problem import BlockProblem
from hierlit.layerwise.processes import ALONE, Processes
from hierlit.layerwise.report import BlockReport
from hierlit.layerwise.solve import NO_GAIN, Pass, cross_fit, solve
from hierlit.layerwise.solvers.base import Solver, State, certify
from hierlit.layerwise.stopping import Stopping
from hierlit.layerwise.stream import StreamCache
from hierlit.layerwise.unobserved import LabelLoss
from hierlit.metrics import compute, label_metrics
from hierlit.models.resnet import HierarchicalResNet

Event = Pass | BlockReport
"""What `train` yields."""


def train(
    net: HierarchicalResNet,
    rows: StreamCache,
    solver: Solver,
    loss: LabelLoss,
    *,
    regularization: float = 1e-3,
    stopping: Stopping | None = None,
    acceptance: Acceptance | None = None,
    adaptation: AdaptiveDraw | None = None,
    processes: Processes = ALONE,
    robustness: float = 1.0,
    stop_when_learned: bool = False,
    memory: dict[str, Any] | None = None,
    resume_after: Pass | None = None,
) -> Iterator[Event]:
    """Train block after block: minimise F_k over W²_k to the tolerance, then freeze it (Algorithm 4.2).

    Args:
        net: The network; blocks that are trained already are left as they are.
        rows: Its rows, at the first block that is not trained. If they have folds, those that are
            fitted advance to the next block with the scores of fits that left them out (ours).
        solver: Minimises each F_k.
        loss: ℓ.
        regularization: λ of F_k, for every label.
        stopping: When a block is solved.
        acceptance: Which labels a block may change (ours).
        adaptation: Redraws a block's W¹ along the coordinates its labels depend on (ours); the paper's draw when None.
        processes: Those that share the rows.
        robustness: ξ, of the margins that are reported.
        stop_when_learned: Stop before the last block once every label has its margin on every training row.
        memory: What is remembered from block to block, tensors and plain values, changed in place: `all_have_margin`,
            `has_no_gain`, `by_fold` (the folds' weights of each block; None of one without), `labels` (those that the
            block under way may change, if not all), and what a solver and the adaptation add; joint training keeps
            `joint` and `steps`, and who drives the training may keep more (`passes`).
        resume_after: The pass that was made last; its block is open already, neither drawn nor calibrated again.

    Yields:
        Each pass, and after the passes of a block its report. What is yielded last is all that a run needs to resume,
        together with the network and `memory`.
    """
    stopping, acceptance = stopping or Stopping(), acceptance or Acceptance()
    memory = {} if memory is None else memory
    penalty, known = torch.full((net.n_scores,), regularization).to(net.block(0).weight), None
    while not is_over(net, memory, stop_when_learned):
        start = time.perf_counter() - (0.0 if resume_after is None else resume_after.seconds)
        block, seed = net.frozen_block(int(net.n_trained)), int(net.draw["weight_seed"])
        problem, labels = BlockProblem(block, rows, loss, penalty, seed, processes), None
        if resume_after is not None:
            labels = memory.get("labels")
        elif adaptation is not None:
            labels = adaptation.labels(memory, net.n_scores)
        problem = problem if labels is None else problem.of_labels(labels)
        if resume_after is None:
            opened = open_block(problem, solver, adaptation, memory)
            if opened is None:
                yield (resume_after := without_gain(problem, stopping))
            problem, opened = opened or problem, None
            memory.pop("labels", None)
            memory |= {} if problem.block.labels is None else {"labels": problem.block.labels}
        else:
            problem = solver.resume(problem)
        block = problem.block
        rows.keep_features(problem.block)
        last = yield from solve(problem, solver, stopping, resume_after, start)
        if rows.folds is not None and last.reason != NO_GAIN:
            last = yield from cross_fit(problem, solver, last, stopping)
        resume_after, accepted = None, acceptance(problem, last.state.weight) & last.state.weight.any(1)
        initial = float(problem.initial_objective.sum())
        by_fold = None
        if rows.folds is not None:
            by_fold = torch.stack(last.by_fold or (last.state.weight,) * rows.folds.number).mul_(accepted[:, None])
        solver.close(problem, by_fold, memory)
        by_fold = freeze(problem, last.state.weight.to(penalty) * accepted[:, None], by_fold)
        accepted = block.of_all(accepted, net.n_scores)[: net.n_labels]
        train_rows = known = train_metrics(rows, robustness, block.labels, known)
        if adaptation is not None:
            adaptation.note(memory, last.block, train_rows, accepted)
        memory["all_have_margin"] = not bool((train_rows["margin_error"] > 0).any())
        memory["has_no_gain"] = last.reason == NO_GAIN
        is_last = is_over(net, memory, stop_when_learned)
        calibrate(problem, is_last)
        del problem  # its sums and factors go before others come
        if by_fold is not None:
            past = memory.get("by_fold", [])
            memory["by_fold"] = [*past, *[None] * (last.block - len(past)), by_fold]
        report = make_report(net, last, initial, accepted, time.perf_counter() - start, train_rows)
        report.is_last = is_last
        yield report


def is_over(net: HierarchicalResNet, memory: Mapping[str, Any], stop_when_learned: bool) -> bool:
    """Return whether no block follows those trained so far."""
    learned = stop_when_learned and bool(memory.get("all_have_margin"))
    return int(net.n_trained) == len(net.blocks) or learned or bool(memory.get("has_no_gain"))


def n_used(n_trained: int, memory: Mapping[str, Any]) -> int:
    """Return how many of the blocks trained are used: not the last, if it was left out for no gain.

    The first is used in any case, for it gives each label its mean.
    """
    return n_trained - bool(n_trained > 1 and memory.get("has_no_gain"))


def open_block(
    problem: BlockProblem, solver: Solver, adaptation: AdaptiveDraw | None, memory: dict[str, Any]
) -> BlockProblem | None:
    """Redraw W¹ if asked for, then let the solver open the block; None if it sees no gain in another block."""
    drawn = problem if adaptation is None else adaptation.open(problem, memory)
    return None if drawn is None else solver.open(drawn, memory)


def without_gain(problem: BlockProblem, stopping: Stopping) -> Pass:
    """Return the only pass of a block that stays at zero, or, if it is the first, at each label's mean."""
    state = State(problem.zeros(), problem.penalty.clone())
    if problem.block.index == 0:
        state.weight[:, -1] = problem.offset.to(state.weight)
    certificate = certify(state, problem.evaluate(state.weight))
    state.passes = 1
    return Pass(problem.block.index, state, certificate, stopping.tolerance(problem, certificate), NO_GAIN)


@torch.no_grad()
def freeze(problem: BlockProblem, weight: Tensor, by_fold: Tensor | None = None) -> Tensor | None:
    """Write the solved weight into the network, advance all rows past the block, and count it as trained.

    Args:
        problem: The block.
        weight: [n, q+1], with rows of zeros for labels that are not accepted; changed in place.
        by_fold: What fitted rows advance with, by their fold, [K, n, q+1], changed in place; `weight` when None.

    Returns:
        `by_fold` in the coordinates of the features that the network keeps.

    Raises:
        RuntimeError: If processes do not agree to the bit; one line names the ranks and tensors that differ.
    """
    net, block, opened = problem.rows.net, problem.block, problem.block.features
    # solved in the coordinates of `opened` features, kept in those of the network's own
    weight, by_fold = opened.settled(weight), None if by_fold is None else opened.settled(by_fold)
    block = block._replace(features=net.block(block.index).features)
    net.block(block.index).set_weight(weight, block.labels)
    if problem.processes.number > 1:
        tensors = {f"blocks.{index}.weight": net.block(index).weight for index in range(len(net.blocks))}
        tensors |= net.block(block.index).named_parameters(f"blocks.{block.index}")
        sums = {name: tensor_digest(tensor) for name, tensor in tensors.items()}
        problem.processes.compare(f"the network after block {block.index + 1}", sums, weight.device)
    problem.rows.advance(block, weight, by_fold)
    net.n_trained += 1
    return by_fold


def make_report(
    net: HierarchicalResNet,
    last: Pass,
    initial_objective: float,
    accepted: Tensor,
    seconds: float,
    train: dict[str, Tensor],
) -> BlockReport:
    """Return the report of a block that is frozen, of its last pass; see `BlockReport`."""
    features, width = net.block(last.block).features, net.n_inputs + net.n_scores
    assert last.certificate is not None and last.reason is not None
    return BlockReport(
        block=last.block + 1,
        epochs=last.state.passes,
        steps=last.state.steps,
        seconds=seconds,
        objective=float(last.certificate.objective.sum()),
        gradient_norm=float(last.certificate.gradient_norm.norm()),
        suboptimality=float(last.certificate.suboptimality.sum()),
        accepted=int(accepted.sum()),
        stop_reason=last.reason,
        initial_objective=initial_objective,
        gradient_tolerance=last.tolerance,
        features=features.n_features,
        channels=len(features.channels) if features.channels is not None else width * (features.n_features > 0),
        accepted_labels=accepted.tolist(),
        train=train,
    )


@torch.no_grad()
def train_metrics(
    rows: StreamCache, robustness: float, labels: Tensor | None = None, known: dict[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Metrics [n] of all training rows, set-aside ones included, at the blocks trained so far, over all processes.

    Args:
        rows: The rows.
        robustness: ξ.
        labels: Labels [n'] that the last block may have changed; all when None.
        known: The metrics of all labels before; None if they are not known.
    """
    net = rows.net
    if known is None or net.pooled or net.neighbours is not None:
        labels = None
    metrics = label_metrics(net.n_labels if labels is None else len(labels), robustness).to(rows.device)
    for split in ("fit", "held"):
        for chunk in rows.chunks(split):
            if labels is None:
                metrics.update(*net.judged(net.answers(chunk.stream), chunk.labels))
            else:
                metrics.update(net.scores(chunk.stream)[..., labels], chunk.labels[..., labels])
    return compute(metrics, labels, known)
