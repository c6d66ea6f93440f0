"""The files of a resumed run: its loggers' folders again, and in them as much as there was at the checkpoint."""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from hierlit.files.atomic import replace_file

TABLES = ("blocks.csv", "levels.csv", "labels.csv")
METRICS = ExperimentWriter.NAME_METRICS_FILE
"""CSVLogger's table, whose size is a number of lines: it is written anew whenever there is one more column."""
EVENTS = "events.out.tfevents.*"
FileLogger = TensorBoardLogger | CSVLogger


class ContinuedWriter(ExperimentWriter):
    """Continue a `metrics.csv`, which Lightning's own writer would delete."""

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        if (path := Path(log_dir) / METRICS).exists():
            with path.open(newline="") as file:
                self.metrics_keys = next(csv.reader(file), [])

    def _check_log_dir_exists(self) -> None:
        """Leave what is there."""


def continue_logs(loggers: Iterable[Logger], versions: Sequence[int | str], folder: Path | None) -> bool:
    """Let loggers of files continue versions that exist, if they are those of a run.

    Args:
        loggers: Those of this process, before any has been written to.
        versions: What `log_versions` gave for the run.
        folder: The run's own; None if it is known to be theirs.

    Returns:
        Whether they continue; if not, they are as they were.
    """
    ours = file_loggers(loggers)
    before: list[int | str | None] = [logger._version for logger in ours]
    for logger, version in zip(ours, versions, strict=False):
        logger._version = version if logger._version is None else logger._version
    continues = folder is None or folder in log_folders(ours)
    for logger, own_version in zip(ours, before, strict=True):
        if not continues:
            logger._version = own_version
        elif isinstance(logger, CSVLogger):
            logger._experiment = ContinuedWriter(logger.log_dir)
    return continues


def log_versions(loggers: Iterable[Logger]) -> list[int | str]:
    """Return the version of each logger of files."""
    return [version for logger in file_loggers(loggers) if (version := logger.version) is not None]


def log_sizes(loggers: Iterable[Logger]) -> list[dict[str, int]]:
    """Return how much is in each log file by name, folder by folder, after all that was logged has been written."""
    for logger in loggers:
        with suppress(OSError):  # what a logger cannot write is no reason not to write a checkpoint
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.flush()
            logger.save()
    return [{path.name: size_of(path) for path in log_files(folder)} for folder in log_folders(loggers)]


def cut_logs(loggers: Iterable[Logger], sizes: Sequence[Mapping[str, int]]) -> None:
    """Cut log files back to their sizes, and remove those that came later.

    Args:
        loggers: Those of this process, whose own event files stay.
        sizes: What `log_sizes` gave.
    """
    for folder, kept in zip(log_folders(loggers), sizes, strict=False):
        for path in log_files(folder):
            if path.name in kept:
                cut(path, kept[path.name])
            elif f".{os.getpid()}." not in path.name:
                path.unlink()


def size_of(path: Path) -> int:
    """Bytes of a log file, of a `METRICS` file lines."""
    if path.name != METRICS:
        return path.stat().st_size
    with path.open("rb") as file:
        return sum(1 for _ in file)


def cut(path: Path, size: int) -> None:
    """Cut a log file back to a `size_of`; a shorter one stays as it is."""
    if path.name != METRICS:
        os.truncate(path, min(size, path.stat().st_size))
    elif size < size_of(path):
        with path.open("rb") as file:
            kept = b"".join(islice(file, size))
        replace_file(path, lambda sink: sink.write(kept))


def file_loggers(loggers: Iterable[Logger]) -> list[FileLogger]:
    """Return the loggers that write files a line at a time."""
    return [logger for logger in loggers if isinstance(logger, FileLogger)]


def log_folders(loggers: Iterable[Logger]) -> list[Path]:
    """Folders of the loggers of files."""
    return list(dict.fromkeys(Path(logger.log_dir).absolute() for logger in file_loggers(loggers)))


def log_files(folder: Path) -> list[Path]:
    """Return the tables and event files in a run's folder."""
    tables = (folder / name for name in (*TABLES, METRICS))
    return sorted([*(path for path in tables if path.exists()), *folder.glob(EVENTS)])
