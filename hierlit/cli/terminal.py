"""What the terminal shows: warnings in a line, and none of Lightning's notices that nobody needs."""

import logging
import warnings

LOGGERS = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed")
NOTICES = ("Seed set to", "GPU available: False", "TPU available: False", "💡 Tip")
WARNINGS = (
    "No seed found",
    ".isinstance.treespec, LeafSpec",
    "Total length of .* across ranks is zero",
    "skip_none parameter was deprecated",
)


def keep_quiet() -> None:
    """Drop notices and warnings that say nothing of a run, and print other warnings without their source line."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(lambda record: not record.getMessage().startswith(NOTICES))
    for text in WARNINGS:
        warnings.filterwarnings("ignore", rf"\s*{text}")
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
