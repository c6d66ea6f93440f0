"""Lightning callbacks: the training loop over blocks, its checkpoints, its tables and figures, and its progress bar."""

from hierlit.callbacks.checkpoint import BlockCheckpoint
from hierlit.callbacks.diagnostics import Diagnostics
from hierlit.callbacks.layerwise import LayerwiseTraining
from hierlit.callbacks.predictions import PredictionWriter
from hierlit.callbacks.progress import BlockProgress
from hierlit.callbacks.staircase import Staircase

__all__ = ["BlockCheckpoint", "BlockProgress", "Diagnostics", "LayerwiseTraining", "PredictionWriter", "Staircase"]
