"""Checkpoints that load without executing code, are whole or not there, and of which no bit has changed."""

import errno
import re
from collections.abc import Iterable
from pathlib import Path, PurePath
from pickle import UnpicklingError
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import torch
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from hierlit.files.atomic import replace_file
from hierlit.files.digests import KEY, damage, seal

LOGS = "lightning_logs"
"""Folder below a run's root that Lightning's loggers write to."""
REQUEUED = "hpc_ckpt_"
"""How names of checkpoints begin that Lightning saves for SLURM."""
NO_CHECKPOINT = "truncated, or not a checkpoint"
OLD = "saved by hierlit 0.1.0 or older: fit again, or use the version that saved it"
CHUNK = 2**20


class CheckpointError(ValueError):
    """A file that is no checkpoint to resume from.

    Args:
        path: The file.
        problem: What is wrong with it. It may name what the file holds, of which unprintable characters become "?".
    """

    def __init__(self, path: object, problem: str) -> None:
        self.path, self.problem = path, "".join(letter if letter.isprintable() else "?" for letter in problem)
        super().__init__(path, self.problem)

    def __str__(self) -> str:
        """Return one line with the file and the problem."""
        return f"cannot read the checkpoint {self.path}: {self.problem}"


class CheckpointFiles(TorchCheckpointIO):
    """Write and read a trainer's checkpoints with digests, atomically, and never execute code on loading.

    For `Trainer(plugins=[CheckpointFiles()])`. Checkpoints at URLs (s3://, gs://) go Lightning's way; their digests are
    written and checked all the same.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Make values plain, seal a checkpoint and write it.

        Raises:
            OSError: If it cannot be written; an older file at the path is as it was.
            TypeError: If there are storage options, which no file has.
        """
        checkpoint.update(plain(checkpoint))
        seal(checkpoint)
        local = local_path(path)
        if local is None or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            local.parent.mkdir(parents=True, exist_ok=True)
            write_checkpoint(checkpoint, local)

    def load_checkpoint(
        self, path: str | Path, map_location: object = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint to the CPU, with `weights_only=True` whatever is asked for.

        Raises:
            CheckpointError: If it is not an intact checkpoint of hierlit.
            FileNotFoundError: If it does not exist.
        """
        local = local_path(path)
        if local is not None:
            return read_checkpoint(local)
        checkpoint = super().load_checkpoint(path, lambda storage, _: storage, weights_only=True)
        if problem := contents_problem(checkpoint):
            raise CheckpointError(path, problem)
        return checkpoint


def plain(value: Any) -> Any:
    """Return a value with Python's own in place of NumPy's and pandas' numbers and lists, and texts for paths."""
    if isinstance(value, PurePath):
        return str(value)
    if type(value) is dict:
        return {plain(name): plain(each) for name, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    return plain(value.tolist()) if not isinstance(value, Tensor) and hasattr(value, "tolist") else value


def local_path(path: str | Path) -> Path | None:
    """Return the file that a path or a URL means, or None if it is not on this machine."""
    filesystem, name = url_to_fs(str(path))
    return Path(name) if isinstance(filesystem, LocalFileSystem) else None


def write_checkpoint(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint to a file, which until then stays as it is.

    Raises:
        OSError: One line naming the file, its size and the reason.
    """
    replace_file(Path(path), lambda sink: torch.save(checkpoint, sink))  # type: ignore[arg-type]


def read_checkpoint(path: str | Path, mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint to the CPU and check that it is one of hierlit, to the last bit as it was written.

    Args:
        path: The file.
        mmap: Whether tensors are to be read from the file when they are needed; it must not change as long as they are.

    Raises:
        CheckpointError: If it is truncated, would execute code, is damaged, carries no digests, or is not hierlit's.
        OSError: If the file cannot be read.
    """
    archive = is_archive(Path(path))
    broken = broken_records(Path(path)) if archive else []
    crc = f"damaged: record {broken[0]} does not fit its CRC-32" if broken else ""
    if not all(re.fullmatch(r"[^/]+/data/\d+", name) for name in broken):  # others than the bytes of tensors
        raise CheckpointError(path, crc)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and archive)
        problem = (contents_problem(checkpoint) or crc) if archive else NO_CHECKPOINT
    except UnpicklingError as error:
        problem = unpickling_problem(error)
    except Exception as error:
        raise_if_reading_failed(error)
        problem = crc or NO_CHECKPOINT
    if problem:
        raise CheckpointError(path, problem)
    return checkpoint  # type: ignore[no-any-return]


def contents_problem(checkpoint: Any) -> str:
    """Return why what a file holds is not a checkpoint to resume from, or nothing."""
    if problem := origin_problem(checkpoint):
        return problem
    problem = damage(checkpoint)
    return f"damaged: {problem}" if problem and KEY in checkpoint else problem


def origin_problem(checkpoint: object) -> str:
    """Return why what a file holds was not saved by this hierlit, or nothing."""
    sizes = checkpoint.get("sizes") if isinstance(checkpoint, dict) else None
    if not isinstance(sizes, dict):
        return "not saved by hierlit"
    return OLD if "activation" in sizes else ""


def unpickling_problem(error: UnpicklingError) -> str:
    """Return why torch would not unpickle a file."""
    asked_for = re.search(r"GLOBAL ([\w.]{1,200})", str(error))
    return f"it would execute code: its pickle asks for {asked_for[1]}" if asked_for else NO_CHECKPOINT


def raise_if_reading_failed(error: Exception) -> None:
    """Raise an error of the disk again; one of a seek to where a damaged file points is the file's."""
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        raise error


def is_archive(path: Path) -> bool:
    """Return whether a file begins as torch's archives do; torch takes any other for a bare pickle."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def broken_records(path: Path) -> list[str]:
    """Return records of a torch archive that do not fit their checksums, in the archive's order.

    Raises:
        OSError: If the file cannot be read.
        CheckpointError: If the archive's table of contents is damaged.
    """
    try:
        with ZipFile(path) as archive:
            return [record.filename for record in archive.infolist() if not is_intact(archive, record)]
    except Exception as error:
        raise_if_reading_failed(error)
        raise CheckpointError(path, NO_CHECKPOINT) from error


def is_intact(archive: ZipFile, record: ZipInfo) -> bool:
    """Return whether a record is stored as torch stores it, uncompressed, and fits its CRC-32."""
    if record.compress_type != ZIP_STORED or record.compress_size != record.file_size:
        return False
    try:
        with archive.open(record) as content:
            while content.read(CHUNK):
                pass
    except (BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError):
        return False
    return True


def find_checkpoint(path: str, root: Path, logs: Iterable[Path] = ()) -> Path:
    """Return the checkpoint at a path, or for `last` the newest one of a run that can be read.

    Args:
        path: A file, or `last`.
        root: The folder below which Lightning's loggers write by default.
        logs: Folders that others write to.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If the one named cannot be read.
    """
    if path != "last":
        if not Path(path).is_file():
            raise FileNotFoundError(f"ckpt_path must be a checkpoint file or `last`, got {path}: no such file")
        if problem := reading_problem(Path(path)):
            raise ValueError(f"ckpt_path must be a readable checkpoint, got {path}: {problem}")
        return Path(path)
    found = [*(root / LOGS).rglob("*.ckpt"), *(root / "checkpoints").glob("*.ckpt")]
    for folder in logs:
        found += [path for depth in ("", "*/", "*/*/") for path in folder.glob(f"{depth}checkpoints/*.ckpt")]
    if checkpoint := newest_readable(found):
        return checkpoint
    places = ", ".join(str(folder) for folder in (root / LOGS, *logs))
    raise FileNotFoundError(
        f"ckpt_path is `last`, but there is no readable checkpoint below {places}: fit a model first"
    )


def find_requeued(root: Path, log: Path) -> Path | None:
    """Return the checkpoint from which a job that SLURM has requeued resumes: the newest that can be read.

    Args:
        root: The folder in which Lightning saves a job that is to be requeued.
        log: The job's log folder.

    Returns:
        None if no job was saved so.

    Raises:
        FileNotFoundError: If one was, but no checkpoint can be read.
    """
    saved = [*root.glob(f"{REQUEUED}*.ckpt")]
    if saved and (checkpoint := newest_readable([*saved, *log.glob("checkpoints/*.ckpt")])):
        return checkpoint
    if saved:
        raise FileNotFoundError(f"no checkpoint of the requeued job in {root} and {log} can be read: remove {saved[0]}")
    return None


def newest_readable(checkpoints: Iterable[Path]) -> Path | None:
    """Return the newest of some checkpoints that can be read, if one can; warns of those that cannot."""
    for found in sorted(set(checkpoints), key=lambda path: (path.stat().st_mtime_ns, str(path)), reverse=True):
        if not (problem := reading_problem(found)):
            return found
        rank_zero_warn(f"skipping the checkpoint {found}, which cannot be read: {problem}")
    return None


def reading_problem(path: Path) -> str:
    """Return why a checkpoint cannot be read, or nothing."""
    try:
        read_checkpoint(path, mmap=True)
    except CheckpointError as error:
        return error.problem
    except OSError as error:
        return error.strerror or str(error)
    return ""
