"""The metrics every run reports."""

from torch import Tensor
from torchmetrics import MetricCollection

from hierlit.metrics.margins import LabelAccuracy, MarginError, MeanMargin, SmallestMargin


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


def compute(metrics: MetricCollection) -> dict[str, Tensor]:
    """Return every metric's values [n]; torchmetrics would make a scalar of n = 1."""
    return {name: value.reshape(-1) for name, value in metrics.compute().items()}
