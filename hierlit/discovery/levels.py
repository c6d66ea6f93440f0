"""At which block each label becomes predictable, over seeds and splits (ours)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierlit.callbacks import LayerwiseTraining
from hierlit.data.arrays import ArrayHierarchy
from hierlit.discovery.options import STRICT_SHARE, DiscoverOptions
from hierlit.discovery.rows import ASIDE, LabelledRows
from hierlit.discovery.significance import Floats, adjusted, explained, median_interval, over_splits, permutation_p
from hierlit.estimator import quiet
from hierlit.solvers import ExactSolver
from hierlit.task import LayerwiseTask

ROWS_AT_ONCE = 256
MOST_FEATURES = 4000
"""Of the one-block model."""
ACCEPTANCES = ("strict", "gain")
"""Fits of each split: the first is for labels that can be predicted without error, the second for all others."""


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
    """Fits block after block on each split, and looks where each label's held-out scores come near their best."""
    curves, blocks, wide, p = [], [], [], []
    for seed in range(options.seeds):
        fits = [staged_scores(rows, options, seed, acceptance) for acceptance in ACCEPTANCES]
        held = rows.labels[rows.split(seed, options.held_fraction)[2]]
        shares = np.stack([explained(scores, held) for scores in fits])
        # the strict fit where it explains as much: labels not yet learned leave no trace in its stream
        better = np.where(shares[1, -1] > shares[0, -1] / options.nearness, 1, 0)
        curve = np.take_along_axis(shares, better[None, None], 0)[0]
        curves.append(curve)
        blocks.append((curve >= options.nearness * curve.max(0)).argmax(0) + 1)
        p.append(permutation_p(torch.stack([scores[-1] for scores in fits]), held, options.n_permutations, seed))
        wide.append(explained(one_block_scores(rows, options, seed), held)[-1])
    by_seed = np.array(blocks, dtype=np.float64)
    return Levels(by_seed, np.stack(curves), np.stack(wide), over_splits(np.stack(p)), options.rate)


def one_block_scores(rows: LabelledRows, options: DiscoverOptions, seed: int) -> Tensor:
    """Held-out scores of one block as wide as all blocks together, its W¹ drawn once."""
    width = min(MOST_FEATURES, options.n_blocks * options.n_features)
    return staged_scores(rows, options, seed, "none", n_blocks=1, n_features=width, is_adaptive=False)


@torch.no_grad()
def staged_scores(
    rows: LabelledRows,
    options: DiscoverOptions,
    seed: int,
    acceptance: str,
    n_blocks: int | None = None,
    n_features: int | None = None,
    is_adaptive: bool = True,
) -> Tensor:
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
    task = LayerwiseTask(
        data.n_inputs,
        data.n_labels,
        data.n_locations,
        proximity=rows.proximity,
        n_blocks=n_blocks or options.n_blocks,
        n_features=n_features or options.n_features,
        solver=ExactSolver(),
        adaptation=options.adaptation if is_adaptive else None,
        weight_seed=seed,
    )
    with quiet(True), warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=-1,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[LayerwiseTraining(acceptance=acceptance, strict_share=STRICT_SHARE)],
        )
        trainer.fit(task, datamodule=data)
    stages = []
    stream = task.net.embed(rows.inputs[held])
    for block in range(task.block):
        stream = torch.cat([task.net.advance(part, block) for part in torch.split(stream, ROWS_AT_ONCE)])
        stages.append(task.net.scores(stream))
    return torch.stack(stages)
