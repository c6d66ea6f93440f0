"""Fit, predict and score on arrays, as scikit-learn does."""

from hierlit.estimator.classifier import HierarchicalClassifier
from hierlit.estimator.probabilities import Calibration, Curve
from hierlit.estimator.targets import ClassTargets, LabelTargets

__all__ = ["Calibration", "ClassTargets", "Curve", "HierarchicalClassifier", "LabelTargets"]
