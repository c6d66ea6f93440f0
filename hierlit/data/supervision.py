"""Supervision: which labels of any hierarchy a training set has, and which of them are wrong."""

import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierlit.data.base import SPLITS, BatchLoader, HierarchyDataModule, Table, names_of
from hierlit.data.rows import RowDataset
from hierlit.data.supervised_rows import SupervisedRows
from hierlit.draws import Draws, as_signs
from hierlit.models.checks import at_least, within

NO_LEVEL = 0
"""The level of a label that belongs to no hierarchy."""
N_PATTERNS = 30
"""Patterns of signs that are tried for a rare label."""


class Supervision(HierarchyDataModule):
    """Any hierarchy with more labels than it has, and with training labels that are wrong, missing or shuffled (ours).

    First labels are added in every split: redundant ones, rare ones, distractors. Then the training labels, of which
    set-aside rows have their part, are flipped and hidden; val and test keep all of theirs, and keep them right.

    Batches, set-aside rows and seeds are those of the hierarchy. What becomes of hidden labels in training is for
    `model.unobserved` to say.

    Args:
        data: The hierarchy.
        observed: Share of the training labels that is observed, in (0, 1], each by a draw of its own.
        supervised_levels: Levels whose training labels are observed; all when None.
        single_positive: Observe one label of each training example and location, drawn among those that are 1 and would
            be observed otherwise; where there is none, nothing is observed. This is the paper's first open question.
        flip_probability: Chance of each training label being flipped, in [0, 0.5].
        n_redundant: Labels that repeat another one, or its negation, at its level.
        n_rare: Labels that hold where several labels up to a level all have a given sign, one level above: labels of
            that level first, then those of earlier ones. Levels are drawn among those with labels enough.
        rare_share: Share of the training pairs, in (0, 0.5], that a rare label comes as near to as it can; there is a
            warning if that is not within a factor of 2.
        n_distractors: Labels that are fair coins, of level 0.
        shuffle_labels: A control: deal the label rows of each split out to its inputs at random, so that labels no
            longer depend on inputs.

    Raises:
        ValueError: If arguments are out of range; one line names them all.
    """

    def __init__(
        self,
        data: HierarchyDataModule,
        observed: float = 1.0,
        supervised_levels: list[int] | None = None,
        single_positive: bool = False,
        flip_probability: float = 0.0,
        n_redundant: int = 0,
        n_rare: int = 0,
        rare_share: float = 0.01,
        n_distractors: int = 0,
        shuffle_labels: bool = False,
    ) -> None:
        problems = within("observed", observed, "(0, 1]") + within("flip_probability", flip_probability, "[0, 0.5]")
        problems += within("rare_share", rare_share, "(0, 0.5]")
        problems += at_least(0, n_redundant=n_redundant, n_rare=n_rare, n_distractors=n_distractors)
        problems += _level_problems(supervised_levels, data.levels, n_rare, n_distractors)
        super().__init__(data.batch_size, data.acceptance_fraction, data.data_seed, problems=problems)
        self.data, self.sizes = data, data.sizes
        self.observed, self.supervised_levels, self.single_positive = observed, supervised_levels, single_positive
        self.flip_probability, self.shuffle_labels = flip_probability, shuffle_labels
        self.rare_share = rare_share
        self.n_inputs, self.n_locations = data.n_inputs, data.n_locations
        self.masked, self.pooled, self.grid = data.masked, data.pooled, data.grid
        self.n_added = n_redundant + n_rare + n_distractors
        of_level = [1] * data.n_labels if data.levels is None else data.levels
        self._repeated = Draws(data.data_seed, "redundant labels").integers(n_redundant, data.n_labels)
        chosen = sorted(set(of_level) - {NO_LEVEL})
        # of balanced labels, so many conjoined are as rare as that
        enough = [level for level in chosen if 0.5 ** sum(0 < own <= level for own in of_level) <= 2 * rare_share]
        candidates = enough or chosen[-1:]
        picks = Draws(data.data_seed, "rare levels").integers(n_rare, len(candidates))
        self._rare_levels = [candidates[pick] for pick in picks]
        added = [of_level[label] for label in self._repeated] + [level + 1 for level in self._rare_levels]
        self._of_level = [*of_level, *added, *[NO_LEVEL] * n_distractors]
        self.n_labels, self.class_labels = data.n_labels + self.n_added, data.class_labels
        names = names_of(data, data.n_labels)
        free = (name for name in map("added_{}".format, count(1)) if name not in names)
        self.label_names = [*names, *islice(free, self.n_added)]
        if data.label_kinds is not None and not self.n_added:
            self.label_kinds = data.label_kinds
        self.levels = None if data.levels is None and not self.n_added else self._of_level
        self.parent_labels = None if self.n_added or shuffle_labels else data.parent_labels

    def truth_table(self, label: int) -> tuple[int, ...] | None:
        """Return that of the hierarchy's own labels; None for added ones."""
        return self.data.truth_table(label) if label < self.data.n_labels else None

    def label_function(self, label: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return that of the hierarchy's own labels; None for added ones."""
        return self.data.label_function(label) if label < self.data.n_labels else None

    def make_tables(self) -> Mapping[str, Table]:
        """Return the hierarchy's tables with labels added, and training labels flipped and hidden.

        Raises:
            ValueError: If labels are to be added to rows that are read from files or differ in their locations.
        """
        tables = self.data.make_tables()
        in_memory = {split: table for split, table in tables.items() if not isinstance(table, RowDataset)}
        if self.data.masked or len(in_memory) < len(tables):
            return self._supervised_rows({split: self.data.rows_of(table) for split, table in tables.items()})
        return self._supervised_tables(in_memory)

    def _supervised_rows(self, tables: Mapping[str, RowDataset]) -> dict[str, RowDataset]:
        """Return rows whose labels are altered as they are fetched; the draws of a row are its own."""
        if self.n_added:
            rule = "n_redundant, n_rare and n_distractors must be 0"
            raise ValueError(f"{rule} for rows read from files or masked, got {self.n_added} labels to add")

        def alter(labels: Tensor, row: int) -> Tensor:
            return self._hide(self._flip(labels, row), row)

        is_altered = self.flip_probability or self.observed < 1 or self.single_positive
        rows = {}
        for part, split in enumerate(SPLITS):
            own = alter if split == "train" and (is_altered or self.supervised_levels is not None) else None
            order = Draws(self.data_seed, "label shuffle", part).permutation(len(tables[split]))
            rows[split] = tables[split]
            if own is not None or self.shuffle_labels:
                given = order if self.shuffle_labels else None
                rows[split] = SupervisedRows(tables[split], self.data.pooled, own, given)
        return rows

    def _supervised_tables(self, tables: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
        labels = {split: tables[split][1].float() for split in SPLITS}
        rare = _Conjunctions(labels["train"], self._of_level, self._rare_levels, self.rare_share, self.data_seed)
        for part, split in enumerate(SPLITS):
            answers = torch.cat([labels[split], self._redundant(labels[split]), rare.of(labels[split])], 2)
            n_coins = self.n_labels - answers.shape[2]
            coins = Draws(self.data_seed, "distractors", part).bits(answers[..., 0].numel(), n_coins)
            answers = torch.cat([answers, as_signs(coins).view(*answers.shape[:2], n_coins)], 2)
            if self.shuffle_labels:
                order = Draws(self.data_seed, "label shuffle", part).permutation(len(answers))
                answers = answers[torch.from_numpy(order)]
            labels[split] = answers
        labels["train"] = self._hide(self._flip(labels["train"]))
        return {split: (tables[split][0], labels[split]) for split in SPLITS}

    def location_texts(self, split: str, rows: Sequence[int]) -> list[list[str]] | None:
        """Return those of the hierarchy's module."""
        return self.data.location_texts(split, rows)

    def setup(self, stage: str | None = None) -> None:
        """Make the tables, once; to predict, those of the hierarchy's module, if it needs any."""
        if stage == "predict":
            self.data.setup(stage)
        else:
            super().setup(stage)

    def predict_dataloader(self) -> BatchLoader:
        """Return that of the hierarchy's module, whose inputs these are; it may stream them."""
        self.data.trainer = self.trainer
        return self.data.predict_dataloader()

    def state_dict(self) -> dict[str, Any]:
        """Return that of the hierarchy's module."""
        return self.data.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Pass it to the hierarchy's module."""
        self.data.takes_other_rows = self.takes_other_rows
        self.data.load_state_dict(state_dict)
        if self.takes_other_rows and self.tables:
            self.tables = {}
            self.setup()

    def input_digest(self) -> str | None:
        """Return that of the hierarchy's module."""
        return self.data.input_digest()

    def _redundant(self, labels: Tensor) -> Tensor:
        negated = Draws(self.data_seed, "redundant signs").bits(1, len(self._repeated))[0]
        return labels[..., torch.from_numpy(self._repeated)] * as_signs(negated)

    def _flip(self, labels: Tensor, *part: int) -> Tensor:
        if self.flip_probability == 0:
            return labels
        chances = Draws(self.data_seed, "label flips", *part).uniform(labels.numel())
        return labels.where(torch.from_numpy(chances >= self.flip_probability).view_as(labels), -labels)

    def _hide(self, labels: Tensor, *part: int) -> Tensor:
        if self.supervised_levels is not None:
            labels = labels * torch.tensor([level in self.supervised_levels for level in self._of_level])
        if self.observed < 1:
            chances = Draws(self.data_seed, "observed labels", *part).uniform(labels.numel())
            labels = labels * torch.from_numpy(chances < self.observed).view_as(labels)
        if self.single_positive:
            order = torch.from_numpy(Draws(self.data_seed, "single positives", *part).uniform(labels.numel())).view_as(
                labels
            )
            first = order.where(labels > 0, -1.0).argmax(-1, keepdim=True)
            labels = torch.zeros_like(labels).scatter(-1, first, (labels > 0).any(-1, keepdim=True).float())
        return labels


class _Conjunctions:
    """Rare labels: each holds where some labels up to a level, those of the highest first, have given signs.

    Args:
        labels: The hierarchy's training labels [m, |G|, n].
        of_level: Their levels, and perhaps others'.
        levels: For each rare label the highest level of those it conjoins.
        share: The share of the pairs that it should hold in.
        seed: Seed of the choices.
    """

    def __init__(self, labels: Tensor, of_level: list[int], levels: Sequence[int], share: float, seed: int) -> None:
        self.terms: list[dict[int, float]] = []
        reached = []
        for number, level in enumerate(levels):
            draws = Draws(seed, "rare labels", number)
            members = [label for label in draws.permutation(labels.shape[2]).tolist() if 0 < of_level[label] <= level]
            order = sorted(members, key=lambda label: -of_level[label])
            held, terms = self._draw(labels[..., order].flatten(0, 1), order, share, draws)
            reached.append(held)
            self.terms.append(terms)
        if any(not share / 2 <= held <= 2 * share for held in reached):
            text = (
                f"rare_share = {share:g} is out of reach: rare labels hold in {min(reached):.3g} to {max(reached):.3g}"
            )
            warnings.warn(f"{text} of the training pairs", stacklevel=3)

    def _draw(self, pairs: Tensor, order: list[int], share: float, draws: Draws) -> tuple[float, dict[int, float]]:
        """Share and signs by label of a conjunction: a new one within a factor of 2, or the nearest found."""
        patterns, found = torch.unique(pairs, dim=0), []
        for pattern in patterns[draws.permutation(len(patterns))[:N_PATTERNS]]:
            shares = (pairs == pattern).cumprod(1).double().mean(0)
            distances = (shares / share).log().abs()
            place = int(distances.argmin())
            terms = dict(zip(order[: place + 1], pattern.tolist(), strict=False))
            found.append((terms in self.terms, float(distances[place]), float(shares[place]), terms))
            if found[-1][:2] <= (False, math.log(2)):
                break
        return min(found, key=lambda each: each[:2])[2:]

    def of(self, labels: Tensor) -> Tensor:
        """Return the conjunctions [rows, |G|, n_rare] of a split's labels."""
        columns = [(labels[..., list(terms)] == torch.tensor(list(terms.values()))).all(-1) for terms in self.terms]
        return 2 * torch.stack(columns, 2).to(labels) - 1 if columns else labels[..., :0]


def _level_problems(
    supervised: list[int] | None, levels: list[int] | None, n_rare: int, n_distractors: int
) -> list[str]:
    if supervised is None:
        return []
    if levels is None:
        return [f"supervised_levels must be null for data that does not tell its levels, got {supervised}"]
    added = {level + 1 for level in levels if n_rare} | ({NO_LEVEL} if n_distractors else set())
    valid = sorted(set(levels) | added)
    wrong = [level for level in supervised if level not in valid]
    if supervised and not wrong:
        return []
    return [f"supervised_levels must be some of {', '.join(map(str, valid))}, got {supervised}"]
