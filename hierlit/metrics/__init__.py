"""Metrics of margins y·ŷ: per label, and by level."""

from hierlit.metrics.average_precision import AveragePrecision, average_precision
from hierlit.metrics.histogram import MarginHistogram
from hierlit.metrics.margins import (
    LabelAccuracy,
    LabelMetric,
    MarginError,
    MeanMargin,
    SmallestMargin,
    by_level,
    compute,
    label_metrics,
)

__all__ = [
    "AveragePrecision",
    "LabelAccuracy",
    "LabelMetric",
    "MarginError",
    "MarginHistogram",
    "MeanMargin",
    "SmallestMargin",
    "average_precision",
    "by_level",
    "compute",
    "label_metrics",
]
