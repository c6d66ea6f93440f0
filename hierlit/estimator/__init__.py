"""Fit, predict and score on arrays, as scikit-learn does."""

from hierlit.estimator.classifier import HierarchicalClassifier
from hierlit.estimator.scoring import observed_scorer
from hierlit.estimator.targets import ClassTargets, LabelTargets

__all__ = ["ClassTargets", "HierarchicalClassifier", "LabelTargets", "observed_scorer"]
