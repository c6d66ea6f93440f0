"""The metrics every run reports."""

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
