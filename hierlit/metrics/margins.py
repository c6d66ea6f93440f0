"""Metrics of margins y·ŷ, one value per label, accumulated over batches and processes."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection


class LabelMetric(Metric):
    """A metric per label of scores ŷ and labels y in {−1, 0, 1}; labels 0, not observed, are left out.

    Two metrics name their states alike only if these always agree, as `MetricCollection` shares the states of metrics
    that look equal after a first batch.

    Args:
        n_labels: Labels n.
        **kwargs: Options of `torchmetrics.Metric`.

    Raises:
        ValueError: `n_labels` is not positive.
    """

    full_state_update = False
    is_differentiable = False
    counted: ClassVar[tuple[str, ...]] = ()
    """States that count pairs of each label."""

    def __init__(self, n_labels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if n_labels < 1:
            raise ValueError(f"n_labels must be a positive integer, got {n_labels}")
        self.n_labels = n_labels
        for name in self.counted:
            self.add_state(name, torch.zeros(n_labels, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            scores: Scores ŷ [..., n].
            labels: Labels y [..., n] in {−1, 0, 1}.

        Raises:
            ValueError: The shapes differ, or do not end in n.
        """
        if scores.shape != labels.shape or labels.shape[-1:] != (self.n_labels,):
            shapes = f"{list(scores.shape)} and {list(labels.shape)}"
            raise ValueError(f"scores and labels must both have shape [..., {self.n_labels}], got {shapes}")
        labels = labels.reshape(-1, self.n_labels)
        if len(labels):
            self._add(scores.reshape(labels.shape) * labels, labels != 0)

    def _add(self, margins: Tensor, observed: Tensor) -> None:
        """Add margins y·ŷ [rows, n] of which `observed` [rows, n] count."""
        raise NotImplementedError


class LabelAccuracy(LabelMetric):
    """Share of a label's observed pairs with y·ŷ > 0; `compute` gives [n] float64, NaN where never observed."""

    higher_is_better = True
    counted = ("observed", "correct")
    observed: Tensor
    correct: Tensor

    def _add(self, margins: Tensor, observed: Tensor) -> None:
        self.observed += observed.sum(0)
        self.correct += ((margins > 0) & observed).sum(0)

    def compute(self) -> Tensor:
        """Accuracies [n]."""
        return self.correct.double() / self.observed


class SmallestMargin(LabelMetric):
    """A label's smallest observed margin y·ŷ; `compute` gives [n] float32, NaN where never observed."""

    higher_is_better = True
    smallest: Tensor

    def __init__(self, n_labels: int, **kwargs: Any) -> None:
        super().__init__(n_labels, **kwargs)
        self.add_state("smallest", torch.full((n_labels,), torch.inf), dist_reduce_fx="min")

    def _add(self, margins: Tensor, observed: Tensor) -> None:
        smallest = margins.where(observed, torch.inf).amin(0)
        self.smallest = torch.minimum(self.smallest, smallest.to(self.smallest.dtype))

    def compute(self) -> Tensor:
        """Smallest margins [n]."""
        return self.smallest.where(self.smallest < torch.inf, torch.nan)


class MeanMargin(LabelMetric):
    """A label's mean observed margin y·ŷ; `compute` gives [n] float64, NaN where never observed."""

    higher_is_better = True
    counted = ("observed",)
    observed: Tensor
    margin_sum: Tensor

    def __init__(self, n_labels: int, **kwargs: Any) -> None:
        super().__init__(n_labels, **kwargs)
        self.add_state("margin_sum", torch.zeros(n_labels, dtype=torch.float64), dist_reduce_fx="sum")

    def _add(self, margins: Tensor, observed: Tensor) -> None:
        self.observed += observed.sum(0)
        self.margin_sum += margins.where(observed, 0).sum(0, dtype=torch.float64)

    def compute(self) -> Tensor:
        """Mean margins [n]."""
        return self.margin_sum / self.observed


class MarginError(LabelMetric):
    """The paper's margin error per label: share of observed pairs with y·ŷ < 1 − ξ/2 (or NaN).

    `compute` gives [n] float64, NaN where never observed.

    Args:
        n_labels: Labels n.
        robustness: ξ in (0, 1].
        **kwargs: Options of `torchmetrics.Metric`.

    Raises:
        ValueError: An argument is out of range.
    """

    higher_is_better = False
    counted = ("observed", "below")
    observed: Tensor
    below: Tensor
    required: Tensor

    def __init__(self, n_labels: int, robustness: float = 1.0, **kwargs: Any) -> None:
        super().__init__(n_labels, **kwargs)
        if not 0 < robustness <= 1:
            raise ValueError(f"robustness must be in (0, 1], got {robustness}")
        required = torch.tensor(1 - robustness / 2, dtype=torch.float64)
        self.add_state("required", required, dist_reduce_fx="max")  # a state, so that no other ξ shares `below`

    def _add(self, margins: Tensor, observed: Tensor) -> None:
        self.observed += observed.sum(0)
        self.below += (~(margins >= self.required) & observed).sum(0)

    def compute(self) -> Tensor:
        """Margin errors [n]."""
        return self.below.double() / self.observed


def label_metrics(n_labels: int, robustness: float = 1.0) -> MetricCollection:
    """Accuracy, smallest and mean margin, and margin error at ξ = `robustness`: each computes to one value a label."""
    return MetricCollection(
        {
            "accuracy": LabelAccuracy(n_labels),
            "min_margin": SmallestMargin(n_labels),
            "mean_margin": MeanMargin(n_labels),
            "margin_error": MarginError(n_labels, robustness),
        }
    )


def compute(
    metrics: MetricCollection, labels: Tensor | None = None, known: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Return every metric's values [n]; torchmetrics would make a scalar of n = 1.

    Args:
        metrics: Of all labels, or of some.
        labels: Those [n']; all when None.
        known: The values of all labels before, in which those of `labels` are put anew; needed with `labels`.
    """
    values = {name: value.reshape(-1) for name, value in metrics.compute().items()}
    if labels is None:
        return values
    assert known is not None
    return {name: known[name].index_copy(0, labels, own) for name, own in values.items()}


def by_level(values: Tensor, levels: Sequence[int] | None, reduce: Literal["mean", "min"]) -> dict[int, float]:
    """Aggregate values per label to values per level, ignoring NaN.

    Args:
        values: One value per label [n].
        levels: The label's levels, n of them; None where levels are unknown puts every label in level 1.
        reduce: `mean` or `min`.

    Returns:
        Level → value, levels ascending; NaN for a level without a value.

    Raises:
        ValueError: The number of levels is not n, or `reduce` is neither of the two.
    """
    if reduce not in ("mean", "min"):
        raise ValueError(f"reduce must be one of mean, min, got {reduce!r}")
    levels = [1] * len(values) if levels is None else levels
    if len(levels) != len(values):
        raise ValueError(f"levels must have one entry for each of {len(values)} labels, got {len(levels)}")
    grouped: dict[int, list[float]] = {level: [] for level in sorted(set(levels))}
    for level, value in zip(levels, values.tolist(), strict=True):
        if not math.isnan(value):
            grouped[level].append(value)
    aggregate = min if reduce == "min" else fmean
    return {level: aggregate(own) + 0.0 if own else math.nan for level, own in grouped.items()}  # 0, and not −0
