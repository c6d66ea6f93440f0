"""What a run shows: tables, dashboards, figures, its progress bar, predictions, and diagnostics."""

from hierlit.watching.diagnostics import Diagnostics
from hierlit.watching.predictions import PredictionWriter
from hierlit.watching.progress import BlockProgress
from hierlit.watching.staircase import Staircase

__all__ = ["BlockProgress", "Diagnostics", "PredictionWriter", "Staircase"]
