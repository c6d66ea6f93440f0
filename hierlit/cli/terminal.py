"""What the terminal shows: warnings in a line, and none of Lightning's notices that nobody needs."""

import logging
import re
import warnings

LOGGERS = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed")
NOTICES = (
    *("Seed set to", "GPU available: ", "TPU available: ", "HPU available: ", "IPU available: ", "💡 Tip"),
    *("Restoring states from the checkpoint", "Loaded model weights from"),
    *("\nDetected KeyboardInterrupt", "`Trainer.fit` stopped", "LOCAL_RANK: ", "You are using a CUDA device"),
)
WARNINGS = (
    "No seed found",
    ".isinstance.treespec, LeafSpec",
    "Total length of .* across ranks is zero",
    "skip_none parameter was deprecated",
    "BatchLoader.* length zero",
    "LightningCLI's args parameter is intended",
    "The '.*_dataloader' does not have many workers",
    "Checkpoint directory .* exists and is not empty",
)
TORCH_SOURCE = re.compile(r" \(Triggered internally at .*?\)$")


def keep_quiet() -> None:
    """Drop notices and warnings that say nothing of a run, and print other warnings without their source line."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(lambda record: not record.getMessage().startswith(NOTICES))
    for text in WARNINGS:
        warnings.filterwarnings("ignore", rf"\s*{text}")
    warnings.formatwarning = lambda message, *_: f"warning: {TORCH_SOURCE.sub('', str(message))}\n"
