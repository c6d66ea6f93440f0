"""The files of a run that goes on: as long as they were at its checkpoint, no longer and no shorter."""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

TABLES = ("blocks.csv", "levels.csv", "labels.csv")
EVENTS = "events.out.tfevents.*"


def log_sizes(loggers: Iterable[Logger]) -> list[dict[str, int]]:
    """Bytes of each log file by name, folder by folder, after all that was logged has been written to it."""
    for logger in loggers:
        with suppress(OSError):  # what a logger cannot write is no reason not to write a checkpoint
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.flush()
            logger.save()
    return [{path.name: path.stat().st_size for path in log_files(folder)} for folder in log_folders(loggers)]


def cut_logs(loggers: Iterable[Logger], sizes: Sequence[Mapping[str, int]]) -> None:
    """Cuts log files back to their sizes, and removes those that came later.

    Args:
        loggers: Those of this process, whose own event files stay.
        sizes: What `log_sizes` gave.
    """
    for folder, kept in zip(log_folders(loggers), sizes, strict=False):
        for path in log_files(folder):
            if path.name in kept:
                os.truncate(path, min(kept[path.name], path.stat().st_size))
            elif f".{os.getpid()}." not in path.name:
                path.unlink()


def log_folders(loggers: Iterable[Logger]) -> list[Path]:
    """Folders of the loggers that write files a line at a time."""
    folders = (Path(logger.log_dir) for logger in loggers if isinstance(logger, TensorBoardLogger | CSVLogger))
    return list(dict.fromkeys(folder.absolute() for folder in folders))


def log_files(folder: Path) -> list[Path]:
    """The tables and event files in a run's folder."""
    return sorted([*(folder / name for name in TABLES if (folder / name).exists()), *folder.glob(EVENTS)])
