"""A solver that finds out, on rows left out, which features a table's blocks are better made of (ours)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from hierlit.draws import generator_of
from hierlit.layerwise.acceptance import Acceptance
from hierlit.layerwise.adaptive_draw import AGOP_PAIRS, AdaptiveDraw, random_features
from hierlit.layerwise.algorithm import train
from hierlit.layerwise.chunk import Chunk
from hierlit.layerwise.gather import drawn, first_rows, gather_rows
from hierlit.layerwise.problem import BlockProblem
from hierlit.layerwise.processes import ALONE
from hierlit.layerwise.report import BlockReport
from hierlit.layerwise.solvers import ExactSolver, KernelSolver, ridge
from hierlit.layerwise.solvers.choice import HELD, WORTH, Choice
from hierlit.layerwise.solvers.kernel import Sample, folds_of, labels_of, stream_of, without_cosines
from hierlit.layerwise.solvers.ridge import RESOLUTION, RidgePath, penalties_of
from hierlit.layerwise.stream import StreamCache
from hierlit.metrics.average_precision import average_precision
from hierlit.models import CosineFeatures, HierarchicalResNet
from hierlit.models.radial_units import OpenUnits, RadialUnits

N_COSINES = 1000
"""Cosines of a block, unless there are to be fewer units."""
DRAWS = AdaptiveDraw(redraws=3, n_pairs=60_000)
"""How they are drawn, on so many pairs at most."""
HOPELESS = 0.9
"""Share of the kernel's average precision that the first block of cosines must reach for others to be tried."""
LEAD = 1.1
"""Multiple of the odds p/(1−p) of the kernel's average precision that cosines must reach, both after as many blocks as
they want: the rows left out take part in how cosines are drawn."""
CLEAR_LEAD = 2.0
"""The multiple where no kernel is better than chance, so that cosines may be by chance."""
NEAR = 0.8
"""Multiple of the odds of the first kernel block that suffices where the rows outnumber the units: cosines gain more by
more rows, and cost less."""
ALPHAS = (*ridge.ALPHAS, 1.0, 10.0)
"""Candidates for the λ of cosines, as multiples of the mean diagonal of their Gram matrix."""


class AutoSolver(KernelSolver):
    """Solve blocks of radial units as `KernelSolver` does, or blocks of cosines, whichever rank rows left out better.

    Kernels are for noisy tables of thousands of rows. Cosines cos(s·W¹z + b), drawn anew along the coordinates that
    labels depend on (`AdaptiveDraw`), are for functions of few inputs and of other labels; they take more blocks. Both
    are tried on the rows that `KernelSolver` makes its choices on, all folds but one of them: the kernels that it would
    choose, and a network of cosines as deep as this one. What ranks the fold left out better makes all blocks; the
    kernel if it is close, or, where the rows outnumber the units, cosines if they are close.

    A block of cosines is drawn on rows of all folds but one, labels being taken for how much they gain on that one. It
    is solved for all rows, each label with the λ of least squared error on folds left out, and there is another block
    unless the last has raised the average precision of scores of fits without the rows' own fold by less than `WORTH`.

    It takes the arguments of `KernelSolver`, and needs the same features, loss and folds.
    """

    @torch.no_grad()
    def open(self, problem: BlockProblem, memory: dict[str, Any]) -> BlockProblem | None:
        """Choose what the blocks are made of, if it is the first; then open a block. None if none is worth adding."""
        problem = without_cosines(problem)
        if problem.block.index and "cosines" in memory:
            return self._open_cosines(problem, memory)
        memory.pop("cosines", None)
        sample = Sample(problem, self.choice_rows, memory)
        chosen = sample.choose(self.among)
        if problem.block.index == 0 and cosines_are_better(self, problem, sample, chosen):
            return self._open_cosines(problem, memory)
        return self.place(problem, sample, chosen, memory)

    def sum_dtype(self, problem: BlockProblem) -> torch.dtype | None:
        """Return float64 for cosines, None for radial units."""
        return None if isinstance(problem.block.features, OpenUnits) else torch.float64

    def _open_cosines(self, problem: BlockProblem, memory: dict[str, Any]) -> BlockProblem | None:
        units = problem.rows.net.block(problem.block.index).features
        assert isinstance(units, RadialUnits)
        few, precision = drawn_problem(problem, DRAWS.n_pairs)
        past = memory.get("cosines", [])[: problem.block.index]  # a block may be opened again, for it was cut short
        if past and precision < past[-1] + WORTH:
            return None
        memory["cosines"] = [*past, precision]
        DRAWS(few)
        block = problem.block._replace(features=few.block.features)
        replace(problem, block=block).calibrate()
        units.take(random_features(few))
        opened = replace(problem, block=block._replace(features=units))
        return opened.with_penalty(best_penalties(opened))


def cosines_are_better(solver: KernelSolver, problem: BlockProblem, sample: Sample, chosen: Choice | None) -> bool:
    """Return whether cosines rank the rows of fold `HELD` better than kernels, a first one of which is chosen."""
    kernels = precisions_of_kernels(solver, problem, sample, chosen)
    first, best = next(kernels), 0.0
    are_many = problem.n_pairs > sample.features.n_centres and chosen is not None
    for precision in precisions_of_cosines(problem, sample):
        if not precision >= max(best + WORTH, HOPELESS * first):
            break
        best = precision
        if are_many and odds(best) > NEAR * odds(first):
            return True
    lead = CLEAR_LEAD if chosen is None else LEAD
    return not are_many and all(odds(best) > lead * odds(kernel) for kernel in chain([first], kernels))


