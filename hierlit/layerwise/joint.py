"""Joint training: every W² at once, by backpropagation through the network; the paper's third open question."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from hierlit.layerwise.algorithm import Event, freeze, make_report, train_metrics
from hierlit.layerwise.calibration import calibrate
from hierlit.layerwise.problem import BlockProblem, Evaluation
from hierlit.layerwise.processes import ALONE, Processes
from hierlit.layerwise.solve import Pass
from hierlit.layerwise.solvers.base import State, certify
from hierlit.layerwise.stopping import Stopping
from hierlit.layerwise.stream import StreamCache
from hierlit.layerwise.unobserved import LabelLoss
from hierlit.models.block import readout
from hierlit.models.checks import is_count
from hierlit.models.resnet import HierarchicalResNet

JOINT = "joint training"
"""Why a block ends that was trained with all others."""


@dataclass(frozen=True)
class JointTraining:
    """Train all blocks at once, end to end, and then hand them over one by one (ours).

    The network is the same: W¹ random and frozen, features calibrated, here on the inputs alone, before the first step.
    The objective is the loss of the last block's scores, or the mean over all blocks' scores, plus (λ/2)‖W²_k‖² for
    each block; it is not convex. The joint epochs count as those of the first block. Each block, as it is frozen, then
    has one pass at a fixed weight, for its row in the tables: its F_k, and by its certificate how far the block is from
    the minimum that layerwise training would have found after the blocks before it. All labels follow every block.

    Args:
        epochs: Joint epochs.
        optimizer: Makes the optimizer of the list of all W²; AdamW with step 1e-3 and no weight decay when None.
        lr_scheduler: Makes a scheduler of that optimizer, stepped once an epoch; cosine decay to 0 when None.
        every_block: Whether each block's scores are supervised, and not the last block's alone.

    Raises:
        ValueError: If `epochs` is not a positive integer.
    """

    epochs: int = 100
    optimizer: Callable[[list[Tensor]], Optimizer] | None = None
    lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None
    every_block: bool = False

    def __post_init__(self) -> None:
        if not is_count(self.epochs):
            raise ValueError(f"epochs must be a positive integer, got {self.epochs}")

    def train(
        self,
        net: HierarchicalResNet,
        rows: StreamCache,
        loss: LabelLoss,
        *,
        regularization: float = 1e-3,
        stopping: Stopping | None = None,
        processes: Processes = ALONE,
        robustness: float = 1.0,
        memory: dict[str, Any] | None = None,
        resume_after: Pass | None = None,
    ) -> Iterator[Event]:
        """Train all blocks; arguments and what is yielded are those of `algorithm.train`."""
        stopping, memory = stopping or Stopping(), {} if memory is None else memory
        if int(net.n_trained) and "joint" not in memory:
            raise ValueError(f"joint training is of all blocks at once, but {int(net.n_trained)} are trained already")
        start = time.perf_counter() - (0.0 if resume_after is None else resume_after.seconds)
        penalty = torch.full((net.n_scores,), regularization).to(net.block(0).weight)
        blocks = [net.frozen_block(index) for index in range(len(net.blocks))]
        problems = [BlockProblem(block, rows, loss, penalty, processes=processes) for block in blocks]
        last = resume_after
        if last is None and "joint" not in memory:
            for problem in problems:
                problem.calibrate()
        if "joint" not in memory:
            weights = torch.stack([problem.zeros() for problem in problems])
            state = State(weights, penalty.clone()) if last is None else last.state
            while state.passes < self.epochs:
                self._epoch(problems[0], state)
                state.passes += 1
                yield Pass(0, state, seconds=time.perf_counter() - start)
            memory["joint"], memory["steps"], last = state.weight, state.steps, None
        for index in range(int(net.n_trained), len(blocks)):
            problem, start = problems[index], start if index == 0 else time.perf_counter()
            rows.keep_features(problem.block)
            if last is None:
                last = self._pass(problem, memory, stopping)._replace(seconds=time.perf_counter() - start)
                yield last
            accepted = torch.ones(net.n_labels, dtype=torch.bool, device=penalty.device)
            initial = float(problem.initial_objective.sum())
            freeze(problem, last.state.weight)
            calibrate(problem, index + 1 == len(blocks))
            seconds, train = time.perf_counter() - start, train_metrics(rows, robustness)
            report = make_report(net, last, initial, accepted, seconds, train)
            report.is_last, last = index + 1 == len(blocks), None
            yield report

    def _pass(self, problem: BlockProblem, memory: dict[str, Any], stopping: Stopping) -> Pass:
        """Return the one pass of a block at its weight as it was trained jointly."""
        index = problem.block.index
        passes, steps = (self.epochs, memory["steps"]) if index == 0 else (0, 0)
        state = State(memory["joint"][index], problem.penalty.clone(), passes, steps)
        certificate = certify(state, problem.evaluate(state.weight, passes))
        state.passes += 1
        return Pass(index, state, certificate, stopping.tolerance(problem, certificate), JOINT)

    def _epoch(self, problem: BlockProblem, state: State) -> None:
        """Step all W² after each batch."""
        weights = list(state.weight)
        optimizer = self.optimizer(weights) if self.optimizer else torch.optim.AdamW(weights, 1e-3, weight_decay=0.0)
        scheduler = self.lr_scheduler(optimizer) if self.lr_scheduler else CosineAnnealingLR(optimizer, self.epochs)
        if state.extra:
            scheduler.load_state_dict(state.extra["scheduler"])
            optimizer.load_state_dict(state.extra["optimizer"])
        sums, n_batches = problem.sums(state.passes), problem.rows.n_chunks()
        for chunk in problem.rows.visit(0, state.passes):
            at = [weight.detach().requires_grad_() for weight in weights]
            scores = list(block_scores(problem.rows.net, chunk.stream, at))
            losses = [problem.loss(each, chunk.labels) for each in (scores if self.every_block else scores[-1:])]
            terms = torch.stack(losses).mean(0).sum((0, 1)) / problem.n_pairs
            gradients = torch.stack(torch.autograd.grad(terms.sum(), at))
            sums.add(Evaluation(terms.detach(), gradients[0]))
            gradients = problem.processes.sum(gradients.clone()) * n_batches
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient + state.penalty[:, None] * weight
            optimizer.step()
            state.steps += 1
        sums.evaluation()
        scheduler.step()
        state.extra = {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}


def block_scores(net: HierarchicalResNet, stream: Tensor, weights: list[Tensor]) -> Iterator[Tensor]:
    """Yield the scores [B, |G|, n] after each block, of Γ_0 [B, |G|, d+n], with gradients in the weights [n, q+1]."""
    for index, weight in enumerate(weights):
        stream = net.add_scores(stream, readout(net.features_of(stream, index), weight))
        yield net.scores(stream)
