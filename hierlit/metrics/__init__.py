"""Metrics of margins y·ŷ: per label, and by level."""

from hierlit.metrics.collection import compute, label_metrics
from hierlit.metrics.histogram import MarginHistogram
from hierlit.metrics.margins import (
    LabelAccuracy,
    LabelMetric,
    LearnedFraction,
    MarginError,
    MeanMargin,
    SmallestMargin,
    by_level,
)

__all__ = [
    "LabelAccuracy",
    "LabelMetric",
    "LearnedFraction",
    "MarginError",
    "MarginHistogram",
    "MeanMargin",
    "SmallestMargin",
    "by_level",
    "compute",
    "label_metrics",
]