def odds(precision: float) -> float:
    """Return p/(1−p), large where p is 1."""
    return precision / max(1e-9, 1 - precision)


def agreed(problem: BlockProblem, scores: Tensor, labels: Tensor) -> float:
    """Return an average precision as the first process has it: others may have rounded otherwise."""
    precision = torch.tensor(average_precision(scores, labels), dtype=torch.float64, device=problem.penalty.device)
    return float(problem.processes.all_gather(precision)[0])


def precisions_of_kernels(
    solver: KernelSolver, problem: BlockProblem, sample: Sample, chosen: Choice | None
) -> Iterator[float]:
    """Yield the average precision on fold `HELD` before any block if none is chosen, else after each block."""
    net, scores, held = problem.rows.net, sample.rows.scores, sample.rows.folds == HELD
    n_features, fan_in = sample.features.n_centres, sample.windows.shape[1]
    if chosen is None:
        yield agreed(problem, scores[held], sample.rows.labels[held])
    index = 0
    while chosen is not None:
        scores, index = scores + chosen.change, index + 1
        yield agreed(problem, scores[held], sample.rows.labels[held])
        if index == len(net.blocks):
            return
        tried = RadialUnits(fan_in, n_features).to(problem.penalty).opened()
        later = replace(problem, block=problem.block._replace(features=tried, index=index))
        chosen = Sample(later, solver.choice_rows, {"judged": {"scores": scores}}).choose(solver.among)


def precisions_of_cosines(problem: BlockProblem, sample: Sample) -> Iterator[float]:
    """Yield the average precision on fold `HELD`, after each block, of a network trained on a sample's other folds."""
    net, is_held = problem.rows.net, sample.folds == HELD
    sizes = (net.n_inputs, net.n_labels, net.n_locations, net.proximity, len(net.blocks), n_cosines(problem))
    tried = HierarchicalResNet(*sizes, CosineFeatures(), weight_seed=problem.seed).to(problem.penalty)
    rows = StreamCache(tried, seed=problem.rows.seed)
    for split, of in (("fit", ~is_held), ("held", is_held)):
        rows.fill(split, [(sample.stream[of][..., : net.n_inputs], sample.labels[of], of.nonzero()[:, 0])])
    for event in train(tried, rows, ExactSolver(), problem.label_loss, acceptance=Acceptance("gain"), adaptation=DRAWS):
        if isinstance(event, BlockReport):
            (held,) = rows.chunks("held")
            yield agreed(problem, tried.scores(held.stream), held.labels)


def drawn_problem(problem: BlockProblem, n_pairs: int) -> tuple[BlockProblem, float]:
    """Return a block of cosines on rows drawn from all processes, fold `HELD` set aside, to be drawn anew.

    Args:
        problem: The block of radial units.
        n_pairs: Pairs (row, location) of these rows. Each process has them all.

    Returns:
        The problem, and the average precision of the scores before the block, of fits without the rows' own fold.
    """
    net = problem.rows.net
    chosen = drawn(problem.seed, "cosine rows", 0, max(2, n_pairs // net.n_locations), first_rows(problem)[1])
    stream, labels, folds = (gather_rows(problem, chosen, view) for view in (stream_of(net), labels_of, folds_of))
    n_rows = max(1, AGOP_PAIRS // net.n_locations)
    parts = [
        [Chunk(*part) for part in zip(torch.split(stream[of], n_rows), torch.split(labels[of], n_rows), strict=True)]
        for of in (folds != HELD, folds == HELD)
    ]
    generator = generator_of(problem.seed, problem.block.index, DRAWS.redraws)
    cosines = CosineFeatures().first_layer(net.windows.size * stream.shape[-1], n_cosines(problem), generator)
    block = problem.block._replace(features=cosines.to(problem.penalty))
    few = replace(problem, block=block, rows=problem.rows.of(*parts), processes=ALONE)
    return few, agreed(problem, net.scores(stream), labels)


def n_cosines(problem: BlockProblem) -> int:
    """Return how many cosines a block has."""
    return min(N_COSINES, problem.rows.net.n_features)


def best_penalties(problem: BlockProblem) -> Tensor:
    """Return the λ [n] of least squared error on the folds left out, each label's own, by the folds' moments alone."""
    whole, folds = problem.summed(torch.float64)
    among = sorted(set(penalties_of(whole.gram, ALPHAS, RESOLUTION[problem.penalty.dtype])), reverse=True)
    if few := whole.of_few():
        whole, basis = few
        folds = [part.along(basis) for part in folds]
    errors = torch.zeros(len(among), problem.n_labels, dtype=torch.float64, device=problem.penalty.device)
    for part in folds:
        rest = whole.without(part)
        path = RidgePath(rest.gram, rest.cross, among)
        for error, factor in zip(errors, path.factors, strict=True):  # of all λ at once weights would be large
            weight = torch.cholesky_solve(path.cross.T, factor).T
            error += part.n_pairs * ((weight @ part.gram - 2 * part.cross) * weight).sum(-1)
    best = torch.tensor(among, dtype=torch.float64, device=errors.device)[errors.argmin(0)]
    return (problem.loss.curvature * best).to(problem.penalty)
