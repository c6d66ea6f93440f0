"""What goes wrong on purpose, by class path on the command line: callbacks and solvers of tests."""

import os
import resource
import signal
import time
from dataclasses import dataclass
from typing import Any

import lightning as L
import psutil
import torch
import torch.distributed as dist
from torch import Tensor

from hierlit.layerwise import BlockProblem, Evaluation, GradientSolver, State
from hierlit.training import LayerwiseTask


class OneThread(L.Callback):
    """Has torch compute with one thread, so that runs beside one another do not wait for each other."""

    def __init__(self) -> None:
        torch.set_num_threads(1)


class SignalAtPass(L.Callback):
    """Sends this process a signal after a pass, counted over all blocks from 1; at 0, once the rows are there.

    Args:
        at: Number of the pass.
        signum: The signal.
        rank: The process that is sent it.
    """

    def __init__(self, at: int, signum: int = 9, rank: int = 0) -> None:
        self.at, self.signum, self.rank, self.seen = at, signum, rank, 0

    def _count(self, trainer: L.Trainer) -> None:
        if self.seen == self.at and trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.signum)

    def on_train_start(self, trainer: L.Trainer, task: LayerwiseTask) -> None:
        self._count(trainer)
        if self.at == 0:
            time.sleep(0.5)

    def on_train_batch_end(self, trainer: L.Trainer, task: LayerwiseTask, *_: Any) -> None:
        if task.report is None:
            self.seen += 1
            self._count(trainer)


class KillAfterBlock(L.Callback):
    """Kills this process when a block is in the tables, but in no checkpoint yet."""

    def __init__(self, block: int = 2) -> None:
        self.block = block

    def on_train_epoch_end(self, trainer: L.Trainer, task: LayerwiseTask) -> None:
        if task.block == self.block:
            os.kill(os.getpid(), signal.SIGKILL)


class FailAt(L.Callback):
    """Raises an error when a block is frozen, validated, or when the next one begins.

    Args:
        hook: on_train_batch_end, on_validation_batch_start or on_train_epoch_start.
        block: Number of blocks trained by then.
    """

    def __init__(self, hook: str, block: int, error: BaseException | None = None) -> None:
        def fail(trainer: L.Trainer, task: LayerwiseTask, *_: Any) -> None:
            if task.block == block:
                raise error or MemoryError("gone")

        setattr(self, hook, fail)


class TightMemory(L.Callback):
    """Leaves this process no memory for features or matrices of the block after some.

    Args:
        block: Number of blocks trained by then.
        spare: Bytes that are left.
    """

    def __init__(self, block: int = 1, spare: int = 2**20) -> None:
        self.block, self.spare = block, spare

    def on_train_epoch_start(self, trainer: L.Trainer, task: LayerwiseTask) -> None:
        if task.block == self.block:
            for chunk in (*task.rows.chunks("fit"), *task.rows.chunks("held")):
                chunk.buffer = chunk.features = None
            used = psutil.Process().memory_info().vms
            resource.setrlimit(resource.RLIMIT_AS, (used + self.spare, resource.RLIM_INFINITY))


class SmallFiles(L.Callback):
    """Lets this process write no file beyond a size, from the moment that a block is frozen."""

    def __init__(self, block: int, size: int) -> None:
        self.block, self.size = block, size

    def on_train_epoch_end(self, trainer: L.Trainer, task: LayerwiseTask) -> None:
        if task.block == self.block:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.RLIM_INFINITY))


class NotFinite(GradientSolver):
    """Gradient steps; with POISON set, one batch's terms are not finite: batch 3 of epoch 7 of block 2."""

    def visit(self, problem: BlockProblem, state: State) -> Evaluation:
        if (problem.block.index, state.passes) != (1, 6) or "POISON" not in os.environ:
            return super().visit(problem, state)
        sums = problem.sums(state.passes)
        for number, batch in enumerate(problem.batches(state.passes)):
            part = batch(state.weight)
            sums.add(part._replace(terms=part.terms / (number != 2)))
        return sums.evaluation()


class OwnRows(GradientSolver):
    """Gradient steps of a process that trusts its own rows."""

    def step(self, problem: BlockProblem, state: State, at: Evaluation) -> None:
        own = [batch(state.weight) for batch in problem.batches(state.passes)]
        gradient = sum(part.gradient for part in own) * problem.processes.number
        super().step(problem, state, at._replace(gradient=gradient))


class OwnMean(GradientSolver):
    """Gradient steps on features that each process centres in its own way."""

    def open(self, problem: BlockProblem, memory: dict[str, Any]) -> BlockProblem | None:
        opened = super().open(problem, memory)
        problem.block.features.mean += 1e-3 * problem.processes.rank
        return opened


class CountBytes(L.Callback):
    """Prints how many bytes a block adds up over the processes, as BYTES n."""

    def __init__(self) -> None:
        self.sent, self.all_reduce = 0, dist.all_reduce

    def on_train_batch_start(self, trainer: L.Trainer, task: LayerwiseTask, *_: Any) -> None:
        def counting(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            self.sent += tensor.nbytes
            return self.all_reduce(tensor, *args, **kwargs)

        dist.all_reduce = counting

    def on_train_batch_end(self, trainer: L.Trainer, task: LayerwiseTask, *_: Any) -> None:
        dist.all_reduce = self.all_reduce
        if task.report is not None:
            if trainer.is_global_zero:
                print("BYTES", self.sent, flush=True)
            self.sent = 0


@dataclass
class Cells:
    """An experiment as far as its runner knows one: its settings are numbers, its outcome is the process."""

    number: int
    seeds: int = 1

    def settings(self) -> list[dict[str, Any]]:
        return [{"number": number} for number in range(self.number)]

    def fit_arguments(self, settings: dict[str, Any], seed: int) -> list[str]:
        return [str(settings["number"])]

    def outcome(self, run: Any) -> dict[str, Any]:
        names = {"gpu": "CUDA_VISIBLE_DEVICES", "threads": "OMP_NUM_THREADS"}
        return {"pid": os.getpid()} | {column: os.environ.get(name, "") for column, name in names.items()}


@dataclass
class Sometimes:
    """A command of `Cells`: some numbers end their process, as the system does where memory runs out; others wait.

    Args:
        lost: Numbers that end their process.
        seconds: What all others take.
        failing: Numbers that end with an error.
    """

    lost: tuple[int, ...] = ()
    seconds: float = 0.0
    failing: tuple[int, ...] = ()

    def __call__(self, arguments: list[str]) -> Any:
        if int(arguments[0]) in self.failing:
            raise ValueError("beta must be in [0, 1], got 7")
        if int(arguments[0]) in self.lost:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds)
        return self
