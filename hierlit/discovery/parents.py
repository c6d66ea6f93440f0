"""Which simpler labels each label is a function of (ours)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierlit.discovery.options import DiscoverOptions
from hierlit.discovery.rows import LabelledRows
from hierlit.discovery.significance import Floats, above_zero, adjusted
from hierlit.draws import Draws
from hierlit.layerwise.adaptive_draw import AdaptiveDraw, agop_diagonals, best_ridge
from hierlit.layerwise.losses import SquaredLoss
from hierlit.layerwise.problem import BlockProblem
from hierlit.layerwise.stream import StreamCache
from hierlit.layerwise.unobserved import label_loss
from hierlit.models.resnet import HierarchicalResNet

ROWS_AT_ONCE = 256
SLACK = 0.01
"""Share of a label's variance that a smaller set of parents may lose."""


@dataclass(frozen=True)
class Edges:
    """What was found of the parents: one entry an edge from a simpler label to one that may read it.

    Attributes:
        label: [E], the label.
        parent: [E], the simpler label.
        reads: [S, E], the simpler label's share of the diagonal of the AGOP, among all simpler labels.
        chosen: [S, E], whether it is in the smallest set that predicts the label as well as all.
        loss: [S, E], share of held-out variance lost when it is permuted across rows; 0 where it is not chosen.
        p: [E], of nothing being lost, over all rows held out.
        explained: [S, n], share of each label's held-out variance that its chosen parents explain; 0 without any.
        options: How they were searched.
    """

    label: NDArray[np.int64]
    parent: NDArray[np.int64]
    reads: Floats
    chosen: NDArray[np.bool_]
    loss: Floats
    p: Floats
    explained: Floats
    options: DiscoverOptions

    @property
    def q(self) -> Floats:
        """Adjusted p-values [E]."""
        return adjusted(self.p)

    @property
    def found(self) -> NDArray[np.bool_]:
        """Which edges there are: false ones at most at the rate, and none that costs less than `least_loss`."""
        kept: NDArray[np.bool_] = (self.q <= self.options.rate) & (self.loss.mean(0) >= self.options.least_loss)
        return kept

    def pairs(self) -> set[tuple[int, int]]:
        """Parent and label of each edge found."""
        found = self.found
        return set(zip(self.parent[found].tolist(), self.label[found].tolist(), strict=True))


def find_parents(rows: LabelledRows, level: NDArray[np.int64], options: DiscoverOptions) -> Edges:
    """Look for the parents of each label among those of lower levels.

    Args:
        rows: Inputs, which are not read, and labels.
        level: [n], 0 for labels that are left out.
        options: Its options.
    """
    simpler = {label: np.flatnonzero((level > 0) & (level < level[label])) for label in np.flatnonzero(level > 1)}
    pairs = [(label, parent) for label, parents in simpler.items() for parent in parents]
    label, parent = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    reads, loss = (np.zeros((options.seeds, len(pairs))) for _ in range(2))
    chosen, explained = np.zeros(reads.shape, dtype=bool), np.zeros((options.seeds, rows.n_labels))
    lost, n_held = np.zeros((len(pairs), len(rows.inputs))), np.zeros(len(rows.inputs))
    for seed in range(options.seeds):
        held = rows.split(seed, options.held_fraction)[2].numpy()
        n_held[held] += 1
        for target, candidates in simpler.items():
            place = int(np.flatnonzero(label == target)[0])
            search = ParentSearch(rows, int(target), candidates.tolist(), options, seed)
            reads[seed, place : place + len(candidates)] = search.shares
            for number in search.smallest_set():
                without = search.without(number)
                lost[place + number, held] += without
                chosen[seed, place + number], loss[seed, place + number] = True, without.mean()
            explained[seed, target] = search.explained()
    p = np.array([above_zero(own[n_held > 0] / n_held[n_held > 0]) for own in lost])
    return Edges(label, parent, reads, chosen, loss, p, explained, options)


