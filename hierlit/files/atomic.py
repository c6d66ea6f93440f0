"""Files that are either whole or not there: written beside the place they are for, then moved into it."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class Sink:
    """A binary file to write to that keeps the first error, for writers that turn an OSError into something else.

    Attributes:
        size: Bytes given to `write`, those after an error included.
        error: What went wrong, or None.
    """

    def __init__(self, write: Callable[[bytes | memoryview], object]) -> None:
        self._write = write
        self.size = 0
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Write bytes, unless something has gone wrong before."""
        length = memoryview(data).nbytes
        self.size += length
        if self.error is None:
            try:
                self._write(data)
            except OSError as error:
                self.error = error
        return length

    def flush(self) -> None:
        """Do nothing: `replace_file` flushes what it writes once, at the end."""


def replace_file(path: Path, fill: Callable[[Sink], object]) -> None:
    """Write a file; one that is there already stays as it is until the new one is complete and on the disk.

    Until then its name ends in `.part`; a process killed while writing leaves that behind, an error does not.

    Args:
        path: The file.
        fill: Writes its bytes to a sink.

    Raises:
        OSError: One line naming the file, the bytes to write and the reason, with the reason's `errno`.
    """
    part = path.with_name(f"{path.name}.part")
    size = 0
    try:
        with part.open("wb") as file:
            sink = Sink(file.write)
            fill(sink)
            size = sink.size
            if sink.error is not None:
                raise sink.error
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        remove(part)
        what = f"{path} ({size:,} bytes)" if size else str(path)
        raise OSError(error.errno, f"cannot write {what}: {error.strerror}") from error
    except BaseException:
        remove(part)
        raise


def replace_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8; see `replace_file`."""
    replace_file(path, lambda sink: sink.write(text.encode()))


def reserve(path: Path, size: int) -> None:
    """Take disk space as a file of `size` bytes, where the system can.

    Raises:
        OSError: One line naming the file, its size and the reason; no file is left.
    """
    try:
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        remove(path)
        raise OSError(error.errno, f"cannot reserve {size:,} bytes as {path}: {error.strerror}") from error


def remove(part: Path) -> None:
    """Remove a file if it can be removed."""
    with suppress(OSError):
        part.unlink(missing_ok=True)
