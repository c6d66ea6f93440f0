"""At which block each label becomes predictable, over seeds and splits (ours)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierlit.data.arrays import ArrayHierarchy
from hierlit.discovery.options import NOISELESS_SHARE, DiscoverOptions
from hierlit.discovery.rows import ASIDE, LabelledRows
from hierlit.discovery.significance import Floats, adjusted, explained, median_interval, over_splits, permutation_p
from hierlit.layerwise.acceptance import STRICT_SHARE
from hierlit.layerwise.solvers import ExactSolver
from hierlit.training import LayerwiseTraining
from hierlit.training.task import LayerwiseTask
from hierlit.training.trainer import fit_in_memory

ROWS_AT_ONCE = 256
MOST_FEATURES = 4000
"""Of the one-block model."""
GAIN = None
FITS = (NOISELESS_SHARE, STRICT_SHARE, GAIN)
"""Fits of each split, by the share of a label's explainable variance that lets its scores into the stream. In the first
two W¹ is drawn again along what labels depend on, and a label not yet learned leaves no trace. The last, of the paper's
W¹, lets every label in that gains."""


@dataclass(frozen=True)
class Levels:
    """What was found of the levels.

    Attributes:
        by_seed: [S, n], the first block near a label's best in each split.
        explained: [S, B, n], share of held-out variance explained after each block.
        one_block: [S, n], by a single block with the features of all together.
        p: [n], of a label not being predictable.
        rate: False discovery rate.
    """

    by_seed: Floats
    explained: Floats
    one_block: Floats
    p: Floats
    rate: float

    @property
    def q(self) -> Floats:
        """Adjusted p-values [n]."""
        return adjusted(self.p)

    @property
    def found(self) -> NDArray[np.bool_]:
        """Which labels are predictable."""
        return self.q <= self.rate

    @property
    def level(self) -> NDArray[np.int64]:
        """The median over splits, rounded down; 0 for a label that is not predictable."""
        return np.where(self.found, np.floor(median_interval(self.by_seed)[0]), 0).astype(np.int64)


def find_levels(rows: LabelledRows, options: DiscoverOptions) -> Levels:
    """Fit block after block on each split, and look where each label's held-out scores come near their best."""
    curves, blocks, wide, p = [], [], [], []
    width = min(MOST_FEATURES, options.n_blocks * options.n_features)
    single, n_permutations = replace(options, n_blocks=1, n_features=width), options.permutations(rows.n_labels)
    for seed in range(options.seeds):
        places = rows.split(seed, options.held_fraction)[2]
        held, exists = rows.labels[places], rows.exists[places]
        fits = [staged_scores(rows, options, seed, share) for share in FITS]
        one_block = explained(staged_scores(rows, single, seed, GAIN), held)[-1]
        shares = np.stack([explained(scores, held) for scores in fits])
        chosen = (shares[:, -1] >= NOISELESS_SHARE * shares[:, -1].max(0)).argmax(0)
        curve = np.take_along_axis(shares, chosen[None, None], 0)[0]
        curves.append(curve)
        blocks.append(first_near(curve, one_block, np.where(chosen == 0, NOISELESS_SHARE, options.nearness)))
        wide.append(one_block)
        last = torch.stack([scores[-1] for scores in fits])
        p.append(permutation_p(last, held, n_permutations, seed, exists))
    return Levels(np.stack(blocks), np.stack(curves), np.stack(wide), over_splits(np.stack(p)), options.rate)


def first_near(curve: Floats, one_block: Floats, nearness: Floats) -> Floats:
    """Return the first block [n], from 1, that explains this share of what is explained of a label in the end.

    Args:
        curve: [B, n], explained after each block.
        one_block: [n], explained by a single block as wide as all together: what width alone does is not a level.
        nearness: [n].
    """
    goal = nearness * np.maximum(curve.max(0), one_block)
    reached = np.concatenate([np.maximum(curve[:1], one_block), curve[1:]]) >= goal
    return np.asarray(reached.argmax(0) + 1.0)


@torch.no_grad()
def staged_scores(rows: LabelledRows, options: DiscoverOptions, seed: int, share: float | None) -> Tensor:
    """Held-out scores [B, rows, |G|, n] after each block of a layerwise fit."""
    fit, aside, held = rows.split(seed, options.held_fraction)
    train = torch.cat([fit, aside])
    data = ArrayHierarchy(
        rows.inputs[train],
        rows.labels[train],
        val=(rows.inputs[held], rows.labels[held]),
        batch_size=ROWS_AT_ONCE,
        acceptance_fraction=ASIDE,
        data_seed=seed,
        positives_only=True,
    )
    data.masked, data.grid = rows.masked, rows.grid
    task = LayerwiseTask(
        data.n_inputs,
        data.n_labels,
        data.n_locations,
        proximity=rows.proximity,
        n_blocks=options.n_blocks,
        n_features=options.n_features,
        solver=ExactSolver(),
        adaptation=None if share is GAIN else options.adaptation,
        weight_seed=seed,
        masked=rows.masked,
        pooled=rows.pooled,
    )
    layerwise = LayerwiseTraining() if share is GAIN else LayerwiseTraining(acceptance="strict", strict_share=share)
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        fit_in_memory(task, data, [layerwise], "cpu", limit_val_batches=0)
    return torch.stack(list(task.net.staged_scores(rows.inputs[held])))