class ParentSearch:
    """One label's search in one split.

    Candidates are ranked by the AGOP of an adaptive block that has all of them as its inputs, true values rather than
    scores, and nothing else: by definition a label of L_i is a function of labels in L_{i−1}. Blocks with the first
    m of them as inputs then show, on the set-aside rows, which m is enough.

    Attributes:
        shares: [C], of the AGOP's diagonal.
    """

    def __init__(
        self, rows: LabelledRows, label: int, candidates: list[int], options: DiscoverOptions, seed: int
    ) -> None:
        self.rows, self.options, self.seed = rows, options, seed
        self.fit, self.aside, self.held = rows.split(seed, options.held_fraction)
        self.target, self.candidates = rows.labels[..., [label]], rows.labels[..., candidates]
        self.shares = OneBlock(self, self.candidates, options.adaptation).shares()
        self._order: list[int] = np.argsort(-self.shares, kind="stable").tolist()
        self._set: list[int] = []
        self._left = torch.zeros(len(self.held))

    def smallest_set(self) -> list[int]:
        """Places among the candidates of those that predict the label as well as all do, up to `max_parents`.

        As well is within `SLACK` of the label's variance. One too many is no edge yet: it has to cost something.
        """
        sizes = range(1, min(len(self._order), self.options.max_parents) + 1)
        blocks = [OneBlock(self, self.candidates[..., self._order[:size]]) for size in sizes]
        losses = [float(block.losses(self.aside).mean()) for block in blocks]
        enough = min(losses) + SLACK * self.variance(self.aside)
        size = next(size for size, loss in zip(sizes, losses, strict=True) if loss <= enough)
        self._set, self._left = self._order[:size], blocks[size - 1].losses(self.held)
        return self._set

    def without(self, number: int) -> Floats:
        """Return what a held-out row loses when one of the set is permuted across rows, as a share of the variance."""
        true = self.candidates[..., self._set]
        order = torch.from_numpy(Draws(self.seed, "discovery parent", number).permutation(len(true)))
        permuted = true.clone()
        place = self._set.index(number)
        permuted[..., place] = true[order][..., place] * self.rows.exists[..., 0]
        lost = OneBlock(self, permuted).losses(self.held) - self._left
        return np.asarray(lost.double().numpy()) / max(self.variance(self.held), 1e-12)

    def explained(self) -> float:
        """Share of the held-out variance that the set explains."""
        return max(0.0, 1 - float(self._left.mean()) / max(self.variance(self.held), 1e-12))

    def variance(self, rows: Tensor) -> float:
        """Of the label, on some rows."""
        labels = self.target[rows]
        return float(labels[labels != 0].var(correction=0)) if (labels != 0).any() else 0.0


class OneBlock:
    """One block of random features fitted to one label by ridge regression, its λ chosen on rows set aside.

    Args:
        search: Whose label, rows, windows, features and seed it has.
        inputs: [N, |G|, C].
        adaptation: Of W¹; drawn once when None.
    """

    @torch.no_grad()
    def __init__(self, search: ParentSearch, inputs: Tensor, adaptation: AdaptiveDraw | None = None) -> None:
        masked, seed = search.rows.masked, search.seed
        self.inputs = torch.cat([search.rows.exists, inputs], 2) if masked else inputs
        self.target, self.read = search.target, slice(int(masked), self.inputs.shape[2])
        self.net = HierarchicalResNet(
            self.inputs.shape[2],
            1,
            inputs.shape[1],
            search.rows.proximity,
            1,
            search.options.n_features,
            weight_seed=seed,
            masked=masked,
        )
        stream = StreamCache(self.net)
        stream.open()
        for split, places in (("fit", search.fit), ("held", search.aside)):
            stream.fill(
                split, ((self.inputs[part], self.target[part], part) for part in torch.split(places, ROWS_AT_ONCE))
            )
        loss, penalty = label_loss(SquaredLoss(), "ignore", None, 1), torch.zeros(1, dtype=inputs.dtype)
        self.problem = BlockProblem(self.net.frozen_block(0), stream, loss, penalty, seed)
        if adaptation is not None:
            adaptation(self.problem)
        self.problem.calibrate()
        self.net.block(0).set_weight(best_ridge(self.problem)[0])
        self.net.n_trained.fill_(1)

    @torch.no_grad()
    def shares(self) -> Floats:
        """Return each input's share [C] of the diagonal of the AGOP, in units of its own size, summed over a window."""
        agop, power = agop_diagonals(self.problem, self.net.block(0).weight)
        importance = (agop[0] * power).view(self.net.windows.size, -1).sum(0)[self.read].double()
        return np.asarray((importance / importance.sum().clamp(min=1e-300)).numpy())

    @torch.no_grad()
    def losses(self, rows: Tensor) -> Tensor:
        """Mean squared error [R] of each of some rows, over the locations where the label is observed."""
        scores = torch.cat([self.net(self.inputs[part]) for part in torch.split(rows, ROWS_AT_ONCE)])
        target = self.target[rows]
        seen = (target != 0).to(scores)
        return ((target - scores).square() * seen).sum((1, 2)) / seen.sum((1, 2)).clamp(min=1)
