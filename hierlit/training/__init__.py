"""Lightning's side of training: the task, the callback that trains it, checkpoints, signals, precision, logs."""

from hierlit.training.checkpoint import BlockCheckpoint
from hierlit.training.layerwise import LayerwiseTraining
from hierlit.training.task import LayerwiseTask

__all__ = ["BlockCheckpoint", "LayerwiseTask", "LayerwiseTraining"]
